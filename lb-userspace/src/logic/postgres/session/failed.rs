//! The primary is lost while it works: what the client is told, which is the truth and no more.
//!
//! Nothing was sent: the statement waits for a primary. Something was sent, and the transaction
//! cannot have been committed: 08006, and the transaction is over. A commit was sent: 08007. A
//! statement by itself that may have written: 40003. Nothing is ever done again.

use std::collections::VecDeque;
use std::time::Instant;

use super::aborted::{Aborted, is_alone};
use super::floor::{Floor, Reached};
use super::{End, Mode, Session};
use crate::failover::{self, Progress, State, Then, Work, after_loss};
use crate::logic::postgres::picture::Picture;
use crate::logic::postgres::pool::Upstream;
use crate::upstream::postgres::Awaited;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::{frame, sql, write};

/// What the client's last statement does to its transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Ends {
    /// Nothing that is known here.
    #[default]
    Nothing,
    Begin,
    Rollback,
}

impl Ends {
    /// Of a query.
    pub fn of(sql: &[u8]) -> Self {
        if super::aborted::is_rollback(sql) {
            return Self::Rollback;
        }
        let word = sql::first_word(sql).map(|(word, _)| word);
        let begins = word.is_some_and(|word| word == b"begin" || word == b"start");
        if begins && is_alone(sql) {
            Self::Begin
        } else {
            Self::Nothing
        }
    }
}

/// What a client waits for when its server is lost.
#[derive(Debug, Clone, Copy)]
struct Segments {
    /// Those that it has sent to their end.
    ended: usize,
    /// It has sent a part of one more.
    is_open: bool,
    /// The first one is a simple query.
    is_simple: bool,
}

impl Segments {
    fn of(awaited: &VecDeque<Awaited>) -> Self {
        let ends = |awaited: &Awaited| {
            matches!(awaited, Awaited::Query | Awaited::Sync | Awaited::OwnQuery)
        };
        Self {
            ended: awaited.iter().filter(|awaited| ends(awaited)).count(),
            is_open: !awaited.back().is_some_and(ends),
            is_simple: awaited.front() == Some(&Awaited::Query),
        }
    }

    const fn are_one(self) -> bool {
        self.ended + self.is_open as usize == 1
    }
}

/// Whether a query may end its transaction with a commit: also what follows a rollback in the same text
/// commits by itself.
pub(super) fn may_commit(sql: &[u8]) -> bool {
    let has = |word: &[u8]| {
        let mut parts = sql.windows(word.len());
        parts.any(|part| part.eq_ignore_ascii_case(word))
    };
    let ends = [&b"commit"[..], b"rollback", b"abort", b"end"];
    sql::commits(sql)
        || (!is_alone(sql) && ends.into_iter().any(has))
        || sql::first_word(sql).is_some_and(|(word, _)| word == b"prepare")
}

/// Whether a query may end its transaction without a commit, so that what stands behind it is not of it.
pub(super) fn may_roll_back(sql: &[u8]) -> bool {
    sql::first_word(sql).is_some_and(|(word, _)| word == b"rollback" || word == b"abort")
}

/// Something of the session was only on a server that is lost.
pub(super) fn state_lost() -> PgError {
    let what =
        "the server was lost that had this session's temporary objects, locks or notifications";
    PgError::fatal(code::CONNECTION_FAILURE, what)
}

/// The primary of now does not have what the session wrote.
fn writes_lost() -> PgError {
    let what = "what this session has written is lost: it lies beyond the point where the new \
                primary left the history of the old one";
    PgError::error(failover::code::ROLLED_BACK, what).hint(
        "Nothing of this statement was done. Use synchronous replication if acknowledged writes must \
         survive a failover.",
    )
}

/// Nobody can tell whether the primary of now has what the session wrote: where that ends is not known
/// to a byte.
fn position_lost() -> PgError {
    let what = "the primary was lost just after this session wrote, and whether the new one has what \
                was written is not known";
    PgError::error(failover::code::RESOLUTION_UNKNOWN, what)
        .hint("Nothing of this statement was done. Look whether what was written before is there.")
}

impl Session {
    /// The server of a relay is lost.
    pub(super) fn relay_lost(&mut self, upstream: Box<Upstream>, why: &str) -> Result<(), End> {
        let server = upstream.tie.server;
        let name = &self.who.cluster.servers[server].name;
        tracing::info!(
            client = self.me.id,
            server = name,
            why,
            "the primary was lost"
        );
        self.who.cluster.servers[server].counts.lost.add();
        self.me.is_served_by(None);
        buffer::give_back(&mut self.to_server);
        self.floors[self.who.shards[server]].lost_upstream(server);
        if let Some(mut kept) = self.take_kept() {
            // Not a byte of it was written.
            self.mode = Mode::Rest;
            self.forget_changes();
            kept.extend_from_slice(&self.input);
            self.input = kept;
            self.is_input_due = true;
            return self.may_go_on(server);
        }
        self.waits_since = None;
        let behind = match &self.mode {
            Mode::Relay(relay) => relay.behind,
            _ => Reached::default(),
        };
        let (commits, rolls_back, ends, is_sent) = match &self.mode {
            Mode::Relay(relay) => (relay.commits, relay.rolls_back, relay.ends, relay.is_sent()),
            _ => (false, false, Ends::Nothing, true),
        };
        if let Mode::Relay(relay) = &self.mode {
            self.unwanted = relay.passing;
        }
        let in_transaction = upstream.answers.state != b'I';
        let is_cut = upstream.passing > 0;
        let segments = Segments::of(&upstream.answers.awaited);
        let is_idle = upstream.answers.awaited.is_empty() && !upstream.answers.skipping;
        let is_done = is_idle && !in_transaction && !is_cut && is_sent;
        if is_done {
            // Its last words came in one piece with the last answer, which the client has.
            let attested = self.who.cluster.view().attested(self.shard);
            self.floors[self.shard].wrote(&upstream, attested, behind);
            self.floors[self.who.shards[server]].lost_upstream(server);
        }
        drop(upstream);
        self.mode = Mode::Rest;
        self.forget_changes();
        self.is_input_due = true;
        if is_done {
            return self.may_go_on(server);
        }
        if is_idle && in_transaction {
            // The client is told when it asks next.
            self.who.cluster.counts.rolled_back.add();
            self.mode = Mode::Aborted(Aborted { is_told: false });
            return self.may_go_on(server);
        }
        let work = match (commits, ends, in_transaction) {
            (true, ..) => Work::Commit,
            (false, Ends::Rollback, true) if segments.are_one() => Work::Rollback,
            // What stands behind a rollback is not rolled back with it.
            (false, _, true) if rolls_back => Work::Write,
            (false, _, true) => Work::InTransaction,
            (false, _, false) => Work::Write,
        };
        let is_begin = work == Work::Write && ends == Ends::Begin && segments.are_one();
        let (error, state) = match after_loss(work, Progress::Sent) {
            // A BEGIN by itself did nothing, whether it was done or not.
            _ if is_begin => (self.rolled_back(why), State::Idle),
            Then::Confirm if segments.is_simple => {
                let mut answer = Vec::new();
                write::command_complete(&mut answer, "ROLLBACK");
                write::ready(&mut answer, b'I');
                buffer::append(&mut self.to_client, &answer);
                return self.may_go_on(server);
            }
            // Its answer in the extended protocol has several parts, of which some may have been given.
            Then::Confirm => (self.rolled_back(why), State::Idle),
            Then::Tell(code::CONNECTION_FAILURE, state) => (self.rolled_back(why), state),
            Then::Tell(code::TRANSACTION_RESOLUTION_UNKNOWN, state) => {
                (self.unknown_commit(why), state)
            }
            Then::Tell(_, state) => (self.unknown_statement(why), state),
            Then::Repeat | Then::Wait => (self.unknown_statement(why), State::Idle),
        };
        // In the middle of a message no answer of ours would fit.
        let is_broken_off = is_cut || self.pinned == Some(server);
        if is_broken_off {
            self.who.cluster.counts.broken_off.add();
            return Err(End::Refused(PgError::fatal(&error.code, error.message)));
        }
        self.answer_lost(&error, state, segments);
        Ok(())
    }

    /// Tells the client of a loss: once for each segment that it waits for.
    fn answer_lost(&mut self, error: &PgError, state: State, segments: Segments) {
        let letter = if state == State::Failed { b'E' } else { b'I' };
        let mut answer = Vec::new();
        for _ in 0..segments.ended {
            error.write(&mut answer);
            write::ready(&mut answer, letter);
        }
        if segments.is_open {
            error.write(&mut answer);
            self.is_skipping = true;
        }
        if state == State::Failed {
            self.mode = Mode::Aborted(Aborted { is_told: true });
        }
        buffer::append(&mut self.to_client, &answer);
    }

    /// What was asked to be set and was not done, or is not known to be.
    fn forget_changes(&mut self) {
        self.tracking.drop_changes();
        self.tracking.owes_nothing();
        self.tracking.next();
    }

    fn unknown_commit(&self, why: &str) -> PgError {
        self.who.cluster.counts.unknown_commits.add();
        let what =
            format!("the primary was lost while it committed ({why}): whether it did is not known");
        PgError::error(failover::code::RESOLUTION_UNKNOWN, what)
    }

    fn rolled_back(&self, why: &str) -> PgError {
        self.who.cluster.counts.rolled_back.add();
        let what = format!("the primary was lost ({why}): the transaction is rolled back");
        PgError::error(failover::code::CONNECTION_FAILURE, what)
    }

    fn unknown_statement(&self, why: &str) -> PgError {
        self.who.cluster.counts.unknown_statements.add();
        let what =
            format!("the primary was lost ({why}): whether the statement was done is not known");
        PgError::error(failover::code::COMPLETION_UNKNOWN, what)
    }

    /// Answers the client's next segment with an error: nothing of it was or will be sent.
    pub(super) fn refuse_next(&mut self, error: &PgError) -> Result<(), End> {
        self.waits_since = None;
        self.is_for_primary = false;
        self.reads_from_primary = false;
        self.must_wait = false;
        let Some(head) = frame::header(&self.input).map_err(super::route::violation)? else {
            return Ok(());
        };
        let mut answer = Vec::new();
        match head.tag {
            b'Q' | b'F' if self.input.len() >= head.total => {
                buffer::consume(&mut self.input, head.total);
                error.write(&mut answer);
                write::ready(&mut answer, b'I');
            }
            // Longer than what is read ahead: its end is not in sight.
            b'Q' | b'F' => {
                let last = PgError::fatal(&error.code, error.message.clone());
                return Err(End::Refused(last));
            }
            _ => {
                error.write(&mut answer);
                self.is_skipping = true;
            }
        }
        buffer::append(&mut self.to_client, &answer);
        self.is_input_due = true;
        Ok(())
    }

    /// What the session wrote is lost, or may be: it is told so once, and begins anew.
    pub(super) fn refuse_lost_writes(&mut self) -> Result<(), End> {
        let error = self.forget_floor();
        self.refuse_next(&error)
    }

    /// The primary's history does not reach up to where the session's writes surely end: begins anew;
    /// returns what the client is to be told.
    pub(super) fn forget_floor(&mut self) -> PgError {
        let attested = self.who.cluster.view().attested(self.shard);
        let floor = std::mem::take(&mut self.floors[self.shard]);
        if floor.is_surely_lost(attested) {
            self.who.cluster.counts.lost_writes.add();
            return writes_lost();
        }
        self.who.cluster.counts.lost_positions.add();
        position_lost()
    }

    /// A write whose position nobody can tell any more: what is read next could be older. The session
    /// is told so once, and begins anew.
    pub(super) fn refuses_unknown_position(&mut self, view: &Picture) -> Result<bool, End> {
        if !self.floors[self.shard].is_given_up(view, self.shard) {
            return Ok(false);
        }
        self.who.cluster.counts.lost_positions.add();
        self.floors[self.shard] = Floor::default();
        self.refuse_next(&position_lost())?;
        Ok(true)
    }

    /// Whether the session can live on without what was only on this server.
    fn may_go_on(&self, server: usize) -> Result<(), End> {
        if self.pinned == Some(server) {
            return Err(End::Refused(state_lost()));
        }
        Ok(())
    }

    /// Gives up a primary that answers no more, once another is known to be primary, or after
    /// `failover_timeout`: whatever is under way there will not be heard of.
    pub(super) fn abandon_if_over(&mut self, server: usize) -> Result<bool, End> {
        let turn = self.worker.turn(self.who.position);
        if turn == std::mem::replace(&mut self.turn, turn) {
            return Ok(false);
        }
        let view = self.who.cluster.view();
        let Mode::Relay(relay) = &mut self.mode else {
            return Ok(false);
        };
        if view.is_usable(server) {
            relay.hangs_since = None;
            return Ok(false);
        }
        let hangs_since = *relay.hangs_since.get_or_insert_with(Instant::now);
        let is_succeeded = view.primary(self.shard).is_ok_and(|other| other != server);
        if !is_succeeded && hangs_since.elapsed() < self.worker.failover_timeout() {
            return Ok(false);
        }
        let why = if is_succeeded {
            "another server is primary now"
        } else {
            "it does not answer"
        };
        let Some(upstream) = self.upstreams[server].take() else {
            return Ok(false);
        };
        self.relay_lost(upstream, why)?;
        Ok(true)
    }
}
