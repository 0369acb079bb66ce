//! What a session waits for: a connection to a server, or a server to go to. While it waits, the
//! client's leaving is noticed, and what the client sends meanwhile is read up to a bound.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{End, Session, Step};
use crate::upstream::postgres::ServerError;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};

/// How long a standby may take to be connected to: reads have others to go to.
const STANDBY_TIMEOUT: Duration = Duration::from_millis(200);
/// How long the primary may take.
const PRIMARY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it is waited at most before it is looked again who there is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Session {
    pub(super) async fn wait_for(&mut self, step: Step) -> Result<(), End> {
        self.is_input_due = true;
        match step {
            Step::Prepare { server, is_read } => self.prepare(server, is_read).await,
            Step::Turn => self.wait_for_turn().await,
        }
    }

    /// Connects to a server, or makes its connection agree with the session's settings.
    async fn prepare(&mut self, server: usize, is_read: bool) -> Result<(), End> {
        let (worker, who) = (Rc::clone(&self.worker), Rc::clone(&self.who));
        let settings = self.settings.clone();
        let mut had = self.upstreams[server].take();
        if let Some(owing) = had.take_if(|had| super::owes(had)) {
            // What another server answered meanwhile is still to come: that takes too long.
            tokio::task::spawn_local(Rc::clone(&owing.cancels).cancel());
            self.floors[self.who.shards[server]].lost_upstream(server);
        }
        let had_one = had.is_some();
        let is_primary = who.cluster.view().primary(self.shard) == Ok(server);
        let limit = if is_primary {
            PRIMARY_TIMEOUT
        } else {
            STANDBY_TIMEOUT
        };
        let mut turns = who.cluster.turns();
        let becomes_unusable = async {
            while who.cluster.view().is_usable(server) {
                if turns.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let work = worker.prepare(&who, server, had, &settings);
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(limit, work) => {
                outcome.unwrap_or(Err(ServerError::Timeout(limit)))
            }
            () = becomes_unusable => Err(ServerError::Timeout(Duration::ZERO)),
            _ = std::future::poll_fn(|cx| self.poll_while_waiting(cx)) => return Err(End::Left),
        };
        let error = match outcome {
            Ok(upstream) => {
                self.upstreams[server] = Some(upstream);
                return Ok(());
            }
            Err(error) => error,
        };
        tracing::debug!(server = who.cluster.servers[server].name, %error, "cannot be connected to");
        if had_one {
            self.floors[self.who.shards[server]].lost_upstream(server);
            if self.pinned == Some(server) {
                return Err(End::Refused(super::failed::state_lost()));
            }
        }
        if let Some(refusal) = refusal(error) {
            return Err(End::Refused(refusal));
        }
        self.worker.avoid(who.position, server, Instant::now());
        self.waits_since.get_or_insert_with(Instant::now);
        if is_primary || !is_read {
            return self.wait_for_turn().await;
        }
        Ok(())
    }

    /// Waits for another picture of the servers, and for the time that is left to wait at all.
    async fn wait_for_turn(&mut self) -> Result<(), End> {
        let who = Rc::clone(&self.who);
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let left = self
            .worker
            .failover_timeout()
            .saturating_sub(since.elapsed());
        if left.is_zero() {
            return self.waited_in_vain("no primary was found in time");
        }
        let Some(_place) = who.cluster.queue() else {
            return self.waited_in_vain("too many statements wait for a primary already");
        };
        who.cluster.counts.waits.add();
        self.reads_from_primary = false;
        let mut turns = who.cluster.turns();
        tokio::select! {
            _ = turns.changed() => {}
            () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
            _ = std::future::poll_fn(|cx| self.poll_while_waiting(cx)) => return Err(End::Left),
        }
        Ok(())
    }

    /// The statement was not sent, and will not be: the client is told, and can go on.
    fn waited_in_vain(&mut self, why: &str) -> Result<(), End> {
        let who = Rc::clone(&self.who);
        who.cluster.counts.waits_failed.add();
        let reason = match who.cluster.view().primary(self.shard) {
            Err(reason) => reason.to_string(),
            Ok(_) => "the primary cannot be connected to".to_owned(),
        };
        let what = format!("{why}: {reason}");
        let error = PgError::error(code::CANNOT_CONNECT_NOW, what)
            .hint("Nothing of the statement was done.");
        self.refuse_next(&error)
    }

    /// Reads what the client sends while it waits, so that its leaving is noticed.
    fn poll_while_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let worker = Rc::clone(&self.worker);
        if self.me.must_leave() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = worker.scratch.borrow_mut();
        while self.input.len() < worker.input_bytes_max() {
            match self.client.poll_into(cx, &mut scratch.read) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(count)) => buffer::append(&mut self.input, &scratch.read[..count]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

/// What a client is told of a server that says no, and will say it again.
pub(in crate::logic::postgres) fn refusal(error: ServerError) -> Option<PgError> {
    match error {
        // Starting up, shutting down, too many connections, unreachable: all of them pass.
        ServerError::Refused(error)
            if error.code.starts_with("57P")
                || error.code.starts_with("08")
                || error.code == code::TOO_MANY_CONNECTIONS
                || error.code == "25006" =>
        {
            None
        }
        ServerError::Refused(error) => Some(PgError::fatal(&error.code, error.message)),
        ServerError::Credentials(why) => Some(PgError::fatal(code::INVALID_AUTHORIZATION, why)),
        ServerError::Scram(why) => {
            Some(PgError::fatal(code::INVALID_AUTHORIZATION, why.to_string()))
        }
        ServerError::Io(_) | ServerError::Protocol(_) | ServerError::Timeout(_) => None,
    }
}
