//! What is done with the client's next segment, and by which server.

use std::task::Context;
use std::time::Instant;

use super::rewrite::Message;
use super::scan::Scan;
use super::{End, Mode, Session, Step};
use crate::config::ReadRoute;
use crate::failover::Reads;
use crate::logic::postgres::picture::{self, Picture};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, BadLength, HEADER_BYTES};
use crate::wire::postgres::write;

/// After so many reads that no standby could do, the session's go to the primary.
const SETTINGS_REFUSED_MAX: u32 = 3;

impl Session {
    /// Deals with what the client sent, as far as that goes without waiting for others.
    pub(super) fn take_input(&mut self, cx: &mut Context<'_>) -> Result<Option<Step>, End> {
        loop {
            self.is_input_due = false;
            self.drop_unwanted();
            if let Mode::Relay(_) = self.mode {
                self.relay_input(cx)?;
                return Ok(None);
            }
            if self.input.is_empty() || !self.may_take() {
                return Ok(None);
            }
            if self.is_skipping {
                if !self.skip_to_sync()? {
                    return Ok(None);
                }
                continue;
            }
            if let Mode::Aborted(_) = self.mode {
                if !self.take_aborted()? {
                    return Ok(None);
                }
                continue;
            }
            let input = std::mem::take(&mut self.input);
            let scan = self.scan(&input);
            self.input = input;
            match scan.map_err(violation)? {
                Scan::Incomplete => return Ok(None),
                Scan::Idle(tag) => {
                    if !self.take_idle(tag)? {
                        return Ok(None);
                    }
                }
                Scan::Read(_) | Scan::Other if !self.turns_to_shard()? => {}
                Scan::Read(bytes) if !self.is_for_primary => return self.read(cx, bytes),
                Scan::Read(_) | Scan::Other => {
                    if self.take_own()? {
                        continue;
                    }
                    return self.write(cx);
                }
            }
        }
    }

    /// Drops the rest of a message whose server was lost in the middle of it.
    fn drop_unwanted(&mut self) {
        let count = self.unwanted.min(self.input.len());
        self.unwanted -= count;
        buffer::consume(&mut self.input, count);
    }

    /// A message that needs no server, while there is nothing on its way; `false` if it is not whole.
    fn take_idle(&mut self, tag: u8) -> Result<bool, End> {
        let Some(header) = frame::header(&self.input).map_err(violation)? else {
            return Ok(false);
        };
        if self.input.len() < header.total {
            if header.total <= self.worker.input_bytes_max() {
                self.is_input_due = false;
                return Ok(false);
            }
            let what = "a message that belongs to no statement is too long";
            return Err(End::Refused(PgError::fatal(code::PROTOCOL_VIOLATION, what)));
        }
        match tag {
            b'X' => self.is_leaving = true,
            b'S' => {
                let mut ready = Vec::new();
                write::ready(&mut ready, b'I');
                buffer::append(&mut self.to_client, &ready);
            }
            // A Flush of nothing, or the rest of a COPY that failed.
            _ => {}
        }
        buffer::consume(&mut self.input, header.total);
        Ok(true)
    }

    /// Does what only this session can do: forget a prepared statement.
    fn take_own(&mut self) -> Result<bool, End> {
        let Some(header) = frame::header(&self.input).map_err(violation)? else {
            return Ok(false);
        };
        if header.tag != b'Q' || self.input.len() < header.total {
            return Ok(false);
        }
        let input = std::mem::take(&mut self.input);
        let body = &input[HEADER_BYTES..header.total];
        let message = Message {
            header,
            body,
            at: 0,
        };
        let is_done = self.deallocate(message, b'I');
        self.input = input;
        if is_done {
            buffer::consume(&mut self.input, header.total);
        }
        Ok(is_done)
    }

    fn read(&mut self, cx: &mut Context<'_>, bytes: usize) -> Result<Option<Step>, End> {
        let view = self.who.cluster.view();
        if self.refuses_unknown_position(&view)? {
            return Ok(None);
        }
        if std::mem::take(&mut self.must_wait) {
            return self.wait();
        }
        let server = match self.reader(&view) {
            Reader::Is(server) => server,
            Reader::IsAwaited => return self.wait(),
            Reader::IsNowhere => {
                self.refuse_lost_writes()?;
                return Ok(None);
            }
        };
        if !self.is_prepared(server) {
            return Ok(Some(Step::Prepare {
                server,
                is_read: true,
            }));
        }
        self.hold(cx, server, bytes)?;
        Ok(None)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<Option<Step>, End> {
        let view = self.who.cluster.view();
        if self.refuses_unknown_position(&view)? {
            return Ok(None);
        }
        if std::mem::take(&mut self.must_wait) {
            return self.wait();
        }
        let server = match (self.pinned, view.primary(self.shard)) {
            // What it keeps to is there or nowhere.
            (Some(pinned), _) if self.upstreams[pinned].is_some() => pinned,
            (Some(_), _) => return Err(End::Refused(super::failed::state_lost())),
            (None, Ok(primary)) => primary,
            (None, Err(_)) => return self.wait(),
        };
        if !self.is_prepared(server) {
            return Ok(Some(Step::Prepare {
                server,
                is_read: false,
            }));
        }
        self.is_for_primary = false;
        self.begin_relay(server);
        self.relay_input(cx)?;
        Ok(None)
    }

    fn wait(&mut self) -> Result<Option<Step>, End> {
        self.waits_since.get_or_insert_with(Instant::now);
        Ok(Some(Step::Turn))
    }

    /// Whether a server's connection is there, agrees with the session, and is free.
    pub(super) fn is_prepared(&self, server: usize) -> bool {
        self.upstreams[server]
            .as_ref()
            .is_some_and(|upstream| upstream.settings == self.settings && !super::owes(upstream))
    }

    /// Whether only the primary can serve the session's reads now.
    pub(super) fn must_read_from_primary(&self) -> bool {
        self.reads_from_primary
            || self.settings_refused >= SETTINGS_REFUSED_MAX
            || self.floors[self.shard].is_untold()
    }

    /// Who answers a read: a standby that has what this session wrote, else the primary.
    fn reader(&self, view: &Picture) -> Reader {
        if let Some(pinned) = self.pinned {
            let is_there = self.upstreams[pinned].is_some();
            return if is_there {
                Reader::Is(pinned)
            } else {
                Reader::IsAwaited
            };
        }
        if self.must_read_from_primary() || self.worker.route() == ReadRoute::Primary {
            let primary = view.primary(self.shard);
            return primary.map_or(Reader::IsAwaited, Reader::Is);
        }
        let now = Instant::now();
        let mut order = self.worker.order.borrow_mut();
        let (shard, floor) = (picture::id(self.shard), self.floors[self.shard].of_reads());
        let reads = view
            .view()
            .reads(shard, &floor, self.me.id.into(), now, &mut order);
        match reads {
            Reads::Lost => Reader::IsNowhere,
            Reads::Wait => Reader::IsAwaited,
            Reads::Some => {
                let able = order.iter().map(|server| usize::from(server.0));
                let mut able =
                    able.filter(|&server| !self.worker.is_avoided(self.who.position, server, now));
                // Who has yet to answer what another answered is left in peace, if there is anybody else.
                let first = able.next();
                let free = first.filter(|&server| !self.is_owed(server));
                let free = free.or_else(|| able.find(|&server| !self.is_owed(server)));
                free.or(first).map_or(Reader::IsAwaited, Reader::Is)
            }
        }
    }
}

/// Who answers a read.
enum Reader {
    Is(usize),
    /// Nobody yet.
    IsAwaited,
    /// Nobody ever: what the session has seen is in nobody's history any more.
    IsNowhere,
}

pub(super) fn violation(error: BadLength) -> End {
    End::Refused(PgError::fatal(code::PROTOCOL_VIOLATION, error.to_string()))
}
