//! Getting a server that agrees with the session, and giving it back clean.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{End, Session};
use crate::db_proxy::Proxy;
use crate::db_proxy::pool::{Pool, Server};
use crate::downstream::postgres::say_good_bye;
use crate::upstream::postgres::ServerError;
use crate::upstream::postgres::settings::{self, Settings};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};

/// How long a client may take to read the last words.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

impl Session {
    /// Waits for a server; notices when the client leaves meanwhile.
    pub(super) async fn acquire(&mut self) -> Result<(), End> {
        let asked = Instant::now();
        self.me.waits(true);
        let pool = Rc::clone(&self.pool);
        let (proxy, settings) = (Rc::clone(&self.proxy), self.settings.clone());
        let server = tokio::select! {
            biased;
            server = check_out(&proxy, &pool, &settings) => server,
            _ = std::future::poll_fn(|cx| self.poll_while_waiting(cx)) => Err(End::Left),
        };
        self.me.waits(false);
        let server = server?;
        self.pool.stats.waited(asked);
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
    let mut server = match resting {
        Some(server) => server,
        None => {
            let most = proxy.config.borrow().pool.queue;
            let given = pool.queue(most).map_err(End::Refused)?;
            let stopped = || PgError::fatal(code::ADMIN_SHUTDOWN, "the proxy stops");
            let given = given.await.map_err(|_| End::Refused(stopped()))?;
            given.map_err(End::Refused)?
        }
    };
    if server.settings != *settings {
        match agree(&mut server, settings).await {
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

async fn agree(server: &mut Server, settings: &Settings) -> Result<(), ServerError> {
    const AGREE_TIMEOUT: Duration = Duration::from_secs(5);
    let script = settings::script(&server.settings, settings);
    // All of it or nothing: the statements of one query are one transaction.
    tokio::time::timeout(AGREE_TIMEOUT, server.run(&script))
        .await
        .map_err(|_| ServerError::Timeout(AGREE_TIMEOUT))??;
    server.settings = settings.clone();
    Ok(())
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
