//! A read that must be asked again: the server that was asked will not answer it, or is lost. The client
//! sees nothing of that, unless it has a part of the answer.

use std::rc::Rc;
use std::time::Instant;

use super::{End, Mode, Session};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::{link, write};

/// Why another server must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no read after all.
    NoRead,
    /// A standby cannot do it in this session, or nobody can.
    Settings,
    /// Recovery was in its way, this time.
    Recovery,
    /// The server has not replayed enough.
    Behind,
    /// What the session saw is not there any more.
    Gone,
    /// The server is kept away from.
    Fenced,
}

impl Session {
    /// Another server answers instead; the client sees nothing of it.
    pub(super) fn refused(
        &mut self,
        server: usize,
        bytes: usize,
        refusal: Refusal,
    ) -> Result<(), End> {
        let counts = &self.who.cluster.servers[server].counts;
        let is_primary = self.who.cluster.view().primary(self.shard) == Ok(server);
        match refusal {
            Refusal::Gone if is_primary => return self.refuse_lost_writes(),
            Refusal::Behind | Refusal::Gone => {
                counts.behind.add();
                self.reads_from_primary = true;
                self.must_wait = is_primary;
            }
            Refusal::Fenced => {
                self.worker.avoid(self.who.position, server, Instant::now());
                self.must_wait = is_primary;
            }
            Refusal::NoRead => {
                counts.redirects.add();
                self.remember_writes(bytes);
                self.is_for_primary = true;
            }
            Refusal::Settings => {
                counts.redirects.add();
                self.settings_refused += 1;
                self.reads_from_primary = true;
                // "cached plan must not change result type" says so, too.
                if let Some(upstream) = &mut self.upstreams[server] {
                    upstream.prepared.expire();
                }
            }
            Refusal::Recovery => {
                counts.redirects.add();
                self.reads_from_primary = true;
            }
        }
        Ok(())
    }

    /// Statements that a standby refuses go to the primary from now on.
    fn remember_writes(&mut self, bytes: usize) {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Ok(Some(header)) = frame::header(&input[at..bytes]) {
            let body = &input[at + HEADER_BYTES..(at + header.total).min(bytes)];
            match header.tag {
                b'Q' => self.known.refuse(body.strip_suffix(b"\0").unwrap_or(body)),
                b'P' => {
                    if let Some(parse) = crate::wire::postgres::frontend::parse(body) {
                        self.known.refuse(parse.query);
                    }
                }
                b'B' => {
                    let bind = crate::wire::postgres::frontend::bind(body);
                    match bind.map(|bind| bind.statement) {
                        Some(b"") => self.unnamed_is_read = false,
                        Some(name) => {
                            if let Some(named) =
                                self.names.as_mut().and_then(|names| names.get_mut(name))
                            {
                                named.is_read = false;
                                self.known.refuse(named.statement.query());
                            }
                        }
                        None => {}
                    }
                }
                _ => {}
            }
            at = (at + header.total).min(bytes);
        }
        self.input = input;
    }

    /// A server is lost that was asked: the other one goes on, or another is asked, unless the client
    /// has a part of the answer.
    pub(super) fn copy_lost(
        &mut self,
        server: usize,
        is_cut: bool,
        is_closed: bool,
    ) -> Result<(), End> {
        let who = Rc::clone(&self.who);
        let counts = &who.cluster.servers[server].counts;
        counts.lost.add();
        self.floors[self.who.shards[server]].lost_upstream(server);
        if is_closed {
            // Until the picture says more, others are tried first.
            self.worker.avoid(who.position, server, Instant::now());
        }
        if self.pinned == Some(server) {
            return Err(End::Refused(super::failed::state_lost()));
        }
        buffer::give_back(&mut self.to_server);
        if let Mode::Held(held) = &mut self.mode
            && let Some(second) = held.second.take()
        {
            if server == held.server {
                held.server = second;
            }
            counts.repeats.add();
            return Ok(());
        }
        let Some(held) = self.let_go() else {
            return Ok(());
        };
        self.is_input_due = true;
        if !held.is_begun {
            counts.repeats.add();
            self.waits_since.get_or_insert_with(Instant::now);
            return Ok(());
        }
        who.cluster.counts.broken_off.add();
        let what = "the server was lost in the middle of its answer";
        if is_cut {
            // In the middle of a message: no word of ours would fit.
            return Err(End::Refused(PgError::fatal(code::CONNECTION_FAILURE, what)));
        }
        self.waits_since = None;
        buffer::consume(&mut self.input, held.bytes);
        let mut answer = Vec::new();
        PgError::error(code::CONNECTION_FAILURE, what).write(&mut answer);
        write::ready(&mut answer, b'I');
        buffer::append(&mut self.to_client, &answer);
        Ok(())
    }
}

/// Whether an error means that another server must answer. A standby has reasons of its own for
/// some errors, and the language of its messages is not known: the primary tells which were true.
pub(super) fn refusal(error: &PgError, is_standby: bool) -> Option<Refusal> {
    match error.code.as_str() {
        link::code::FLOOR_AHEAD => Some(Refusal::Behind),
        link::code::FLOOR_LOST => Some(Refusal::Gone),
        link::code::NOT_PRIMARY => Some(Refusal::Fenced),
        "25006" if error.message.starts_with("this server is fenced") => Some(Refusal::Fenced),
        "25006" | "55000" if is_standby => Some(Refusal::NoRead),
        // Serializable transactions, or what no server does.
        code::FEATURE_NOT_SUPPORTED if is_standby => Some(Refusal::Settings),
        // A conflict with recovery, or a deadlock with it.
        "40001" | "40P01" if is_standby => Some(Refusal::Recovery),
        _ => None,
    }
}
