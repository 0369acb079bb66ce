//! `during_failover = "strict"`: an answer to a read counts only while the authority vouches for who gave
//! it. An answer that came too late for that is thrown away, and the read asked again when somebody is
//! vouched for.

use std::sync::atomic::Ordering;

use super::engine::Engine;
use super::link::{LinkId, Pending, Purpose};
use crate::config::DuringFailover;

/// A read whose answer did not count.
pub(super) struct Doubtful {
    server: usize,
    is_resp3: bool,
    pending: Pending,
    command: Vec<u8>,
}

impl Engine {
    /// Whether the server is the one for all that is known now.
    pub fn is_vouched(&self, server: usize) -> bool {
        let server = self.view.servers.get(server);
        server.is_some_and(|s| s.vouched_until_ms.load(Ordering::Relaxed) > self.now_ms)
    }

    /// Whether the answer that comes next on a connection may be of a server that others have left. In
    /// `sync` the copy itself tells, by confirming.
    pub fn is_doubtful(&self, at: LinkId) -> bool {
        if self.settings.is_sync || self.settings.cache.during_failover != DuringFailover::Strict {
            return false;
        }
        let Some(link) = self.links.get(at) else {
            return false;
        };
        let is_read = link.pendings.front().is_some_and(|pending| pending.is_read);
        is_read && link.purpose == Purpose::Writer && !self.is_vouched(link.server)
    }

    pub fn ask_again_when_vouched(&mut self, at: LinkId) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let (server, is_resp3) = (link.server, link.is_resp3);
        let command = link.with_bytes().next().map(|(_, bytes)| bytes.to_vec());
        if let (Some(pending), Some(command)) = (link.answered(), command) {
            self.tally.lease_waits += 1;
            self.doubtful.push(Doubtful {
                server,
                is_resp3,
                pending,
                command,
            });
        }
    }

    /// Asks again what can be asked, and gives up what has waited too long.
    pub fn tend_doubtful(&mut self) {
        let patience = self.settings.cache.failover_timeout.as_millis() as u64;
        for doubtful in std::mem::take(&mut self.doubtful) {
            let waited = self.now_ms.saturating_sub(doubtful.pending.since_ms);
            if waited >= patience {
                self.tally.commands_timed_out += 1;
                let text = "ERR lb: nobody vouched for the server of this key in time";
                self.fail(usize::MAX, &doubtful.pending, text);
            } else if self.is_vouched(doubtful.server)
                && let Some(lane) = self.lane(doubtful.server, Purpose::Writer, doubtful.is_resp3)
            {
                if let Some(link) = self.links.get_mut(lane) {
                    link.push(doubtful.pending, |out| {
                        out.extend_from_slice(&doubtful.command);
                    });
                }
                self.touch_link(lane);
            } else {
                self.doubtful.push(doubtful);
            }
        }
    }
}
