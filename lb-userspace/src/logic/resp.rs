//! The Redis listener: clients see one Redis; keys are spread over layer one, and layer two stands in
//! for what fails.
//!
//! `authority` decides, on the main thread, who serves whose keys, and says so in a [`View`]. Each
//! thread that serves has an [`Engine`](engine::Engine) of its own, an event loop over its clients and
//! its connections to all servers; it shares nothing with the others but that view and counters.

mod acl;
mod answered;
mod authority;
mod balance;
mod client;
mod client_io;
mod counts;
mod credentials;
mod dispatch;
mod engine;
mod failure;
mod glob;
mod join;
mod known;
mod link;
mod more;
mod pace;
mod passing;
mod peers;
mod place;
mod private;
mod route;
mod several;
mod shown;
mod spare;
mod stream;
mod strict;
mod subscription;
mod thread;
mod transaction;
mod view;
mod wire_io;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use self::acl::Users;
use self::authority::Knowledge;
use self::counts::Counts;
use self::credentials::Credentials;
use self::peers::Peer;
use self::place::Placement;
use self::view::View;
use super::{Exposition, Tier, Worker};
use crate::config::{Cache, LogicConfig, LogicResp, WriteMode};
use crate::control::{CacheStatus, TierStatus};
use crate::runtime;
use crate::transport::tls;

/// What all threads of the tier share.
pub(super) struct Resp {
    settings: watch::Sender<Arc<Settings>>,
    view: watch::Sender<Arc<View>>,
    counts: Counts,
    knowledge: Knowledge,
    next_client: AtomicU64,
    started: Instant,
    listen: Vec<SocketAddr>,
    listeners: Mutex<Vec<Vec<(TcpListener, bool)>>>,
    /// The threads, as they see each other.
    peers: Vec<Peer>,
}

/// What the configuration says, as the threads use it.
struct Settings {
    listener: LogicResp,
    cache: Cache,
    placement: Placement,
    users: Users,
    credentials: Credentials,
    connector: Option<Arc<ClientConfig>>,
    acceptor: Option<Arc<ServerConfig>>,
    is_sync: bool,
}

impl Settings {
    fn new(config: &LogicConfig) -> anyhow::Result<Self> {
        let listener = config.logic.resp.clone().context("has no listener")?;
        let cache = config.cache.clone().context("has no [cache]")?;
        let acceptor = match (&config.logic.tls, listener.tls_listen) {
            (Some(files), Some(_)) => Some(tls::server_config(files)?),
            _ => None,
        };
        Ok(Self {
            placement: Placement::new(&cache),
            users: Users::load(listener.users_file.as_deref())?,
            credentials: Credentials::load(cache.credentials_file.as_deref())?,
            connector: tls::client_config(cache.server_tls, cache.server_ca.as_deref())?,
            acceptor,
            is_sync: cache.writes == WriteMode::Sync,
            listener,
            cache,
        })
    }
}

impl Resp {
    /// Listens at `[logic].resp.listen`.
    ///
    /// # Errors
    /// The kernel's, and those of the files that the configuration names.
    pub fn listen(config: &LogicConfig, threads: usize) -> anyhow::Result<Arc<dyn Tier>> {
        let settings = Settings::new(config)?;
        let mut listeners: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
        let places = [
            (Some(settings.listener.listen), false),
            (settings.listener.tls_listen, true),
        ];
        let places = places.into_iter();
        let places: Vec<_> = places.filter_map(|(at, tls)| Some((at?, tls))).collect();
        for (address, is_tls) in &places {
            let sockets = runtime::listen_shared(*address, threads)
                .with_context(|| format!("cannot listen at {address}"))?;
            for (all, socket) in listeners.iter_mut().zip(sockets) {
                all.push((socket, *is_tls));
            }
        }
        let view = authority::first_view(&settings.cache);
        let knowledge = Knowledge::new(&settings.cache);
        Ok(Arc::new(Self {
            settings: watch::channel(Arc::new(settings)).0,
            view: watch::channel(Arc::new(view)).0,
            counts: Counts::default(),
            knowledge,
            next_client: AtomicU64::new(1),
            started: Instant::now(),
            listen: places.into_iter().map(|(address, _)| address).collect(),
            listeners: Mutex::new(listeners),
            peers: (0..threads).map(|_| Peer::default()).collect(),
        }))
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The place and the sockets of one more thread.
    fn own_listeners(&self) -> (usize, Vec<(TcpListener, bool)>) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = listeners.pop().unwrap_or_default();
        (listeners.len(), own)
    }
}

impl Tier for Resp {
    fn name(&self) -> &'static str {
        "resp"
    }

    fn serve(self: Arc<Self>, worker: Worker) -> LocalBoxFuture<'static, ()> {
        async move {
            if let Err(error) = thread::run(self, worker).await {
                tracing::error!("a thread of the Redis listener has failed: {error:#}");
            }
        }
        .boxed_local()
    }

    fn background(self: Arc<Self>) -> LocalBoxFuture<'static, ()> {
        authority::run(self).boxed_local()
    }

    fn ready(&self) -> Option<Result<(), String>> {
        Some(self.can_serve())
    }

    fn clients(&self) -> u64 {
        self.counts
            .clients
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    fn reload(&self, config: &LogicConfig) -> anyhow::Result<()> {
        self.change(config)
    }

    fn status(&self) -> TierStatus {
        self.shown()
    }

    fn cache(&self) -> Option<CacheStatus> {
        Some(self.cache_shown())
    }

    fn expose(&self, out: &mut Exposition) {
        self.exposed(out);
    }
}
