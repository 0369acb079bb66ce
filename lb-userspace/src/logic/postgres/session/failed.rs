//! The primary is lost while it works: what the client is told, which is the truth and no more.
//!
//! Nothing was sent: the statement waits for a primary. Something was sent, and the transaction
//! cannot have been committed: 08006, and the transaction is over. A commit was sent: 08007. A
//! statement by itself that may have written: 40003. Nothing is ever done again.

use std::time::Instant;

use super::aborted::Aborted;
use super::floor::Floor;
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
        let sql = sql.trim_ascii();
        if super::aborted::is_rollback(sql) {
            return Self::Rollback;
        }
        let word = sql.split(|byte| !byte.is_ascii_alphabetic()).next();
        let begins = word.is_some_and(|word| {
            word.eq_ignore_ascii_case(b"begin") || word.eq_ignore_ascii_case(b"start")
        });
        let is_alone = memchr::memchr(b';', sql).is_none_or(|at| at + 1 == sql.len());
        if begins && is_alone {
            Self::Begin
        } else {
            Self::Nothing
        }
    }
}

/// Whether a query may end its transaction with a commit.
pub(super) fn may_commit(sql: &[u8]) -> bool {
    sql::commits(sql)
        || (memchr::memchr(b';', sql).is_some()
            && sql
                .windows(6)
                .any(|word| word.eq_ignore_ascii_case(b"commit")))
        || sql
            .trim_ascii_start()
            .get(..7)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"prepare"))
}

/// Something of the session was only on a server that is lost.
pub(super) fn state_lost() -> PgError {
    let what =
        "the server was lost that had this session's temporary objects, locks or notifications";
    PgError::fatal(code::CONNECTION_FAILURE, what)
}

/// The primary of now does not have what the session wrote.
pub(super) fn writes_lost() -> PgError {
    let what = "what this session has written is lost: it lies beyond the point where the new \
                primary left the history of the old one";
    PgError::error(failover::code::ROLLED_BACK, what).hint(
        "Nothing of this statement was done. Use synchronous replication if acknowledged writes must \
         survive a failover.",
    )
}

/// Nobody can tell whether the primary of now has what the session wrote.
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
        self.floor.lost_upstream(server);
        if let Some(mut kept) = self.take_kept() {
            // Not a byte of it was written.
            self.mode = Mode::Rest;
            self.tracking.drop_changes();
            self.tracking.next();
            kept.extend_from_slice(&self.input);
            self.input = kept;
            self.is_input_due = true;
            return self.may_go_on(server);
        }
        self.waits_since = None;
        let (commits, ends, is_sent) = match &self.mode {
            Mode::Relay(relay) => (relay.commits, relay.ends, relay.is_sent()),
            _ => (false, Ends::Nothing, true),
        };
        let in_transaction = upstream.answers.state != b'I';
        let is_cut = upstream.passing > 0;
        let asked = |awaited: &&Awaited| matches!(awaited, Awaited::Query | Awaited::Sync);
        let asked = upstream.answers.awaited.iter().filter(asked).count();
        let is_simple = upstream.answers.awaited.front() == Some(&Awaited::Query);
        let ends_with_one = matches!(
            upstream.answers.awaited.back(),
            Some(Awaited::Query | Awaited::Sync)
        );
        let is_idle = upstream.answers.awaited.is_empty() && !upstream.answers.skipping;
        let is_done = is_idle && !in_transaction && !is_cut && is_sent;
        if is_done {
            // Its last words came in one piece with the last answer, which the client has.
            let attested = self.who.cluster.view().attested(self.shard);
            self.floor.wrote(&upstream, attested);
            self.floor.lost_upstream(server);
        }
        drop(upstream);
        self.mode = Mode::Rest;
        self.tracking.drop_changes();
        self.tracking.next();
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
            (false, Ends::Rollback, true) => Work::Rollback,
            (false, _, true) => Work::InTransaction,
            (false, _, false) => Work::Write,
        };
        let (error, state) = match after_loss(work, Progress::Sent) {
            // A BEGIN by itself did nothing, whether it was done or not.
            _ if work == Work::Write && ends == Ends::Begin => (self.rolled_back(why), State::Idle),
            Then::Confirm if asked == 1 && is_simple => {
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
        if is_cut || asked > 1 || (asked == 1 && !ends_with_one) {
            // In the middle of a message, or in a pipeline: no answer of ours would fit.
            self.who.cluster.counts.broken_off.add();
            return Err(End::Refused(PgError::fatal(&error.code, error.message)));
        }
        self.may_go_on(server)?;
        let mut answer = Vec::new();
        error.write(&mut answer);
        if state == State::Failed {
            self.mode = Mode::Aborted(Aborted { is_told: true });
        }
        if asked == 0 {
            self.is_skipping = true;
        } else {
            write::ready(
                &mut answer,
                if state == State::Failed { b'E' } else { b'I' },
            );
        }
        buffer::append(&mut self.to_client, &answer);
        Ok(())
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

    /// What the session wrote is lost: it is told so once, and begins anew.
    pub(super) fn refuse_lost_writes(&mut self) -> Result<(), End> {
        self.who.cluster.counts.lost_writes.add();
        self.floor = Floor::default();
        self.refuse_next(&writes_lost())
    }

    /// A write whose position nobody can tell any more: what is read next could be older. The session
    /// is told so once, and begins anew.
    pub(super) fn refuses_unknown_position(&mut self, view: &Picture) -> Result<bool, End> {
        if !self.floor.is_given_up(view, self.shard) {
            return Ok(false);
        }
        self.who.cluster.counts.lost_positions.add();
        self.floor = Floor::default();
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
