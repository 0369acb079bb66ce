//! What the primary answers while the client's messages are relayed: which of it the client gets, what
//! it says of the session's state, and what the server is to be asked before the client goes on.

use super::held::answer_own;
use super::{End, Mode, Session};
use crate::logic::postgres::pool::Upstream;
use crate::upstream::postgres::Fate;
use crate::upstream::postgres::statements::stamp;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::link;
use crate::wire::splice::Splice;

/// Messages of the server that are looked at are never longer, whatever it says.
const LOOKED_AT_BYTES_MAX: usize = 64 << 10;

/// What the client is told of an error.
enum Told {
    AsIs,
    Nothing,
    Instead(PgError),
}

impl Session {
    /// Deals with what came from the server; returns how much of it the client gets now, and the
    /// error by which the server ends the connection.
    pub(super) fn take_server_bytes(
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
                let is_looked_at = matches!(
                    header.tag,
                    b'C' | b'S' | b'Z' | b'E' | b'G' | b'W' | link::TAG
                ) || upstream.answers.is_own_query();
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
                    self.floors[self.who.shards[upstream.tie.server]].take_position(upstream, body);
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
                    let error = self.forget_floor();
                    self.answered();
                    if let Mode::Relay(relay) = &mut self.mode {
                        relay.void = Some(upstream.readies + 1);
                    }
                    upstream.answers.fail(&mut upstream.prepared);
                    return Told::Instead(error);
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
        }
        let is_last = upstream.answers.awaited.is_empty();
        if let Mode::Relay(relay) = &mut self.mode {
            relay.commits &= !is_last;
            relay.rolls_back &= !is_last;
        }
        if state != b'I' && self.tracking.is_ambiguous() {
            let why = "a setting before a savepoint that was rolled back to";
            self.pin(upstream.tie.server, why);
        }
        self.tracking.next();
        // The connection's login gave what the client's did: a RESET goes back to the right value.
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
            (b'C', b"LISTEN\0" | b"PREPARE\0" | b"LOAD\0") => {
                self.pin(upstream.tie.server, "LISTEN, PREPARE or LOAD");
            }
            (b'C', b"DEALLOCATE ALL\0") => self.forget_statements(upstream),
            (b'C', b"DISCARD ALL\0") => {
                self.forget_statements(upstream);
                self.tracking.discard();
                self.pinned = None;
            }
            _ => {}
        }
    }

    fn forget_statements(&mut self, upstream: &mut Upstream) {
        self.names = None;
        self.unnamed_stamp = stamp::NONE;
        upstream.prepared.clear();
    }

    /// What was set in the transaction stays set.
    fn keep_settings(&mut self, upstream: &mut Upstream) {
        if let Some(changes) = self.tracking.take_changes() {
            let table = &self.worker.settings;
            self.settings = changes.apply(table, &self.settings, &self.who.base);
            upstream.settings = changes.apply(table, &upstream.settings, &self.who.base);
        }
    }
}

/// Whether the proxy refused a segment before anything of it was done.
fn is_refusal(error: &PgError) -> bool {
    error.code != "25006" || error.message.starts_with("this server is fenced")
}
