//! One `[[database]]` as all threads share it: its servers, the picture of them, what is counted.
//!
//! The watch writes the picture, sessions read it. Whoever waits for a primary waits for a turn: the
//! picture itself changes with every heartbeat, a turn is a change that somebody waits for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::watch;

use super::view::{Seen, View};
use crate::config;
use crate::wire::postgres::link::Epoch;

/// The most statements that wait for a primary, of one database, all threads together.
pub(super) const WAITING_MAX: usize = 10_000;

/// A count that all threads add to.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of one server.
#[derive(Debug, Default)]
pub(super) struct ServerCounts {
    /// Segments that were known reads and were answered by it.
    pub reads: Count,
    /// Segments of which it was not known that they only read.
    pub writes: Count,
    /// Reads that it refused because they were no reads, or because recovery was in their way.
    pub redirects: Count,
    /// Reads that it had to be asked for and that another had to answer: it was lost meanwhile.
    pub repeats: Count,
    /// Reads for which it had not replayed enough.
    pub behind: Count,
    /// Connections that broke while a client had them.
    pub lost: Count,
}

/// What is counted of a whole database.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Statements that waited for a primary.
    pub waits: Count,
    /// Those of them that waited in vain, or were too many to wait.
    pub waits_failed: Count,
    /// Answers that broke off after the client had a part of them.
    pub broken_off: Count,
    /// Transactions that were lost and are certainly rolled back (08006).
    pub rolled_back: Count,
    /// Commits of which nobody knows whether they happened (08007).
    pub unknown_commits: Count,
    /// Statements of which nobody knows whether they happened (40003).
    pub unknown_statements: Count,
    /// Sessions whose writes are not there any more after a failover.
    pub lost_writes: Count,
    /// Sessions that were told that it is not known whether their last write is still there.
    pub lost_positions: Count,
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub name: String,
    pub address: SocketAddr,
    pub counts: ServerCounts,
}

/// One `[[database]]`.
#[derive(Debug)]
pub(super) struct Cluster {
    pub name: String,
    /// Which names of a client's startup packet it serves; `*` is every one.
    pub databases: Vec<String>,
    pub servers: Vec<Server>,
    pub counts: Counts,
    seen: Mutex<Vec<Seen>>,
    view: RwLock<Arc<View>>,
    turns: watch::Sender<u64>,
    waiting: AtomicUsize,
}

/// A place among those that wait for a primary; free again when dropped.
pub(super) struct Waiting<'c>(&'c Cluster);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cluster {
    /// `attested`: what a former life of the daemon knew of each shard.
    pub fn new(config: &config::Database, attested: impl Fn(u32) -> Epoch) -> Self {
        let shards: Vec<_> = config.servers.iter().map(|server| server.shard).collect();
        Self {
            name: config.name.clone(),
            databases: config.databases.clone(),
            servers: config
                .servers
                .iter()
                .map(|server| Server {
                    name: server.name.clone(),
                    address: server.address,
                    counts: ServerCounts::default(),
                })
                .collect(),
            counts: Counts::default(),
            seen: Mutex::new(vec![Seen::default(); shards.len()]),
            view: RwLock::new(Arc::new(View::new(&shards, attested))),
            turns: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The picture as it is now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notices turns from now on.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// What is seen of a server changes.
    pub fn see(&self, server: usize, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut seen[server]);
        self.draw(&seen);
    }

    /// Time passed.
    pub fn tick(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.draw(&seen);
    }

    fn draw(&self, seen: &[Seen]) {
        let old = self.view();
        let new = Arc::new(old.after(seen, Instant::now()));
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        if new.turn != old.turn {
            self.report(&old, &new);
            self.turns.send_replace(new.turn);
        }
    }

    /// Logs what is new.
    fn report(&self, old: &View, new: &View) {
        for (at, server) in self.servers.iter().enumerate() {
            match (&old.members[at].usable, &new.members[at].usable) {
                (Err(_), Ok(())) => {
                    let role = new.members[at].role;
                    tracing::info!(
                        database = self.name,
                        server = server.name,
                        ?role,
                        "can be used"
                    );
                }
                (Ok(()), Err(why)) => {
                    tracing::warn!(database = self.name, server = server.name, %why, "not used");
                }
                _ => {}
            }
        }
        for (old, new) in old.shards.iter().zip(&new.shards) {
            match (old.primary, new.primary) {
                (old, new) if old == new => {}
                (_, Ok(at)) => tracing::info!(
                    database = self.name, shard = new.number,
                    server = self.servers[at].name, epoch = %new.attested, "is primary"
                ),
                (_, Err(why)) => {
                    tracing::warn!(database = self.name, shard = new.number, %why, "no primary");
                }
            }
        }
    }

    /// A place to wait at; `None` if too many wait already.
    pub fn queue(&self) -> Option<Waiting<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Waiting(self);
        (before < WAITING_MAX).then_some(place)
    }

    /// How many wait for a primary.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether anything can be served: some server can be read.
    pub fn ready(&self) -> Result<(), String> {
        let view = self.view();
        if (0..self.servers.len()).any(|server| view.is_usable(server)) {
            return Ok(());
        }
        let reasons: Vec<_> = self
            .servers
            .iter()
            .zip(&view.members)
            .filter_map(|(server, member)| {
                let why = member.usable.as_ref().err()?;
                Some(format!("{}: {why}", server.name))
            })
            .collect();
        Err(format!("database {}: {}", self.name, reasons.join("; ")))
    }
}
