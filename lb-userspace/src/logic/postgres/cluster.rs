//! One `[[database]]` as all threads share it: its servers, the picture of them, what is counted.
//!
//! The watch writes the picture, sessions read it. Whoever waits for a primary waits for a turn: the
//! picture itself changes with every heartbeat, a turn is a change that somebody waits for.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use anyhow::Context;
use tokio::sync::watch;

use super::epochs::Epochs;
use super::picture::Picture;
use crate::config::{self, DbServer, ServerTls};
use crate::transport::tls;
use crate::upstream::postgres::Connector;
use crate::wire::postgres::link::Heartbeat;

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
    /// Second copies of reads that it was sent.
    pub hedges: Count,
    /// Those of them that it answered first.
    pub hedges_won: Count,
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
    tls: ServerTls,
    client_config: Option<Arc<rustls::ClientConfig>>,
    picture: RwLock<Arc<Picture>>,
    /// Held while a picture is drawn after another.
    drawing: Mutex<()>,
    epochs: Arc<Epochs>,
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
    /// `epochs`: what a former life of the daemon knew.
    ///
    /// # Errors
    /// If the servers cannot be what is configured.
    pub fn new(config: &config::Database, epochs: &Arc<Epochs>) -> anyhow::Result<Self> {
        let shards: Vec<_> = config.servers.iter().map(|server| server.shard).collect();
        let persisted = |shard| epochs.of(&config.name, shard);
        let picture = Picture::new(&shards, persisted, Instant::now())
            .with_context(|| format!("[[database]] {}", config.name))?;
        Ok(Self {
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
            tls: config.server_tls,
            client_config: tls::client_config(config.server_tls, config.server_ca.as_deref())
                .with_context(|| format!("[[database]] {}", config.name))?,
            picture: RwLock::new(Arc::new(picture)),
            drawing: Mutex::new(()),
            epochs: Arc::clone(epochs),
            turns: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
        })
    }

    /// The way to a server's proxy.
    pub fn connector(&self, server: usize) -> Rc<Connector> {
        let address = self.servers[server].address;
        Rc::new(Connector {
            server: DbServer::Tcp(address.ip().to_string(), address.port()),
            tls: self.tls,
            client_config: self.client_config.clone(),
        })
    }

    /// The picture as it is now.
    pub fn view(&self) -> Arc<Picture> {
        Arc::clone(&self.picture.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// By server: which shard it holds.
    pub fn shards(&self) -> Box<[usize]> {
        let view = self.view();
        let servers = 0..self.servers.len();
        servers.map(|server| view.shard_of(server)).collect()
    }

    /// Notices turns from now on.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// A heartbeat came.
    pub fn heard(&self, server: usize, beat: Heartbeat) {
        self.draw(|picture, now| {
            if let Some((shard, epoch)) = picture.heard(server, beat, now) {
                self.epochs.keep(&self.name, shard, epoch);
            }
        });
    }

    /// There is no link to a server's proxy.
    pub fn unlinked(&self, server: usize, why: String) {
        self.draw(|picture, _| picture.unlinked(server, why));
    }

    /// Time passed.
    pub fn tick(&self) {
        self.draw(|_, _| {});
    }

    fn draw(&self, change: impl FnOnce(&mut Picture, Instant)) {
        let _drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.view();
        let mut new = Picture::clone(&old);
        let now = Instant::now();
        change(&mut new, now);
        new.decide(now);
        let new = Arc::new(new);
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        if new.turn != old.turn {
            self.report(&old, &new);
            self.turns.send_replace(new.turn);
        }
    }

    /// Logs what is new.
    fn report(&self, old: &Picture, new: &Picture) {
        for (at, server) in self.servers.iter().enumerate() {
            match (old.is_usable(at), new.is_usable(at)) {
                (false, true) => {
                    let role = new.role(at);
                    tracing::info!(
                        database = self.name,
                        server = server.name,
                        ?role,
                        "can be used"
                    );
                }
                (true, false) => {
                    let why = new.why(at);
                    tracing::warn!(database = self.name, server = server.name, why, "not used");
                }
                (false, false) if old.condition(at) != new.condition(at) => {
                    let why = new.why(at);
                    tracing::debug!(
                        database = self.name,
                        server = server.name,
                        why,
                        "still not used"
                    );
                }
                _ => {}
            }
        }
        for shard in 0..new.shards() {
            let number = new.number(shard);
            match (old.primary(shard), new.primary(shard)) {
                (old, new) if old == new => {}
                (_, Ok(at)) => {
                    let epoch = new.attested(shard).unwrap_or_default();
                    let server = &self.servers[at].name;
                    tracing::info!(database = self.name, shard = number, server, %epoch, "is primary");
                }
                (_, Err(why)) => {
                    tracing::warn!(database = self.name, shard = number, %why, "no primary");
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
        let servers = self.servers.iter().enumerate();
        let reasons: Vec<_> = servers
            .filter(|(at, _)| !view.is_usable(*at))
            .map(|(at, server)| format!("{}: {}", server.name, view.why(at)))
            .collect();
        Err(format!("database {}: {}", self.name, reasons.join("; ")))
    }
}
