//! Large replies are passed on while they come: what is held of one is bounded, however long it is.
//!
//! A reply that began to be passed on cannot be taken back. If its server fails in the middle of it, its
//! client is closed: it cannot be told otherwise.

use super::engine::Engine;
use super::link::{LinkId, NOBODY, Pending, Purpose, WHOLE};
use crate::wire::resp::reply::{self, Kind};

/// Replies up to this are held until they are whole, so that they can be asked for elsewhere.
pub(super) const PASSED_BYTES: usize = 1 << 20;
/// Bytes that are passed on in one write.
const WRITE_BYTES: usize = 256 << 10;

impl Engine {
    /// How many of the bytes at the start of a reply that has not ended, `count` of which may be passed
    /// on, are passed on now.
    pub fn pass(&mut self, at: LinkId, bytes: &[u8], count: usize) -> usize {
        let is_passing = self.links.get(at).is_some_and(|link| link.is_passing);
        if !is_passing {
            let is_too_long = bytes.len() > self.settings.listener.output_bytes_max;
            if bytes.len() < PASSED_BYTES || !(self.can_pass(at, bytes) || is_too_long) {
                return 0;
            }
            if !self.can_pass(at, bytes) {
                self.refuse_reply(at);
            }
        }
        let Some(link) = self.links.get_mut(at) else {
            return 0;
        };
        link.is_passing = true;
        let Some(pending) = link.pendings.front().copied() else {
            return 0;
        };
        if self.is_wanted(&pending) {
            let to = pending.client as usize;
            if let Some(client) = self.clients.get_mut(to) {
                client.output.extend_from_slice(&bytes[..count]);
                let is_much = client.output.len() > WRITE_BYTES;
                self.touch_client(to);
                if is_much {
                    self.flush_client(to);
                }
            }
        }
        count
    }

    /// Whether what comes is for one client alone, whose turn it is, and needs no look at its end.
    fn can_pass(&self, at: LinkId, bytes: &[u8]) -> bool {
        let Some(link) = self.links.get(at).filter(|link| link.is_ready()) else {
            return false;
        };
        let Some(pending) = link.pendings.front() else {
            return false;
        };
        let is_confirmed_later = self.settings.is_sync && link.purpose == Purpose::Writer;
        if link.purpose == Purpose::Listening
            || is_confirmed_later
            || pending.replies > 1
            || reply::kind(bytes) != Kind::Value
            || self.is_doubtful(at)
        {
            return false;
        }
        if !self.is_wanted(pending) {
            return true;
        }
        let client = self.clients.get(pending.client as usize);
        pending.part == WHOLE && client.is_some_and(|client| client.is_next(pending.number))
    }

    /// A reply that is longer than what may wait for a client is not taken; its bytes are passed over.
    fn refuse_reply(&mut self, at: LinkId) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let Some(pending) = link.pendings.front_mut() else {
            return;
        };
        let told = *pending;
        pending.client = NOBODY;
        self.tally.replies_too_long += 1;
        self.fail(
            at,
            &told,
            "ERR lb: the answer is longer than output_bytes_max",
        );
    }

    /// Whether somebody still waits for the answer.
    pub fn is_wanted(&self, pending: &Pending) -> bool {
        let client = self.clients.get(pending.client as usize);
        pending.client != NOBODY && client.is_some_and(|c| c.generation == pending.generation)
    }

    /// The rest of a reply that is being passed on will not come.
    pub fn cut_short(&mut self, pending: &Pending) {
        if self.is_wanted(pending) {
            self.tally.replies_cut += 1;
            self.drop_client(pending.client as usize);
        }
    }
}
