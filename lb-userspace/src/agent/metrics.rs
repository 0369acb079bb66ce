//! Prometheus text at `[agent].metrics`: the same numbers as `lb status`, under Prometheus's own
//! conventions for names and units.

mod exposition;

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
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::control::server::Call;
use crate::control::{self, Answer, Status};

/// Scrapes served at a time; a further one waits in the listener's backlog.
const CONNECTIONS_MAX: usize = 16;

/// How long a scraper may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Content type of the text format, version 0.0.4.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The running listener; stops when dropped.
#[derive(Debug)]
pub(super) struct Listener {
    _tasks: JoinSet<()>,
}

impl Listener {
    /// Listens at `address` and asks the gateway for its status at each scrape.
    pub async fn bind(address: SocketAddr, calls: mpsc::Sender<Call>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, calls));
        Ok(Self { _tasks: tasks })
    }
}

async fn accept(listener: TcpListener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let calls = calls.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, calls.clone()));
            // A scraper that goes away is no error of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: mpsc::Sender<Call>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match ask(&calls).await {
            Some(status) => (StatusCode::OK, exposition::render(&status)),
            None => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the agent is shutting down\n".into(),
            ),
        },
        (&Method::GET, "/") => (StatusCode::OK, "lb agent; metrics are at /metrics\n".into()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(CONTENT_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

async fn ask(calls: &mpsc::Sender<Call>) -> Option<Box<Status>> {
    let (answers, mut answered) = mpsc::channel(1);
    calls
        .send(Call {
            request: control::Request::Status,
            answers,
        })
        .await
        .ok()?;
    match answered.recv().await {
        Some(Answer::Status(status)) => Some(status),
        _ => None,
    }
}
