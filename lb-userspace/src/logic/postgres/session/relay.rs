//! Everything that is not known to read only: the client's messages go to the primary as they come,
//! and its answers back, until it is idle again.
//!
//! What was sent first is kept until the server answers: a proxy may refuse it because its server is
//! the primary no more, and then nothing of it was done.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::failed::Ends;
use super::floor::Reached;
use super::held::answer_own;
use super::rewrite::{Message, Pass};
use super::{End, Mode, Session};
use crate::logic::postgres::pool::Upstream;
use crate::wire::buffer;
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::link::{Floor, FromLogic, Intent, Lsn};
use crate::wire::splice::Splice;

/// What passes between a client and the primary.
#[derive(Debug)]
pub(super) struct Relay {
    pub server: usize,
    /// What the client sent, while the server answered nothing; for the case that it refuses.
    pub kept: Vec<u8>,
    /// `kept` is no more all that was sent, or the server has answered.
    pub is_kept_over: bool,
    /// Nothing was written to the server.
    pub is_untouched: bool,
    /// How far the server had come when the first segment was begun.
    pub behind: Reached,
    /// Something was sent that may commit.
    pub commits: bool,
    /// Something was sent that rolls back, and more may stand behind it.
    pub rolls_back: bool,
    /// Something was sent that is run: without it nothing can have been written.
    pub runs: bool,
    /// What the last statement does to its transaction.
    pub ends: Ends,
    /// Since when its server does not answer, as far as that was looked at.
    pub hangs_since: Option<Instant>,
    /// How much of the client's message that is passing through is still to come.
    pub passing: usize,
    /// The proxy refused the first segment: what it says of it is left out.
    pub is_refused: bool,
    /// The answer, by its number, that says that the proxy refused a segment and the client was told.
    pub void: Option<u64>,
}

impl Relay {
    /// Whether no message of the client is cut off.
    pub const fn is_sent(&self) -> bool {
        self.passing == 0
    }
}

impl Session {
    /// From now on messages pass to and from this server.
    pub(super) fn begin_relay(&mut self, server: usize) {
        let cancels = self.upstreams[server]
            .as_ref()
            .map(|up| Rc::clone(&up.cancels));
        self.me.is_served_by(cancels.as_ref());
        self.who.cluster.servers[server].counts.writes.add();
        let behind = self.who.cluster.view().reached(server);
        self.mode = Mode::Relay(Relay {
            server,
            kept: Vec::new(),
            is_kept_over: false,
            is_untouched: true,
            behind,
            commits: false,
            rolls_back: false,
            runs: false,
            ends: Ends::default(),
            hangs_since: None,
            passing: 0,
            is_refused: false,
            void: None,
        });
    }

    /// Passes on what the client sent.
    pub(super) fn relay_input(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let Mode::Relay(relay) = &self.mode else {
            return Ok(());
        };
        let server = relay.server;
        let is_first = relay.is_untouched;
        let Some(mut upstream) = self.upstreams[server].take() else {
            return Ok(());
        };
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let mut input = std::mem::take(&mut self.input);
        let mut splice = Splice::new(&input, &mut scratch.out);
        if is_first && upstream.tie.is_linked {
            self.announce(splice.insert(0));
        }
        let taken = self.take_client_bytes(&mut upstream, &input, &mut splice);
        let count = *taken.as_ref().unwrap_or(&0);
        self.keep_sent(&input[..count]);
        let bytes = splice.finish(count);
        let written = if bytes.is_empty() {
            0
        } else {
            match upstream.stream.poll_out(cx, bytes) {
                Poll::Ready(Ok(written)) => written,
                // What it said before it closed may still be read.
                Poll::Ready(Err(_)) => bytes.len(),
                Poll::Pending => 0,
            }
        };
        if written > 0
            && let Mode::Relay(relay) = &mut self.mode
        {
            relay.is_untouched = false;
        }
        buffer::append(&mut self.to_server, &bytes[written..]);
        buffer::consume(&mut input, count);
        self.input = input;
        taken?;
        // What no server answers is answered now, if it is its turn.
        let mut own = Vec::new();
        let mut splice = Splice::new(&[], &mut own);
        answer_own(&mut upstream, &mut splice, 0);
        let own = splice.finish(0).to_vec();
        self.settle(upstream);
        if own.is_empty() {
            return Ok(());
        }
        self.tell(cx, &own)
    }

    /// A write is only for a primary that is not older than what is known.
    fn announce(&self, out: &mut Vec<u8>) {
        let view = self.who.cluster.view();
        let is_set = !self.floors[self.shard].epoch.is_unknown();
        let (epoch, position) = if is_set {
            (
                self.floors[self.shard].epoch,
                self.floors[self.shard].position,
            )
        } else {
            (view.attested(self.shard).unwrap_or_default(), Lsn(0))
        };
        let floor = FromLogic::Floor(Floor {
            intent: Intent::Write,
            patience_ms: 0,
            epoch,
            position,
        });
        floor.write(out);
    }

    fn keep_sent(&mut self, bytes: &[u8]) {
        let most = self.worker.read_buffer();
        let Mode::Relay(relay) = &mut self.mode else {
            return;
        };
        if relay.is_kept_over {
            return;
        }
        if relay.kept.len() + bytes.len() > most {
            relay.is_kept_over = true;
            buffer::give_back(&mut relay.kept);
            return;
        }
        buffer::append(&mut relay.kept, bytes);
    }

    /// Looks at the client's messages on their way; returns how many bytes go on.
    fn take_client_bytes(
        &mut self,
        upstream: &mut Upstream,
        bytes: &[u8],
        splice: &mut Splice<'_>,
    ) -> Result<usize, End> {
        let mut at = 0;
        if let Mode::Relay(relay) = &mut self.mode {
            at = relay.passing.min(bytes.len());
            relay.passing -= at;
        }
        while !self.is_leaving
            && let Some(header) = frame::header(&bytes[at..]).map_err(super::route::violation)?
        {
            let end = bytes.len().min(at + header.total);
            let body = &bytes[at + HEADER_BYTES..end];
            let message = Message { header, body, at };
            if !message.is_enough()? {
                break;
            }
            let is_own = upstream.is_silent()
                && message.is_whole()
                && self.deallocate(message, upstream.answers.state);
            let pass = if is_own {
                Pass::Dropped
            } else {
                self.take_message(upstream, message, splice)?
            };
            if let Pass::Dropped = pass {
                splice.cut(at, end);
            }
            if let Mode::Relay(relay) = &mut self.mode {
                relay.runs |= matches!(header.tag, b'Q' | b'E' | b'F');
                relay.passing = at + header.total - end;
            }
            at = end;
        }
        Ok(at)
    }

    /// Reads what the server answers.
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Mode::Relay(relay) = &self.mode else {
            return Ok(false);
        };
        let server = relay.server;
        if !self.to_client.is_empty() && self.to_client.len() > super::UNREAD_BYTES_MAX {
            return Ok(false);
        }
        let Some(mut upstream) = self.upstreams[server].take() else {
            return Ok(false);
        };
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let scratch = &mut *scratch;
        let count = match upstream.stream.poll_into(cx, &mut scratch.read) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) => 0,
            Poll::Pending => {
                self.upstreams[server] = Some(upstream);
                return self.abandon_if_over(server);
            }
        };
        if count == 0 {
            self.relay_lost(upstream, "it closed the connection")?;
            return Ok(true);
        }
        let mut partial = std::mem::take(&mut upstream.partial);
        let bytes: &[u8] = if partial.is_empty() {
            &scratch.read[..count]
        } else {
            partial.extend_from_slice(&scratch.read[..count]);
            &partial
        };
        let mut splice = Splice::new(bytes, &mut scratch.out);
        let (taken, fatal) = self.take_server_bytes(&mut upstream, bytes, &mut splice)?;
        upstream.partial.extend_from_slice(&bytes[taken..]);
        let answer = splice.finish(taken);
        if !answer.is_empty() {
            self.tell(cx, answer)?;
        }
        match fatal {
            Some(error) => self.relay_lost(upstream, &error.message)?,
            None => self.settle(upstream),
        }
        Ok(true)
    }

    /// Keeps the server, or rests because everything is done.
    fn settle(&mut self, upstream: Box<Upstream>) {
        let server = upstream.tie.server;
        let Mode::Relay(relay) = &mut self.mode else {
            self.upstreams[server] = Some(upstream);
            return;
        };
        let is_done = upstream.is_idle() && relay.passing == 0 && self.to_server.is_empty();
        if !is_done {
            self.upstreams[server] = Some(upstream);
            return;
        }
        let (is_refused, runs, behind) = (relay.is_refused, relay.runs, relay.behind);
        let is_void = relay.void == Some(upstream.readies);
        let mut kept = std::mem::take(&mut relay.kept);
        self.mode = Mode::Rest;
        self.me.is_served_by(None);
        if is_refused {
            // Nothing of it was done: it waits for whoever is primary.
            self.tracking.next();
            self.must_wait = true;
            kept.extend_from_slice(&self.input);
            std::mem::swap(&mut self.input, &mut kept);
        } else {
            self.waits_since = None;
            if runs && !is_void {
                let attested = self.who.cluster.view().attested(self.shard);
                self.floors[self.shard].wrote(&upstream, attested, behind);
            }
        }
        buffer::give_back(&mut kept);
        self.upstreams[server] = Some(upstream);
        self.is_input_due = !self.input.is_empty();
    }

    /// What is needed to try the first segment again; `None` if the server did something of it.
    pub(super) fn take_kept(&mut self) -> Option<Vec<u8>> {
        match &mut self.mode {
            Mode::Relay(relay) if !relay.is_kept_over && relay.is_untouched => {
                Some(std::mem::take(&mut relay.kept))
            }
            _ => None,
        }
    }
}
