//! The primary is lost while it works: what the client is told, which is the truth and no more.
//!
//! Nothing was sent: the statement waits for a primary. Something was sent, and the transaction
//! cannot have been committed: 08006, and the transaction is over. A commit was sent: 08007. A
//! statement by itself that may have written: 40003. Nothing is ever done again.

use super::aborted::Aborted;
use super::{End, Mode, Session};
use crate::logic::postgres::pool::Upstream;
use crate::upstream::postgres::Awaited;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::{sql, write};

/// statement_completion_unknown
const STATEMENT_COMPLETION_UNKNOWN: &str = "40003";

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
    PgError::fatal(code::CONNECTION_FAILURE, what)
        .hint("Use synchronous replication if acknowledged writes must survive a failover.")
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
        let commits = matches!(&self.mode, Mode::Relay(relay) if relay.commits);
        let in_transaction = upstream.answers.state != b'I';
        let is_cut = upstream.passing > 0;
        let asked = |awaited: &&Awaited| matches!(awaited, Awaited::Query | Awaited::Sync);
        let asked = upstream.answers.awaited.iter().filter(asked).count();
        let ends_with_one = matches!(
            upstream.answers.awaited.back(),
            Some(Awaited::Query | Awaited::Sync)
        );
        let is_idle = upstream.answers.awaited.is_empty() && !upstream.answers.skipping;
        drop(upstream);
        self.mode = Mode::Rest;
        self.tracking.drop_changes();
        self.tracking.next();
        self.is_input_due = true;
        if is_idle && in_transaction {
            // The client is told when it asks next.
            self.who.cluster.counts.rolled_back.add();
            self.mode = Mode::Aborted(Aborted { is_told: false });
            return self.may_go_on(server);
        }
        let error = self.verdict(commits, in_transaction, why);
        if is_cut || asked > 1 || (asked == 1 && !ends_with_one) {
            // In the middle of a message, or in a pipeline: no answer of ours would fit.
            self.who.cluster.counts.broken_off.add();
            return Err(End::Refused(PgError::fatal(&error.code, error.message)));
        }
        self.may_go_on(server)?;
        let is_over = !in_transaction || error.code != code::CONNECTION_FAILURE;
        let mut answer = Vec::new();
        error.write(&mut answer);
        if !is_over {
            self.mode = Mode::Aborted(Aborted { is_told: true });
        }
        if asked == 0 {
            self.is_skipping = true;
        } else {
            write::ready(&mut answer, if is_over { b'I' } else { b'E' });
        }
        buffer::append(&mut self.to_client, &answer);
        Ok(())
    }

    fn verdict(&self, commits: bool, in_transaction: bool, why: &str) -> PgError {
        let counts = &self.who.cluster.counts;
        if commits {
            counts.unknown_commits.add();
            let what = format!(
                "the primary was lost while it committed ({why}): whether it did is not known"
            );
            return PgError::error(code::TRANSACTION_RESOLUTION_UNKNOWN, what);
        }
        if in_transaction {
            counts.rolled_back.add();
            let what = format!("the primary was lost ({why}): the transaction is rolled back");
            return PgError::error(code::CONNECTION_FAILURE, what);
        }
        counts.unknown_statements.add();
        let what =
            format!("the primary was lost ({why}): whether the statement was done is not known");
        PgError::error(STATEMENT_COMPLETION_UNKNOWN, what)
    }

    /// Whether the session can live on without what was only on this server.
    fn may_go_on(&self, server: usize) -> Result<(), End> {
        if self.pinned == Some(server) {
            return Err(End::Refused(state_lost()));
        }
        Ok(())
    }

    /// Gives up a primary that answers no more, once another is known to be primary: whatever is
    /// under way there will not be heard of.
    pub(super) fn abandon_if_over(&mut self, server: usize) -> Result<bool, End> {
        let turn = self.worker.turn(self.who.position);
        if turn == std::mem::replace(&mut self.turn, turn) {
            return Ok(false);
        }
        let view = self.who.cluster.view();
        if view.is_usable(server) || !view.primary(self.shard).is_ok_and(|other| other != server) {
            return Ok(false);
        }
        let Some(upstream) = self.upstreams[server].take() else {
            return Ok(false);
        };
        self.relay_lost(upstream, "another server is primary now")?;
        Ok(true)
    }
}
