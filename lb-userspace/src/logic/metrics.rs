//! Prometheus text at `[logic].metrics`, from the main thread: a busy thread that serves does not
//! delay it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Daemon, Exposition, Kind};

/// How long a scraper may take to send its request, and to read the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The running listener; stops when dropped.
pub(super) struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Listens at `address`.
    pub async fn bind(address: SocketAddr, daemon: Arc<Daemon>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self(tokio::task::spawn_local(accept(listener, daemon))))
    }
}

/// One scrape after the other: there are few, and each takes a moment.
async fn accept(listener: TcpListener, daemon: Arc<Daemon>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = service_fn(|request| {
            let answer = answer(&request, &daemon);
            async move { Ok::<_, Infallible>(answer) }
        });
        let serve = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A scraper that goes away, or takes too long, is no error of ours.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, serve).await;
    }
}

fn answer(request: &Request<Incoming>, daemon: &Daemon) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, render(daemon)),
        (&Method::GET, "/") => (StatusCode::OK, "lb logic; metrics are at /metrics\n".into()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

fn render(daemon: &Daemon) -> String {
    let mut out = Exposition::default();
    let truth = |truth: bool| f64::from(u8::from(truth));
    let ready = truth(daemon.ready().is_ok());
    out.single("ready", Kind::Gauge, "1 while /readyz says so.", ready);
    out.single(
        "threads",
        Kind::Gauge,
        "Threads that serve.",
        daemon.threads as f64,
    );
    out.head("tier_ready", Kind::Gauge, "1 while the tier can serve.");
    for tier in &daemon.tiers {
        if let Some(ready) = tier.ready() {
            out.line("tier_ready", &[("tier", tier.name())], truth(ready.is_ok()));
        }
    }
    out.head("clients", Kind::Gauge, "Clients connected.");
    for tier in &daemon.tiers {
        out.line("clients", &[("tier", tier.name())], tier.clients() as f64);
    }
    for tier in &daemon.tiers {
        tier.expose(&mut out);
    }
    out.finish()
}
