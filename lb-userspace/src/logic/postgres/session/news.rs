//! What servers say of their own accord: positions of earlier writes, notifications, their end. And
//! what those answer late that were asked together with a faster one.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::{End, Mode, Session};
use crate::logic::postgres::pool::Upstream;
use crate::wire::postgres::error::PgError;
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::link;

impl Session {
    /// Reads from every connection on which nothing is on its way.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let active = match &self.mode {
            Mode::Held(held) => Some(held.server),
            Mode::Relay(relay) => Some(relay.server),
            Mode::Rest | Mode::Aborted(_) => None,
        };
        let second = match &self.mode {
            Mode::Held(held) => held.second,
            _ => None,
        };
        let mut has_moved = false;
        for server in 0..self.upstreams.len() {
            if Some(server) == active || Some(server) == second {
                continue;
            }
            let Some(mut upstream) = self.upstreams[server].take() else {
                continue;
            };
            match self.poll_one(cx, &mut upstream)? {
                Some(true) => has_moved = true,
                Some(false) => {}
                None => {
                    drop(upstream);
                    self.who.cluster.servers[server].counts.lost.add();
                    self.floors[self.who.shards[server]].lost_upstream(server);
                    if self.pinned == Some(server) {
                        return Err(End::Refused(super::failed::state_lost()));
                    }
                    has_moved = true;
                    continue;
                }
            }
            self.upstreams[server] = Some(upstream);
        }
        Ok(has_moved)
    }

    /// Whether something came; `None` if the connection ends.
    fn poll_one(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
    ) -> Result<Option<bool>, End> {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let count = match upstream.stream.poll_into(cx, &mut scratch.read) {
            Poll::Ready(Ok(count)) if count > 0 => count,
            Poll::Ready(_) => return Ok(None),
            Poll::Pending => return Ok(Some(false)),
        };
        let mut bytes = std::mem::take(&mut upstream.partial);
        bytes.extend_from_slice(&scratch.read[..count]);
        let mut at = 0;
        if upstream.passing > 0 {
            at = upstream.passing.min(bytes.len());
            upstream.passing -= at;
        }
        while let Ok(Some(header)) = frame::header(&bytes[at..]) {
            let Some(message) = bytes.get(at..at + header.total) else {
                if super::owes(upstream) && header.tag == b'D' {
                    upstream.passing = at + header.total - bytes.len();
                    at = bytes.len();
                }
                break;
            };
            let body = &message[HEADER_BYTES..];
            match header.tag {
                link::TAG => {
                    self.floors[self.who.shards[upstream.tie.server]].take_position(upstream, body);
                }
                tag if super::owes(upstream) && tag != b'S' && tag != b'N' => {
                    if !forget(upstream, tag, body) {
                        return Ok(None);
                    }
                }
                b'S' => {
                    upstream.set_parameter(body);
                    if self.pinned == Some(upstream.tie.server) {
                        self.tell(cx, message)?;
                    }
                }
                // Of a server that the session keeps to.
                b'A' | b'N' if self.pinned == Some(upstream.tie.server) => {
                    self.tell(cx, message)?;
                }
                b'N' => {}
                _ => return Ok(None),
            }
            at += header.total;
        }
        bytes.drain(..at);
        if bytes.len() > super::UNREAD_BYTES_MAX {
            return Ok(None);
        }
        upstream.partial = bytes;
        Ok(Some(true))
    }
}

/// A message of an answer that another server has given already; `false` if the server ends.
fn forget(upstream: &mut Upstream, tag: u8, body: &[u8]) -> bool {
    while upstream.answers.own().is_some() {}
    match tag {
        b'E' => {
            let error = PgError::read(body);
            if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
                return false;
            }
            upstream.answers.fail(&mut upstream.prepared);
        }
        b'Z' => {
            let state = body.first().copied().unwrap_or(b'I');
            upstream.answers.ready(state, &mut upstream.prepared);
            upstream.readies += 1;
        }
        tag => {
            upstream.answers.complete(tag);
        }
    }
    true
}
