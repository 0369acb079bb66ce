//! Everything that is not known to read only: the client's messages go to the primary as they come,
//! and its answers back, until it is idle again.
//!
//! What was sent first is kept until the server answers: a proxy may refuse it because its server is
//! the primary no more, and then nothing of it was done.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::failed::Ends;
use super::floor;
use super::held::answer_own;
use super::rewrite::{Message, Pass};
use super::{End, Mode, Session};
use crate::logic::postgres::pool::Upstream;
use crate::upstream::postgres::Fate;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::link::{self, Floor, FromLogic, Intent, Lsn};
use crate::wire::splice::Splice;

/// Messages of the server that are looked at are never longer, whatever it says.
const LOOKED_AT_BYTES_MAX: usize = 64 << 10;

/// What passes between a client and the primary.
#[derive(Debug)]
pub(super) struct Relay {
    pub server: usize,
    /// What the client sent, while the server answered nothing; for the case that it refuses.
    kept: Vec<u8>,
    /// `kept` is no more all that was sent, or the server has answered.
    is_kept_over: bool,
    /// Nothing was written to the server.
    pub is_untouched: bool,
    /// Something was sent that may commit.
    pub commits: bool,
    /// Something was sent that is run: without it nothing can have been written.
    pub runs: bool,
    /// What the last statement does to its transaction.
    pub ends: Ends,
    /// Since when its server does not answer, as far as that was looked at.
    pub hangs_since: Option<Instant>,
    /// How much of the client's message that is passing through is still to come.
    passing: usize,
    /// The proxy refused the first segment: what it says of it is left out.
    is_refused: bool,
    /// The answer, by its number, that says that the proxy refused a segment and the client was told.
    void: Option<u64>,
}

impl Relay {
    /// Whether no message of the client is cut off.
    pub const fn is_sent(&self) -> bool {
        self.passing == 0
    }
}

/// What the client is told of an error.
enum Told {
    AsIs,
    Nothing,
    Instead(PgError),
}

impl Session {
    /// From now on messages pass to and from this server.
    pub(super) fn begin_relay(&mut self, server: usize) {
        let cancels = self.upstreams[server]
            .as_ref()
            .map(|up| Rc::clone(&up.cancels));
        self.me.is_served_by(cancels.as_ref());
        self.who.cluster.servers[server].counts.writes.add();
        self.mode = Mode::Relay(Relay {
            server,
            kept: Vec::new(),
            is_kept_over: false,
            is_untouched: true,
            commits: false,
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
        let is_set = !self.floor.epoch.is_unknown();
        let (epoch, position) = if is_set {
            (self.floor.epoch, self.floor.position)
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
        let (is_refused, runs) = (relay.is_refused, relay.runs);
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
                self.floor.wrote(&upstream, attested);
            }
        }
        buffer::give_back(&mut kept);
        self.upstreams[server] = Some(upstream);
        self.is_input_due = !self.input.is_empty();
    }

    /// Deals with what came from the server; returns how much of it the client gets now, and the
    /// error by which the server ends the connection.
    fn take_server_bytes(
        &mut self,
        upstream: &mut Upstream,
        bytes: &[u8],
        splice: &mut Splice<'_>,
    ) -> Result<(usize, Option<PgError>), End> {
        let mut at = upstream.passing.min(bytes.len());
        upstream.passing -= at;
        while let Ok(Some(header)) = frame::header(&bytes[at..]) {
            let end = at + header.total;
            if end > bytes.len() {
                // Of most messages it is enough to know that they pass.
                let is_looked_at = matches!(header.tag, b'C' | b'S' | b'Z' | b'E' | link::TAG);
                if is_looked_at && header.total <= LOOKED_AT_BYTES_MAX {
                    break;
                }
                self.answered();
                upstream.answers.complete(header.tag);
                upstream.passing = end - bytes.len();
                at = bytes.len();
                break;
            }
            let body = &bytes[at + HEADER_BYTES..end];
            answer_own(upstream, splice, at);
            let is_left_out = match header.tag {
                b'D' | b'd' | b'A' => false,
                b'E' => {
                    let error = PgError::read(body);
                    if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
                        return Ok((at, Some(error)));
                    }
                    match self.error(upstream, &error) {
                        Told::AsIs => false,
                        Told::Nothing => true,
                        Told::Instead(error) => {
                            error.write(splice.insert(at));
                            true
                        }
                    }
                }
                b'Z' => self.ready(upstream, body.first().copied().unwrap_or(b'I')),
                link::TAG => {
                    self.floor.take_position(upstream, body);
                    true
                }
                tag => {
                    self.note(upstream, tag, body);
                    upstream.answers.complete(tag) == Fate::Swallow
                }
            };
            if !matches!(header.tag, b'E' | b'N' | b'S' | b'A' | link::TAG) {
                self.answered();
            }
            if is_left_out {
                splice.cut(at, end);
            }
            at = end;
        }
        Ok((at, None))
    }

    /// The server did something: what was sent is not to be sent again.
    fn answered(&mut self) {
        if let Mode::Relay(relay) = &mut self.mode
            && !relay.is_kept_over
            && !relay.is_refused
        {
            relay.is_kept_over = true;
            buffer::give_back(&mut relay.kept);
        }
    }

    /// An error that is no end of the connection.
    fn error(&mut self, upstream: &mut Upstream, error: &PgError) -> Told {
        let is_first = matches!(&self.mode, Mode::Relay(relay) if !relay.is_kept_over);
        if is_first && upstream.tie.is_linked {
            match error.code.as_str() {
                link::code::FLOOR_LOST => {
                    // Nothing of the segment was done: the client is told why, once.
                    self.who.cluster.counts.lost_writes.add();
                    self.floor = floor::Floor::default();
                    self.answered();
                    if let Mode::Relay(relay) = &mut self.mode {
                        relay.void = Some(upstream.readies + 1);
                    }
                    upstream.answers.fail(&mut upstream.prepared);
                    return Told::Instead(super::failed::writes_lost());
                }
                link::code::FLOOR_AHEAD | link::code::NOT_PRIMARY | "25006"
                    if is_refusal(error) =>
                {
                    if let Mode::Relay(relay) = &mut self.mode {
                        relay.is_refused = true;
                    }
                    upstream.answers.fail(&mut upstream.prepared);
                    return Told::Nothing;
                }
                _ => {}
            }
        }
        self.answered();
        self.tracking.failed();
        if error.code == code::FEATURE_NOT_SUPPORTED {
            // "cached plan must not change result type": it is to be prepared again.
            upstream.prepared.expire();
        }
        upstream.answers.fail(&mut upstream.prepared);
        Told::AsIs
    }

    /// ReadyForQuery; `true` if the client does not get it.
    fn ready(&mut self, upstream: &mut Upstream, state: u8) -> bool {
        upstream.answers.ready(state, &mut upstream.prepared);
        upstream.readies += 1;
        if state == b'I' {
            if self.tracking.has_failed() {
                self.tracking.drop_changes();
            } else {
                self.keep_settings(upstream);
            }
            if let Mode::Relay(relay) = &mut self.mode {
                relay.commits = !upstream.answers.awaited.is_empty() && relay.commits;
            }
        } else if self.tracking.is_ambiguous() {
            let why = "a setting before a savepoint that was rolled back to";
            self.pin(upstream.tie.server, why);
        }
        self.tracking.next();
        self.tracking.owes_nothing();
        matches!(&self.mode, Mode::Relay(relay) if relay.is_refused)
    }

    /// What other messages say of the session's state.
    fn note(&mut self, upstream: &mut Upstream, tag: u8, body: &[u8]) {
        match (tag, body) {
            (b'S', body) => {
                upstream.set_parameter(body);
                self.looks_at_encoding(upstream);
            }
            (b'G' | b'W', _) => upstream.answers.copy_in(),
            (b'C', b"SET\0") if self.tracking.set() => {}
            (b'C', b"RESET\0") if self.tracking.reset() => {}
            (b'C', b"SET\0" | b"RESET\0") => {
                self.pin(
                    upstream.tie.server,
                    "a SET or RESET that was not understood",
                );
            }
            (b'C', b"COMMIT\0") => self.keep_settings(upstream),
            (b'C', b"ROLLBACK\0") => self.tracking.rolled_back(),
            (b'C', b"LISTEN\0" | b"PREPARE\0" | b"LOAD\0" | b"DECLARE CURSOR\0") => {
                self.pin(upstream.tie.server, "LISTEN, PREPARE, LOAD or a cursor");
            }
            (b'C', b"DEALLOCATE ALL\0") => self.forget_statements(upstream),
            (b'C', b"DISCARD ALL\0") => {
                self.forget_statements(upstream);
                self.tracking.discard();
                self.settings = self.base.clone();
                upstream.settings = self.worker.pristine.clone();
                self.pinned = None;
            }
            _ => {}
        }
    }

    fn forget_statements(&mut self, upstream: &mut Upstream) {
        self.names = None;
        self.unnamed_stamp = crate::upstream::postgres::statements::stamp::NONE;
        upstream.prepared.clear();
    }

    /// What was set in the transaction stays set.
    fn keep_settings(&mut self, upstream: &mut Upstream) {
        if let Some(changes) = self.tracking.take_changes() {
            let table = &self.worker.settings;
            self.settings = changes.apply(table, &self.settings, &self.base);
            upstream.settings = changes.apply(table, &upstream.settings, &self.worker.pristine);
        }
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

/// Whether the proxy refused a segment before anything of it was done.
fn is_refusal(error: &PgError) -> bool {
    error.code != "25006" || error.message.starts_with("this server is fenced")
}
