//! The server connections of one user and database, and the clients that wait for one.
//!
//! Sessions take a server and give it back. A server that goes away leaves its place, and a new
//! connection is made for whoever waits. Nothing here waits.

mod queue;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use self::queue::Queue;
pub(super) use self::queue::Ticket;
use super::Proxy;
use super::stats::PoolStats;
use crate::config::DbPool;
use crate::upstream::postgres::settings::Settings;
use crate::upstream::postgres::{self, Credentials, ServerError, Who};
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::write;

/// How long after a failed connection the next is tried, while clients wait.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How long a new connection waits for the watch to have seen the server.
const SEEN_TIMEOUT: Duration = Duration::from_secs(1);

/// For so many different sets of settings it is remembered what their clients are told.
const GREETINGS_MAX: usize = 256;

/// Which pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PoolKey {
    pub database: String,
    pub user: String,
}

/// A server connection of a pool.
pub(super) type Server = postgres::Server<Membership>;

/// What ties a server connection to its pool.
#[derive(Debug)]
pub(super) struct Membership {
    /// The pool's way to make everybody log in again: servers of older generations are closed.
    generation: u64,
    /// How many questions the watch had asked when it had logged in: answers to later ones are of
    /// the same life of the server.
    pub questions: u64,
    _place: Place,
}

/// What a waiting client gets.
pub(super) type Given = Result<Box<Server>, PgError>;

/// The connections of one user and database.
#[derive(Debug)]
pub(super) struct Pool {
    pub key: PoolKey,
    proxy: Weak<Proxy>,
    /// ParameterStatus messages of sessions with these settings.
    greetings: RefCell<Vec<(Settings, Rc<[u8]>)>>,
    #[expect(
        clippy::vec_box,
        reason = "servers go to sessions and back: a pointer moves, not the server"
    )]
    idle: RefCell<Vec<Box<Server>>>,
    waiting: Queue,
    /// Connections that there are or that are being made.
    open: Rc<Cell<usize>>,
    connecting: Cell<usize>,
    paused: Cell<bool>,
    generation: Cell<u64>,
    made: Instant,
    /// Connections made before this are too old to be used again; `None`: all are.
    worn_before: Cell<Option<Instant>>,
    /// A connection failed: none is made before this time.
    retry_at: Cell<Option<Instant>>,
    last_error: RefCell<Option<String>>,
    pub credentials: RefCell<Credentials>,
    pub stats: PoolStats,
}

/// One of a pool's places for connections; free again when dropped.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>, Weak<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
        if let Some(pool) = self.1.upgrade() {
            pool.connect_if_needed();
        }
    }
}

impl Pool {
    pub fn new(key: PoolKey, proxy: &Rc<Proxy>, credentials: Credentials) -> Rc<Self> {
        let made = Instant::now();
        let is_reused = !proxy.config.borrow().pool.lifetime.is_zero();
        Rc::new(Self {
            paused: Cell::new(proxy.pauses.is_paused(&key.database)),
            key,
            proxy: Rc::downgrade(proxy),
            greetings: RefCell::default(),
            idle: RefCell::default(),
            waiting: Queue::default(),
            open: Rc::default(),
            connecting: Cell::new(0),
            generation: Cell::new(0),
            made,
            worn_before: Cell::new(is_reused.then_some(made)),
            retry_at: Cell::new(None),
            last_error: RefCell::default(),
            credentials: RefCell::new(credentials),
            stats: PoolStats::default(),
        })
    }

    /// A server that rests and has just these settings.
    pub fn take_alike(&self, settings: &Settings) -> Option<Box<Server>> {
        self.take_where(|server| server.settings == *settings)
    }

    /// A server that rests, whatever its settings; the one used last first.
    pub fn take_any(&self) -> Option<Box<Server>> {
        self.take_where(|_| true)
    }

    fn take_where(&self, fits: impl Fn(&Server) -> bool) -> Option<Box<Server>> {
        if self.paused.get() {
            return None;
        }
        loop {
            let mut idle = self.idle.borrow_mut();
            let place = idle.iter().rposition(|server| fits(server))?;
            let mut server = idle.remove(place);
            drop(idle);
            if server.is_quiet() {
                return Some(server);
            }
            tracing::debug!(pool = %self, "a resting server connection was closed");
        }
    }

    /// Queues up for a server.
    ///
    /// # Errors
    /// If too many wait already.
    pub fn queue(self: &Rc<Self>, most: usize) -> Result<Ticket, PgError> {
        let Some(ticket) = self.waiting.enter(self, most) else {
            self.stats.refused.add(1);
            let what = format!("{most} clients wait for a server connection already");
            return Err(PgError::fatal(code::TOO_MANY_CONNECTIONS, what)
                .hint("Raise pool.size or pool.queue of [db_proxy]."));
        };
        self.connect_if_needed();
        Ok(ticket)
    }

    /// Takes a clean server back, and gives it to whoever waits longest.
    pub fn give(&self, server: Box<Server>) {
        if server.tie.generation != self.generation.get() || self.is_worn(&server) {
            super::server_leaves(server);
            return;
        }
        self.offer(server);
    }

    fn offer(&self, server: Box<Server>) {
        let left = if self.paused.get() {
            Some(server)
        } else {
            self.waiting.give(server)
        };
        if let Some(mut server) = left {
            server.used = Instant::now();
            self.idle.borrow_mut().push(server);
        }
    }

    fn is_worn(&self, server: &Server) -> bool {
        let before = self.worn_before.get();
        before.is_none_or(|before| server.since < before)
    }

    /// Makes a connection if somebody waits, there is room, and no failure is too fresh.
    pub fn connect_if_needed(self: &Rc<Self>) {
        let Some(proxy) = self.proxy.upgrade() else {
            return;
        };
        let size = proxy.config.borrow().pool.size;
        let is_too_early = self.retry_at.get().is_some_and(|at| Instant::now() < at);
        if self.paused.get() || is_too_early || proxy.is_stopped.get() {
            return;
        }
        while self.waiting.len() > self.connecting.get() && self.open.get() < size {
            self.open.set(self.open.get() + 1);
            self.connecting.set(self.connecting.get() + 1);
            let place = Place(Rc::clone(&self.open), Rc::downgrade(self));
            tokio::task::spawn_local(Rc::clone(self).connect(Rc::clone(&proxy), place));
        }
    }

    async fn connect(self: Rc<Self>, proxy: Rc<Proxy>, place: Place) {
        let credentials = self.credentials.borrow().clone();
        let connector = proxy.connector.borrow().clone();
        let who = Who {
            user: &self.key.user,
            database: &self.key.database,
            credentials: &credentials,
        };
        let pristine = proxy.pristine.clone();
        let membership = Membership {
            generation: self.generation.get(),
            questions: 0,
            _place: place,
        };
        let mut connected = connector.connect(who, &[], pristine, membership).await;
        if let Ok(server) = &mut connected {
            server.tie.questions = proxy.watch.asked();
            // Nobody is to use a server before the fence has looked at what it is now.
            if !proxy.watch.sees(SEEN_TIMEOUT).await {
                tracing::debug!(pool = %self, "a connection is used that the watch knows nothing of");
            }
        }
        self.connecting.set(self.connecting.get() - 1);
        match connected {
            Ok(server) => {
                self.retry_at.set(None);
                *self.last_error.borrow_mut() = None;
                self.greet(&server);
                // Of whatever age: nobody has used it.
                if server.tie.generation == self.generation.get() {
                    self.offer(Box::new(server));
                }
            }
            Err(error) => self.connecting_failed(error),
        }
    }

    /// A server that is not there may come back: whoever waits goes on waiting. One that says no
    /// says it to all of them.
    fn connecting_failed(self: &Rc<Self>, error: ServerError) {
        self.stats.connect_failures.add(1);
        self.retry_at.set(Some(Instant::now() + RETRY_AFTER));
        let text = error.to_string();
        if self.last_error.borrow().as_ref() != Some(&text) {
            tracing::warn!(pool = %self, error = %text, "cannot connect to PostgreSQL");
        }
        *self.last_error.borrow_mut() = Some(text);
        let refusal = match error {
            // Starting up, shutting down, too many connections: all of them pass.
            ServerError::Refused(error)
                if error.code.starts_with("57P") || error.code == code::TOO_MANY_CONNECTIONS =>
            {
                None
            }
            ServerError::Refused(error) => Some(error),
            ServerError::Credentials(why) => Some(PgError::fatal(code::INVALID_AUTHORIZATION, why)),
            ServerError::Scram(why) => {
                if let Some(proxy) = self.proxy.upgrade() {
                    proxy.auth_query.doubt(&self.key.user);
                }
                Some(PgError::fatal(code::INVALID_AUTHORIZATION, why.to_string()))
            }
            ServerError::Io(_) | ServerError::Protocol(_) | ServerError::Timeout(_) => None,
        };
        if let Some(refusal) = refusal {
            self.waiting.refuse(&refusal);
        }
    }

    /// Once every tick: who waited too long is told, failed connections are tried again, and
    /// connections that nobody uses, or that are too old, are closed.
    pub fn tick(self: &Rc<Self>, now: Instant, config: &DbPool) {
        if !self.paused.get() {
            self.expire(now, config.queue_timeout);
        }
        let is_reused = !config.lifetime.is_zero();
        let before = now.checked_sub(config.lifetime).unwrap_or(self.made);
        self.worn_before.set(is_reused.then_some(before));
        let old: Vec<_> = {
            let mut idle = self.idle.borrow_mut();
            let excess = self.open.get().saturating_sub(config.size).min(idle.len());
            let mut old: Vec<_> = idle.drain(..excess).collect();
            old.extend(idle.extract_if(.., |server| {
                now - server.used > config.idle_timeout || self.is_worn(server)
            }));
            old
        };
        for server in old {
            super::server_leaves(server);
        }
        self.connect_if_needed();
    }

    fn expire(&self, now: Instant, timeout: Duration) {
        let is_due = |since| now - since >= timeout;
        let expired = self.waiting.expire(is_due, || self.timeout_error(timeout));
        self.stats.timeouts.add(expired);
    }

    fn timeout_error(&self, timeout: Duration) -> PgError {
        match &*self.last_error.borrow() {
            Some(error) => PgError::fatal(
                code::CANNOT_CONNECT_NOW,
                format!("PostgreSQL cannot be reached: {error}"),
            ),
            None => PgError::fatal(
                code::TOO_MANY_CONNECTIONS,
                format!("no server connection became free within {timeout:?}"),
            )
            .hint("Raise pool.size or pool.queue_timeout of [db_proxy]."),
        }
    }

    /// What a client with these settings is told of the server, if it is known.
    pub fn greeting(&self, settings: &Settings) -> Option<Rc<[u8]>> {
        let greetings = self.greetings.borrow();
        let known = greetings.iter().find(|(of, _)| of == settings);
        known.map(|(_, greeting)| Rc::clone(greeting))
    }

    /// Learns from a server that no session has what clients with its settings are told.
    pub fn greet(&self, server: &Server) -> Rc<[u8]> {
        let mut greeting = Vec::new();
        for (name, value) in &server.parameters {
            write::parameter_status(&mut greeting, name, value);
        }
        let greeting: Rc<[u8]> = greeting.into();
        let mut greetings = self.greetings.borrow_mut();
        let known = greetings.iter().position(|(of, _)| *of == server.settings);
        match known {
            Some(at) if greetings[at].1 == greeting => {}
            // Another server, or another configuration of it: nothing that was learned is sure.
            Some(_) => greetings.clear(),
            None => {
                if greetings.len() >= GREETINGS_MAX {
                    greetings.remove(0);
                }
            }
        }
        if known.is_none() || greetings.is_empty() {
            greetings.push((server.settings.clone(), Rc::clone(&greeting)));
        }
        greeting
    }

    /// Stops giving out servers.
    pub fn pause(&self) {
        self.paused.set(true);
    }

    /// Gives out servers again.
    pub fn resume(self: &Rc<Self>) {
        self.paused.set(false);
        // Time that passed in a pause is not the clients'.
        self.waiting.restart(Instant::now());
        for server in self.idle.take() {
            self.give(server);
        }
        self.retry_at.set(None);
        self.connect_if_needed();
    }

    /// Every connection of today is closed as soon as it is free.
    pub fn renew(self: &Rc<Self>) {
        self.generation.set(self.generation.get() + 1);
        let idle = self.idle.take();
        idle.into_iter().for_each(super::server_leaves);
    }

    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub fn open(&self) -> usize {
        self.open.get()
    }

    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    pub fn connecting(&self) -> usize {
        self.connecting.get()
    }

    /// Connections that a session has.
    pub fn active(&self) -> usize {
        self.open
            .get()
            .saturating_sub(self.idle() + self.connecting())
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How long the first in the queue waits.
    pub fn longest_wait(&self) -> Duration {
        let first = self.waiting.first();
        first.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Looks at each server that rests.
    pub fn each_idle(&self, look: impl FnMut(&Server)) {
        self.idle
            .borrow()
            .iter()
            .map(|server| &**server)
            .for_each(look);
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.borrow().clone()
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.key.database, self.key.user)
    }
}
