//! A known read: it is asked of one server, and its answer is kept until it is complete. Until then
//! it can be asked again of another server, and the client sees nothing of that.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::again::{Refusal, refusal};
use super::rewrite::{Message, Pass};
use super::{End, Mode, Session};
use crate::logic::postgres::pool::Upstream;
use crate::upstream::postgres::{Awaited, Fate};
use crate::wire::buffer;
use crate::wire::postgres::error::PgError;
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::link::{self, Floor, FromLogic, Intent};
use crate::wire::postgres::write;
use crate::wire::splice::Splice;

/// How long a proxy may wait for its standby to have replayed the floor.
const PATIENCE_MS: u16 = 3;

/// A read that is on its way.
#[derive(Debug)]
pub(super) struct Held {
    pub server: usize,
    /// It was asked of this server, too.
    pub second: Option<usize>,
    /// It is that many bytes of `input`.
    pub bytes: usize,
    /// When it was sent.
    pub since: Instant,
    /// When a second copy is worth it; `None` once that was considered.
    pub late: Option<Instant>,
    /// What came of the answer.
    answer: Vec<u8>,
    /// The answer outgrew `read_buffer`: the client has a part of it.
    pub is_begun: bool,
    /// What the server said instead of an answer: all of this one is left out.
    refusal: Option<Refusal>,
}

impl Held {
    /// Whether nothing of an answer came yet.
    pub const fn is_unanswered(&self) -> bool {
        self.answer.is_empty() && !self.is_begun && self.refusal.is_none()
    }
}

/// What bytes of the server led to.
enum Outcome {
    /// More is to come.
    Open,
    Complete,
    /// The server ends.
    Lost,
}

impl Session {
    /// Asks a server for the read that `input` begins with.
    pub(super) fn hold(
        &mut self,
        cx: &mut Context<'_>,
        server: usize,
        bytes: usize,
    ) -> Result<(), End> {
        let mut unsent = std::mem::take(&mut self.to_server);
        self.ask(cx, server, bytes, &mut unsent)?;
        self.to_server = unsent;
        if let Some(upstream) = &self.upstreams[server] {
            self.me.is_served_by(Some(&upstream.cancels));
        }
        let since = Instant::now();
        let hedging = &self.worker.hedging;
        let late = hedging.begin(self.who.position, self.me.id, since);
        self.mode = Mode::Held(Held {
            server,
            second: None,
            bytes,
            since,
            late: Some(late),
            answer: Vec::new(),
            is_begun: false,
            refusal: None,
        });
        Ok(())
    }

    /// Asks another server as well; `false` if it does not take the question at once.
    pub(super) fn ask_also(
        &mut self,
        cx: &mut Context<'_>,
        server: usize,
        bytes: usize,
    ) -> Result<bool, End> {
        let mut unsent = Vec::new();
        self.ask(cx, server, bytes, &mut unsent)?;
        if unsent.is_empty() {
            return Ok(true);
        }
        buffer::give_back(&mut unsent);
        self.upstreams[server] = None;
        self.floors[self.who.shards[server]].lost_upstream(server);
        Ok(false)
    }

    /// Sends the read that `input` begins with; what the connection does not take now is appended to
    /// `unsent`.
    fn ask(
        &mut self,
        cx: &mut Context<'_>,
        server: usize,
        bytes: usize,
        unsent: &mut Vec<u8>,
    ) -> Result<(), End> {
        let Some(mut upstream) = self.upstreams[server].take() else {
            return Ok(());
        };
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let input = std::mem::take(&mut self.input);
        let mut splice = Splice::new(&input, &mut scratch.out);
        if upstream.tie.is_linked {
            let floor = FromLogic::Floor(Floor {
                intent: Intent::Read,
                patience_ms: PATIENCE_MS,
                epoch: self.floors[self.shard].epoch,
                position: self.floors[self.shard].position,
            });
            floor.write(splice.insert(0));
        }
        let taken = self.take_segment(&mut upstream, &input[..bytes], &mut splice);
        let sent = splice.finish(bytes);
        let written = match (&taken, upstream.stream.poll_out(cx, sent)) {
            (Err(_), _) => 0,
            (_, Poll::Ready(Ok(written))) => written,
            // What it said before it closed may still be read.
            (_, Poll::Ready(Err(_))) => sent.len(),
            (_, Poll::Pending) => 0,
        };
        buffer::append(unsent, &sent[written..]);
        self.input = input;
        self.upstreams[server] = Some(upstream);
        taken
    }

    fn take_segment(
        &mut self,
        upstream: &mut Upstream,
        segment: &[u8],
        splice: &mut Splice<'_>,
    ) -> Result<(), End> {
        let mut at = 0;
        while let Some(header) = frame::header(&segment[at..]).map_err(super::route::violation)? {
            let end = segment.len().min(at + header.total);
            let body = &segment[at + HEADER_BYTES..end];
            let message = Message { header, body, at };
            if let Pass::Dropped = self.take_message(upstream, message, splice)? {
                splice.cut(at, end);
            }
            at = end;
        }
        Ok(())
    }

    /// Reads what the server answers, or the two that were asked.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Mode::Held(held) = &self.mode else {
            return Ok(false);
        };
        if held.is_begun && self.to_client.len() > super::UNREAD_BYTES_MAX {
            return Ok(false);
        }
        let (server, second) = (held.server, held.second);
        if self.poll_copy(cx, server)? {
            return Ok(true);
        }
        match second {
            Some(second) if self.poll_copy(cx, second)? => Ok(true),
            _ => Ok(self.give_up_if_lost()? || self.hedge(cx)?),
        }
    }

    /// Reads what one server answers; `false` if nothing came.
    fn poll_copy(&mut self, cx: &mut Context<'_>, server: usize) -> Result<bool, End> {
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
                return Ok(false);
            }
        };
        if count == 0 {
            let is_cut = upstream.passing > 0;
            drop(upstream);
            self.copy_lost(server, is_cut, true)?;
            return Ok(true);
        }
        self.answers_first(server);
        let mut partial = std::mem::take(&mut upstream.partial);
        let bytes: &[u8] = if partial.is_empty() {
            &scratch.read[..count]
        } else {
            partial.extend_from_slice(&scratch.read[..count]);
            &partial
        };
        let mut splice = Splice::new(bytes, &mut scratch.out);
        let (taken, outcome) = self.take_answer(&mut upstream, bytes, &mut splice)?;
        upstream.partial.extend_from_slice(&bytes[taken..]);
        let answer = splice.finish(taken);
        match outcome {
            Outcome::Lost => {
                let is_cut = upstream.passing > 0;
                drop(upstream);
                self.copy_lost(server, is_cut, true)?;
            }
            Outcome::Open => {
                self.upstreams[server] = Some(upstream);
                self.keep(cx, answer)?;
            }
            Outcome::Complete => {
                self.upstreams[server] = Some(upstream);
                self.complete(cx, answer)?;
            }
        }
        Ok(true)
    }

    /// Deals with the server's messages; returns how much of them, and what came of it.
    fn take_answer(
        &mut self,
        upstream: &mut Upstream,
        bytes: &[u8],
        splice: &mut Splice<'_>,
    ) -> Result<(usize, Outcome), End> {
        let Mode::Held(held) = &mut self.mode else {
            return Ok((0, Outcome::Open));
        };
        let is_standby = self.who.cluster.view().is_standby(held.server);
        let mut at = upstream.passing.min(bytes.len());
        upstream.passing -= at;
        while let Ok(Some(header)) = frame::header(&bytes[at..]) {
            let end = at + header.total;
            if end > bytes.len() {
                // Of rows it is enough to know that they pass.
                if matches!(header.tag, b'D' | b'd' | b'T') && header.total > 8192 {
                    upstream.answers.complete(header.tag);
                    upstream.passing = end - bytes.len();
                    at = bytes.len();
                }
                break;
            }
            let body = &bytes[at + HEADER_BYTES..end];
            answer_own(upstream, splice, at);
            let mut is_left_out = held.refusal.is_some();
            match header.tag {
                b'D' | b'd' => {}
                b'E' => {
                    let error = PgError::read(body);
                    if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
                        tracing::debug!(%error, "a server ended while it read");
                        return Ok((at, Outcome::Lost));
                    }
                    if !held.is_begun && held.refusal.is_none() {
                        held.refusal = refusal(&error, is_standby);
                        is_left_out |= held.refusal.is_some();
                    }
                    upstream.answers.fail(&mut upstream.prepared);
                }
                b'Z' => {
                    let state = body.first().copied().unwrap_or(b'I');
                    upstream.answers.ready(state, &mut upstream.prepared);
                    upstream.readies += 1;
                    if is_left_out {
                        splice.cut(at, end);
                    }
                    return Ok((end, Outcome::Complete));
                }
                // A standby's own; the client knows the primary's.
                b'S' => {
                    upstream.set_parameter(body);
                    is_left_out = true;
                }
                link::TAG => {
                    self.floors[self.who.shards[upstream.tie.server]].take_position(upstream, body);
                    is_left_out = true;
                }
                tag => is_left_out |= upstream.answers.complete(tag) == Fate::Swallow,
            }
            if is_left_out {
                splice.cut(at, end);
            }
            at = end;
        }
        Ok((at, Outcome::Open))
    }

    /// Keeps a part of the answer; what outgrows `read_buffer` goes to the client.
    fn keep(&mut self, cx: &mut Context<'_>, part: &[u8]) -> Result<(), End> {
        let read_buffer = self.worker.read_buffer();
        let Mode::Held(held) = &mut self.mode else {
            return Ok(());
        };
        if held.refusal.is_some() {
            return Ok(());
        }
        if held.is_begun {
            return self.tell(cx, part);
        }
        buffer::append(&mut held.answer, part);
        if held.answer.len() > read_buffer {
            held.is_begun = true;
            let answer = std::mem::take(&mut held.answer);
            return self.tell(cx, &answer);
        }
        Ok(())
    }

    fn complete(&mut self, cx: &mut Context<'_>, last: &[u8]) -> Result<(), End> {
        let Some(held) = self.let_go() else {
            return Ok(());
        };
        let took = held.since.elapsed();
        self.worker.hedging.answered(self.who.position, took);
        self.is_input_due = true;
        if let Some(refusal) = held.refusal {
            return self.refused(held.server, held.bytes, refusal);
        }
        self.reads_from_primary = false;
        self.waits_since = None;
        self.who.cluster.servers[held.server].counts.reads.add();
        let mut answer = held.answer;
        let told = if answer.is_empty() {
            self.tell(cx, last)
        } else {
            answer.extend_from_slice(last);
            self.tell(cx, &answer)
        };
        buffer::give_back(&mut answer);
        buffer::consume(&mut self.input, held.bytes);
        self.is_input_due = !self.input.is_empty();
        told
    }

    /// The read is not on its way any more.
    pub(super) fn let_go(&mut self) -> Option<Held> {
        let Mode::Held(held) = std::mem::replace(&mut self.mode, Mode::Rest) else {
            return None;
        };
        self.me.is_served_by(None);
        self.worker.hedging.over(self.me.id);
        Some(held)
    }

    /// Gives a server up that the picture says is lost.
    fn give_up_if_lost(&mut self) -> Result<bool, End> {
        let turn = self.worker.turn(self.who.position);
        if turn == std::mem::replace(&mut self.turn, turn) {
            return Ok(false);
        }
        let Mode::Held(held) = &self.mode else {
            return Ok(false);
        };
        let view = self.who.cluster.view();
        let mut asked = std::iter::once(held.server).chain(held.second);
        let Some(server) = asked.find(|&server| !view.is_usable(server)) else {
            return Ok(false);
        };
        let Some(upstream) = self.upstreams[server].take() else {
            return Ok(false);
        };
        let is_cut = upstream.passing > 0;
        tokio::task::spawn_local(Rc::clone(&upstream.cancels).cancel());
        drop(upstream);
        self.copy_lost(server, is_cut, false)?;
        Ok(true)
    }
}

/// Gives the answers that are due now and that no server will give.
pub(super) fn answer_own(upstream: &mut Upstream, splice: &mut Splice<'_>, at: usize) {
    while let Some(own) = upstream.answers.own() {
        splice.insert(at).extend_from_slice(match own {
            Awaited::AnswerParse => write::PARSE_COMPLETE,
            _ => write::CLOSE_COMPLETE,
        });
    }
}
