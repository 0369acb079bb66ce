//! The Redis listener: clients see one Redis; keys are spread over layer one, and layer two stands in
//! for what fails.
//!
//! `authority` decides, on the main thread, who serves whose keys, and says so in a [`View`]. Each
//! thread that serves has an [`Engine`](engine::Engine) of its own, an event loop over its clients and
//! its connections to all servers; it shares nothing with the others but that view and counters.

mod acl;
mod answered;
mod authority;
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
mod place;
mod private;
mod route;
mod shown;
mod spare;
mod stream;
mod strict;
mod subscription;
mod transaction;
mod view;
mod wire_io;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use self::acl::Users;
use self::authority::Knowledge;
use self::counts::Counts;
use self::credentials::Credentials;
use self::engine::Engine;
use self::place::Placement;
use self::view::View;
use super::{Exposition, Phase, Tier, Worker};
use crate::config::{Cache, LogicConfig, LogicResp, WriteMode};
use crate::control::{CacheStatus, TierStatus};
use crate::runtime;
use crate::transport::tls;

/// How often a thread looks after silences and queues while anything is under way.
const TICK: Duration = Duration::from_millis(5);
/// The same while nothing is.
const TICK_IDLE: Duration = Duration::from_millis(100);

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
        }))
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The sockets of one more thread.
    fn own_listeners(&self) -> Vec<(TcpListener, bool)> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.pop().unwrap_or_default()
    }

    async fn run(self: Arc<Self>, worker: Worker) -> anyhow::Result<()> {
        let own = self.own_listeners();
        let mut phase = worker.phase;
        let mut views = self.view.subscribe();
        let mut settings = self.settings.subscribe();
        let mut engine = Engine::new(Arc::clone(&self), own)?;
        engine.open_lanes();
        let readiness = watch_descriptor(engine.poll.as_raw_fd())?;
        let mut events = Engine::events();
        let tick = tokio::time::sleep(TICK);
        tokio::pin!(tick);
        let mut is_busy = true;
        loop {
            tokio::select! {
                biased;
                ready = readiness.readable() => {
                    let mut ready = ready?;
                    engine.turn(&mut events)?;
                    ready.clear_ready();
                    // Out of a long pause: silences are looked for at once.
                    if !is_busy && engine.is_waiting() {
                        is_busy = true;
                        tick.as_mut().reset(tokio::time::Instant::now() + TICK);
                    }
                }
                () = &mut tick => {
                    engine.now();
                    engine.tick();
                    is_busy = engine.is_waiting() || engine.is_draining;
                    let pause = if is_busy { TICK } else { TICK_IDLE };
                    tick.as_mut().reset(tokio::time::Instant::now() + pause);
                }
                _ = views.changed() => {
                    engine.now();
                    engine.take_view();
                    engine.settle();
                }
                _ = settings.changed() => engine.take_settings(),
                _ = phase.changed() => {
                    let now = *phase.borrow();
                    if now >= Phase::Draining {
                        engine.drain();
                    }
                    if now == Phase::Stopped {
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor wants a descriptor that cannot be closed, which mio does not lend; the \
              event loop outlives this"
)]
fn watch_descriptor(descriptor: RawFd) -> std::io::Result<AsyncFd<Descriptor>> {
    AsyncFd::with_interest(Descriptor(descriptor), Interest::READABLE)
}

/// The descriptor of the event loop, which is ready when one of its sockets is.
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Tier for Resp {
    fn name(&self) -> &'static str {
        "resp"
    }

    fn serve(self: Arc<Self>, worker: Worker) -> LocalBoxFuture<'static, ()> {
        async move {
            if let Err(error) = self.run(worker).await {
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
