//! Who serves whose keys: the one place that decides, on the main thread.
//!
//! One task looks after each server: who answers there, in which role, with what data, and how far its
//! copy is. With Sentinel, one task follows each Sentinel; what they agree on is done. Without, this
//! daemon decides by itself. Whatever is decided becomes a new [`View`].

mod data;
mod info;
mod local;
mod look;
mod sentinel;
mod spare_out;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Resp;
use super::view::{Server, Serving, View};
use crate::config::{Authority, Cache};
use crate::upstream::redis::Access;

pub(super) use self::sentinel::Verdict;

/// From one look at a server to the next.
const LOOK: Duration = Duration::from_millis(100);
/// How long an answer to a look may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a server does not answer until it has failed, where nobody else decides.
const VERDICT: Duration = Duration::from_secs(1);
/// For how long a promotion counts as a part of the storm that it may belong to.
const STORM: Duration = Duration::from_secs(60);

/// What is known of the servers beyond the view: for decisions, and to be shown.
pub(super) struct Knowledge {
    pub servers: Vec<ServerKnowledge>,
    pub sentinels: Vec<Mutex<SentinelNews>>,
    pub emptied: AtomicU64,
    pub promotions: AtomicU64,
}

/// What is known of one server.
#[derive(Default)]
pub(super) struct ServerKnowledge {
    /// Threads that found it not answering, since it answered last.
    pub complaints: AtomicU64,
    pub news: Mutex<News>,
    /// It has not answered for longer than [`VERDICT`].
    pub is_lost: AtomicBool,
    /// Wakes who looks after it.
    pub call: tokio::sync::Notify,
}

/// The state of a server, as it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    pub state: &'static str,
    pub reason: String,
    pub since: Timestamp,
    pub run_id: Option<String>,
    /// How far its copy may be behind.
    pub lag: Option<Duration>,
    pub copy_address: Option<SocketAddr>,
    pub emptied: u64,
    pub promotions: u64,
    pub promoted: Option<Instant>,
}

/// What a Sentinel said last.
#[derive(Clone, Debug, Default)]
pub(super) struct SentinelNews {
    pub is_connected: bool,
    pub news: Option<String>,
    /// Of each server of layer one.
    pub verdicts: Vec<Option<Verdict>>,
}

impl Knowledge {
    pub fn new(cache: &Cache) -> Self {
        let servers = cache.primaries.len() + cache.spares.len();
        let sentinel = || {
            Mutex::new(SentinelNews {
                verdicts: vec![None; cache.primaries.len()],
                ..SentinelNews::default()
            })
        };
        Self {
            servers: (0..servers).map(|_| ServerKnowledge::default()).collect(),
            sentinels: cache.sentinels.iter().map(|_| sentinel()).collect(),
            emptied: AtomicU64::new(0),
            promotions: AtomicU64::new(0),
        }
    }
}

impl ServerKnowledge {
    pub fn news(&self) -> News {
        self.news
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Another server took its writes.
    pub fn promoted(&self) {
        self.change(|news| {
            news.promotions += 1;
            news.promoted = Some(Instant::now());
        });
    }

    /// A state that is shown; it begins now if it is another.
    pub fn show(&self, state: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.change(|news| {
            if news.state != state {
                news.since = Timestamp::now();
                tracing::debug!(state, reason, "a cache server");
            }
            news.state = state;
            news.reason = reason;
        });
    }
}

/// What the configuration says, before anything was seen.
pub(super) fn first_view(cache: &Cache) -> View {
    let addresses = cache.primaries.iter().map(|primary| primary.address);
    let all = addresses.chain(cache.spares.iter().map(|spare| spare.address));
    let server = |writer| Server {
        writer,
        epoch: 0,
        copy: None,
        copy_run_id: None,
        serving: Serving::Writer,
        run_id: None,
        vouched_until_ms: Arc::default(),
    };
    View {
        version: 1,
        servers: all.map(server).collect(),
    }
}

/// Runs for as long as the daemon does.
pub(super) async fn run(resp: Arc<Resp>) {
    let settings = resp.settings();
    let mut tasks = tokio::task::JoinSet::new();
    for server in 0..resp.knowledge.servers.len() {
        tasks.spawn_local(look::after(Arc::clone(&resp), server));
    }
    if settings.cache.authority == Authority::Sentinel {
        for sentinel in 0..resp.knowledge.sentinels.len() {
            tasks.spawn_local(sentinel::follow(Arc::clone(&resp), sentinel));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "who looks after the cache servers has failed");
        }
    }
}

impl Resp {
    /// A thread's connection to a server is good, or is not.
    pub(super) fn told(&self, server: usize, is_good: bool) {
        let Some(known) = self.knowledge.servers.get(server) else {
            return;
        };
        if is_good {
            known.complaints.store(0, Ordering::Relaxed);
        } else {
            known.complaints.fetch_add(1, Ordering::Relaxed);
            known.call.notify_one();
        }
    }

    /// Changes what is done with one server's keys, if that is a change.
    pub(super) fn decide(&self, server: usize, change: impl FnOnce(&mut Server) -> bool) {
        self.view.send_if_modified(|view| {
            let mut next = View::clone(view);
            let Some(decided) = next.servers.get_mut(server) else {
                return false;
            };
            let is_change = change(decided);
            if is_change {
                next.version += 1;
                *view = Arc::new(next);
            }
            is_change
        });
    }

    fn access(&self) -> Access {
        let settings = self.settings();
        Access {
            username: settings.credentials.username.clone(),
            password: settings.credentials.password.clone(),
            tls: settings.connector.clone(),
        }
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }

    /// Whether one more server's keys may go to layer two.
    pub(super) fn may_fail_over(&self, server: usize) -> bool {
        let settings = self.settings();
        let shares = settings.placement.shares(self.knowledge.servers.len());
        let own = shares.get(server).copied().unwrap_or_default();
        self.share_away(&shares, Some(server)) + own <= settings.cache.max_failover_share + 1e-9
    }

    /// The share of the keys whose server fails, is replaced by others, or was so a moment ago; one server
    /// left out. A copy that has stood in its primary's place for a while is a server as any other.
    pub(super) fn share_away(&self, shares: &[f64], but: Option<usize>) -> f64 {
        let view = self.view();
        let primaries = self.settings().cache.primaries.len();
        let is_away = |at: &usize| {
            let promoted = self.knowledge.servers[*at].news().promoted;
            view.servers[*at].serving != Serving::Writer
                || promoted.is_some_and(|at| at.elapsed() < STORM)
        };
        let others = (0..primaries).filter(|at| Some(*at) != but);
        // Not `sum`, which makes -0 of nothing.
        others.filter(is_away).fold(0.0, |sum, at| sum + shares[at])
    }
}
