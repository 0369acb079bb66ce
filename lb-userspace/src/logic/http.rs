//! The HTTP listener: `/healthz` says that the daemon is alive, `/readyz` that it can serve, so that
//! a gateway sends flows elsewhere when it cannot.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Daemon, Exposition, Kind, Phase, Tier, Worker};
use crate::config::LogicConfig;
use crate::control::TierStatus;
use crate::runtime;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most connections, all threads together; further ones are closed at once and counted.
const CLIENTS_MAX: u64 = 10_000;

/// The tier.
pub(super) struct Http {
    listen: SocketAddr,
    listeners: Mutex<Vec<TcpListener>>,
    phase: watch::Receiver<Phase>,
    /// Who knows whether the others can serve.
    daemon: OnceLock<Weak<Daemon>>,
    clients: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
}

/// Lets every HTTP listener ask `daemon` whether it can serve.
pub(super) fn tell(daemon: &Arc<Daemon>) {
    for tier in &daemon.tiers {
        tier.meet(Arc::downgrade(daemon));
    }
}

impl Http {
    /// Listens at `[logic].http.listen`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen(
        config: &LogicConfig,
        threads: usize,
        phase: watch::Receiver<Phase>,
    ) -> anyhow::Result<Arc<dyn Tier>> {
        let http = config.logic.http.as_ref().context("has no listener")?;
        let listeners = runtime::listen_shared(http.listen, threads)
            .with_context(|| format!("cannot listen at {}", http.listen))?;
        Ok(Arc::new(Self {
            listen: http.listen,
            listeners: Mutex::new(listeners),
            phase,
            daemon: OnceLock::new(),
            clients: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, mut phase: watch::Receiver<Phase>) {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return;
        };
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn_local(Arc::clone(&self).connection(stream));
                        while connections.try_join_next().is_some() {}
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                // Health checks are answered, with 503, as long as clients are served.
                _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        if self.clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.clients.fetch_add(1, Ordering::Relaxed);
        let service = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        // A client that goes away is no error of ours.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let (status, body) = match request.uri().path() {
            "/healthz" if is_read => (StatusCode::OK, "alive\n".to_owned()),
            "/readyz" if is_read => match self.ready_all() {
                Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/healthz" | "/readyz" => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "there is no such thing\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }

    fn ready_all(&self) -> Result<(), String> {
        if *self.phase.borrow() != Phase::Serving {
            return Err("stopping".into());
        }
        match self.daemon.get().and_then(Weak::upgrade) {
            Some(daemon) => daemon.ready(),
            None => Err("starting".into()),
        }
    }
}

impl Tier for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn serve(self: Arc<Self>, worker: Worker) -> LocalBoxFuture<'static, ()> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let listener = listeners.pop();
        drop(listeners);
        async move {
            if let Some(listener) = listener {
                self.accept(listener, worker.phase).await;
            }
        }
        .boxed_local()
    }

    fn background(self: Arc<Self>) -> LocalBoxFuture<'static, ()> {
        futures::future::pending().boxed_local()
    }

    fn ready(&self) -> Option<Result<(), String>> {
        None
    }

    /// Health checks hold connections open for as long as we live: nobody waits for them to leave.
    fn clients(&self) -> u64 {
        0
    }

    fn reload(&self, config: &LogicConfig) -> anyhow::Result<()> {
        let listen = config.logic.http.as_ref().map(|http| http.listen);
        if listen != Some(self.listen) {
            tracing::warn!(
                "still listening at {}: another needs a restart",
                self.listen
            );
        }
        Ok(())
    }

    fn meet(&self, daemon: Weak<Daemon>) {
        let _ = self.daemon.set(daemon);
    }

    fn status(&self) -> TierStatus {
        TierStatus {
            name: self.name().into(),
            listen: vec![self.listen.to_string()],
            ready: true,
            reason: None,
            clients: self.clients.load(Ordering::Relaxed),
            counts: BTreeMap::from([
                ("requests".into(), self.requests.load(Ordering::Relaxed)),
                ("refused".into(), self.refused.load(Ordering::Relaxed)),
            ]),
        }
    }

    fn expose(&self, out: &mut Exposition) {
        let requests = self.requests.load(Ordering::Relaxed) as f64;
        out.single("http_requests_total", Kind::Counter, "Requests.", requests);
        let refused = self.refused.load(Ordering::Relaxed) as f64;
        let help = "Connections closed because there were too many.";
        out.single("http_refused_total", Kind::Counter, help, refused);
    }
}
