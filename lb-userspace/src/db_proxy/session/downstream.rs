//! The server's messages on their way to the client: which of them answer us, what they say of the
//! session's state, and when the server is free.

use super::{End, Session};
use crate::db_proxy::pool::Server;
use crate::upstream::postgres::{Awaited, Fate};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::write;
use crate::wire::splice::Splice;

/// Messages of the server that are looked at are never longer, whatever it says.
const LOOKED_AT_BYTES_MAX: usize = 64 << 10;

impl Session {
    /// Deals with what came from the server; returns how much of it the client gets now.
    pub(super) fn take_server_bytes(
        &mut self,
        server: &mut Server,
        bytes: &[u8],
        splice: &mut Splice<'_>,
    ) -> Result<usize, End> {
        let mut at = server.passing.min(bytes.len());
        server.passing -= at;
        while let Some(header) = frame::header(&bytes[at..]).map_err(lost)? {
            let end = at + header.total;
            if end > bytes.len() {
                // Of most messages it is enough to know that they pass.
                let is_looked_at = matches!(header.tag, b'C' | b'S' | b'Z' | b'E')
                    || server.answers.is_own_query();
                if is_looked_at && header.total <= LOOKED_AT_BYTES_MAX {
                    break;
                }
                self.take_tag(server, header.tag, &[])?;
                server.passing = end - bytes.len();
                at = bytes.len();
                break;
            }
            let body = &bytes[at + HEADER_BYTES..end];
            if self.take_tag(server, header.tag, body)? == Fate::Swallow {
                splice.cut(at, end);
            }
            at = end;
            while let Some(own) = server.answers.own() {
                splice.insert(at).extend_from_slice(match own {
                    Awaited::AnswerParse => write::PARSE_COMPLETE,
                    _ => write::CLOSE_COMPLETE,
                });
            }
        }
        Ok(at)
    }

    fn take_tag(&mut self, server: &mut Server, tag: u8, body: &[u8]) -> Result<Fate, End> {
        if server.answers.is_own_query() && !matches!(tag, b'N' | b'A' | b'S' | b'Z') {
            return self.take_own(tag, body);
        }
        match tag {
            b'D' | b'd' | b'N' | b'A' => return Ok(Fate::Pass),
            b'C' => self.command_complete(server, body),
            b'S' => server.set_parameter(body),
            b'E' => self.error(server, body),
            b'G' | b'W' => {
                server.answers.copy_in();
                // Its Sync may be ignored.
                self.awaits_reset = false;
            }
            b'Z' => return Ok(self.ready(server, body.first().copied().unwrap_or(b'I'))),
            _ => {}
        }
        Ok(server.answers.complete(tag))
    }

    /// An answer to a query of ours, which the client does not know of.
    fn take_own(&mut self, tag: u8, body: &[u8]) -> Result<Fate, End> {
        if tag != b'E' {
            return Ok(Fate::Swallow);
        }
        let error = PgError::read(body);
        let what = format!(
            "what this session was given at its login cannot be set again: {}",
            error.message
        );
        Err(End::Refused(PgError::fatal(&error.code, what)))
    }

    fn command_complete(&mut self, server: &mut Server, tag: &[u8]) {
        match tag {
            b"SET\0" if self.tracking.set() => {}
            b"RESET\0" if self.tracking.reset() => {}
            b"SET\0" | b"RESET\0" => self.pin("a SET or RESET that was not understood"),
            b"COMMIT\0" => self.keep_settings(server),
            b"ROLLBACK\0" => self.tracking.rolled_back(),
            b"LISTEN\0" | b"PREPARE\0" | b"LOAD\0" => self.pin("LISTEN, PREPARE or LOAD"),
            b"DEALLOCATE ALL\0" => self.forget_statements(server),
            b"DISCARD ALL\0" => {
                self.forget_statements(server);
                self.tracking.discard();
                self.is_pinned = false;
            }
            _ => {}
        }
    }

    fn forget_statements(&mut self, server: &mut Server) {
        self.names = None;
        self.unnamed_stamp = 0;
        server.prepared.clear();
        server.unnamed = 0;
    }

    fn error(&mut self, server: &mut Server, body: &[u8]) {
        let error = PgError::read(body);
        self.was_told |= matches!(error.severity.as_str(), "FATAL" | "PANIC");
        self.pool.stats.errors.add(1);
        self.tracking.failed();
        if error.code == code::FEATURE_NOT_SUPPORTED {
            // "cached plan must not change result type": other clients prepare it again, which
            // would not help as long as this server goes on with the old one.
            server.prepared.expire();
        }
        server.answers.fail(&mut server.prepared);
    }

    fn ready(&mut self, server: &mut Server, state: u8) -> Fate {
        server.answers.ready(state, &mut server.prepared);
        let owed = self.owed(server);
        if state == b'I' && self.tracking.has_failed() {
            self.tracking.drop_changes();
        } else if state == b'I' {
            self.keep_settings(server);
        }
        if !owed.is_empty() {
            // The client hears that it may go on when this is done.
            let mut query = Vec::new();
            write::query(&mut query, &owed);
            buffer::append(&mut self.to_server, &query);
            let own = Awaited::OwnQuery;
            server.answers.sent(own, &mut server.prepared);
            self.tracking.next();
            return Fate::Swallow;
        }
        if self.link.is_some() {
            self.segment_ended(state, server.answers.awaited.is_empty());
        }
        match state {
            b'I' => self.pool.stats.transaction(self.began),
            _ => {
                if self.tracking.is_ambiguous() {
                    self.pin("a setting before a savepoint that was rolled back to");
                }
            }
        }
        if server.answers.awaited.is_empty() {
            self.tracking.next();
            self.awaits_reset = false;
        } else {
            self.tracking.next_segment();
        }
        Fate::Pass
    }

    /// What was set in the transaction stays set.
    fn keep_settings(&mut self, server: &mut Server) {
        if let Some(changes) = self.tracking.take_changes() {
            let table = &self.proxy.settings;
            self.settings = changes.apply(table, &self.settings, &self.base);
            server.settings = changes.apply(table, &server.settings, &self.base);
        }
    }

    /// What gives settings that were reset on the server what the login gave: PostgreSQL would have
    /// gone back to that by itself. Not before everything that is on its way was answered.
    fn owed(&mut self, server: &Server) -> Vec<u8> {
        let is_in_the_middle = self.passing > 0 && !self.is_passing_unwanted;
        if !server.answers.awaited.is_empty() || is_in_the_middle {
            return Vec::new();
        }
        self.tracking.owed(&self.base)
    }
}

fn lost(error: frame::BadLength) -> End {
    tracing::error!(%error, "PostgreSQL sent something that is no message");
    End::ServerLost { was_told: false }
}
