//! Getting a server that agrees with the session, and giving it back clean.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{End, Session};
use crate::db_proxy::Proxy;
use crate::db_proxy::pool::{Pool, Server, Ticket};
use crate::downstream::postgres::say_good_bye;
use crate::upstream::postgres::ServerError;
use crate::upstream::postgres::settings::Settings;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};

/// How long a client may take to read the last words.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

impl Session {
    /// Queues up for a server, if none rests that could be made to agree.
    pub(super) fn queue_up(&mut self) -> Result<bool, End> {
        if self.pool.idle() > 0 && !self.pool.is_paused() {
            return Ok(false);
        }
        let most = self.proxy.config.borrow().pool.queue;
        self.ticket = Some(self.pool.queue(most).map_err(End::Refused)?);
        self.me.waits(true);
        Ok(true)
    }

    /// Looks whether a server was given, and notices when the client leaves meanwhile. Ready if the
    /// wait is over; then there is a server, and perhaps it does not agree with the session yet.
    pub(super) fn poll_ticket(
        &mut self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, End> {
        let Poll::Ready(given) = ticket.poll(cx) else {
            self.ticket = Some(ticket);
            return match self.poll_while_waiting(cx) {
                Poll::Ready(_) => Err(End::Left),
                Poll::Pending => Ok(Poll::Pending),
            };
        };
        self.me.waits(false);
        let server = given.map_err(End::Refused)?;
        self.pool.stats.waited(ticket.since);
        self.begin(server);
        self.is_input_due = true;
        Ok(Poll::Ready(()))
    }

    /// Whether the server at hand has other settings than the session.
    pub(super) fn disagrees(&self) -> bool {
        let server = self.server.as_ref();
        server.is_some_and(|server| server.settings != self.settings)
    }

    /// Makes a resting server agree with the session, or the one at hand.
    pub(super) async fn acquire(&mut self) -> Result<(), End> {
        let pool = Rc::clone(&self.pool);
        let (proxy, settings) = (Rc::clone(&self.proxy), self.settings.clone());
        let at_hand = self.server.take();
        let server = tokio::select! {
            biased;
            server = async {
                match at_hand {
                    Some(server) => make_agree(&pool, server, &settings).await,
                    None => check_out(&proxy, &pool, &settings).await,
                }
            } => server,
            _ = std::future::poll_fn(|cx| self.poll_while_waiting(cx)) => Err(End::Left),
        };
        let server = server?;
        self.begin(server);
        self.is_input_due = true;
        Ok(())
    }

    /// The server works for this client from now on.
    pub(super) fn begin(&mut self, server: Box<Server>) {
        self.me.is_served_by(Some(&server.cancels));
        self.was_told = false;
        self.server = Some(server);
    }

    /// Gives the server back if nothing of this session is left on it.
    pub(super) fn keep_or_release(&mut self, server: Box<Server>) {
        let is_in_the_middle = self.passing > 0 && !self.is_passing_unwanted;
        if !server.is_idle() || self.keeps_server() || is_in_the_middle {
            self.server = Some(server);
            return;
        }
        self.me.is_served_by(None);
        self.is_input_due |= !self.input.is_empty();
        give(&self.pool, server);
    }

    /// The session is over: tells the client why, and puts the server in order.
    pub(super) async fn finish(mut self, end: End) {
        self.ticket = None;
        self.me.is_served_by(None);
        if let Some(server) = self.server.take() {
            self.put_in_order(server, &end);
        }
        let error = match end {
            End::Left | End::Lost => None,
            End::ServerLost { was_told: true } => None,
            End::ServerLost { was_told: false } => Some(self.server_lost()),
            End::Refused(error) => Some(error),
        };
        let mut last = std::mem::take(&mut self.to_client);
        if let Some(error) = error {
            tracing::info!(client = self.me.id, user = %self.pool.key.user, %error, "client refused");
            error.write(&mut last);
        }
        say_good_bye(&mut self.client, &last, LAST_WORDS_TIMEOUT).await;
        buffer::give_back(&mut last);
    }

    fn server_lost(&self) -> PgError {
        if self.commits {
            let what =
                "the server closed the connection while it committed: whether it did is not known";
            return PgError::fatal(code::TRANSACTION_RESOLUTION_UNKNOWN, what);
        }
        let what =
            "the server closed the connection; its transaction, if there was one, is rolled back";
        PgError::fatal(code::CONNECTION_FAILURE, what)
    }

    fn put_in_order(&mut self, mut server: Box<Server>, end: &End) {
        let is_in_the_middle = self.passing > 0 && !self.is_passing_unwanted;
        let is_clean = server.is_silent() && self.to_server.is_empty() && !is_in_the_middle;
        if !is_clean || matches!(end, End::ServerLost { .. }) {
            if !matches!(end, End::ServerLost { .. }) {
                tokio::task::spawn_local(Rc::clone(&server.cancels).cancel());
            }
            return;
        }
        let keeps = self.keeps_server();
        if server.is_idle() && !keeps {
            give(&self.pool, server);
            return;
        }
        let (pool, pristine) = (Rc::clone(&self.pool), self.proxy.pristine.clone());
        tokio::task::spawn_local(async move {
            let done = if keeps {
                server.reset(pristine).await
            } else {
                server.roll_back().await
            };
            match done {
                Ok(()) => give(&pool, server),
                Err(error) => tracing::info!(%pool, %error, "a server connection cannot be reset"),
            }
        });
    }
}

/// Takes or waits for a server, and makes it agree with `settings`.
pub(in super::super) async fn check_out(
    proxy: &Rc<Proxy>,
    pool: &Rc<Pool>,
    settings: &Settings,
) -> Result<Box<Server>, End> {
    let resting = pool.take_alike(settings).or_else(|| pool.take_any());
    let server = match resting {
        Some(server) => server,
        None => {
            let most = proxy.config.borrow().pool.queue;
            let ticket = pool.queue(most).map_err(End::Refused)?;
            let given = std::future::poll_fn(|cx| ticket.poll(cx)).await;
            pool.stats.waited(ticket.since);
            given.map_err(End::Refused)?
        }
    };
    make_agree(pool, server, settings).await
}

async fn make_agree(
    pool: &Rc<Pool>,
    mut server: Box<Server>,
    settings: &Settings,
) -> Result<Box<Server>, End> {
    if server.settings != *settings {
        match server.agree(settings).await {
            Ok(()) => {}
            Err(ServerError::Refused(error)) => {
                give(pool, server);
                let error = PgError::fatal(&error.code, error.message);
                return Err(End::Refused(
                    error.hint("This session's settings cannot be set again."),
                ));
            }
            Err(error) => {
                tracing::info!(%pool, %error, "a server connection was lost");
                return Err(End::ServerLost { was_told: false });
            }
        }
    }
    Ok(server)
}

/// Gives a clean server back, when no cancel request is on its way to it any more.
pub(in super::super) fn give(pool: &Rc<Pool>, server: Box<Server>) {
    if !server.cancels.is_any() {
        pool.give(server);
        return;
    }
    let pool = Rc::clone(pool);
    tokio::task::spawn_local(async move {
        server.cancels.settle().await;
        pool.give(server);
    });
}
