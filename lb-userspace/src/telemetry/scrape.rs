//! Where Prometheus fetches the metrics of a daemon that runs on one thread: `lb logic`, `lb db-proxy`.
//! What they are is the daemon's to say.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a scraper may take to send its request, and to read the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The running listener; stops when dropped.
#[derive(Debug)]
pub struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Listens at `address`, on the thread that calls; `render` makes the text of each scrape of the
    /// daemon called `name`.
    ///
    /// # Errors
    /// If the address cannot be listened at.
    pub async fn bind(
        address: SocketAddr,
        name: &'static str,
        render: impl Fn() -> String + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let accepting = accept(listener, name, render);
        Ok(Self(tokio::task::spawn_local(accepting)))
    }
}

/// One scrape after the other: there are few, and each takes a moment.
async fn accept(listener: TcpListener, name: &'static str, render: impl Fn() -> String) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = service_fn(|request| {
            let answer = answer(&request, name, &render);
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

fn answer(
    request: &Request<Incoming>,
    name: &str,
    render: impl Fn() -> String,
) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, render()),
        (&Method::GET, "/") => (StatusCode::OK, format!("{name}; metrics are at /metrics\n")),
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
