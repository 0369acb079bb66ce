//! Where Prometheus fetches the metrics of any of the daemons. What they are is the daemon's to say.

use std::convert::Infallible;
use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Scrapes served at a time; a further one waits in the listener's backlog.
const SCRAPES_MAX: usize = 16;

/// How long a scraper may take to send its request, and to read the answer.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The running listener; stops when dropped.
#[derive(Debug)]
pub struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Listens at `address`; `render` makes the text of each scrape of the daemon called `name`, or
    /// nothing if that daemon is about to end.
    ///
    /// # Errors
    /// If the address cannot be listened at.
    pub async fn bind<R, Rendering>(
        address: SocketAddr,
        name: &'static str,
        render: R,
    ) -> io::Result<Self>
    where
        R: Fn() -> Rendering + Send + Sync + 'static,
        Rendering: Future<Output = Option<String>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        Ok(Self(tokio::spawn(serve(listener, name, render))))
    }

    /// As [`Listener::bind`], on the thread that calls, which is the one that has the numbers.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn bind_local(
        address: SocketAddr,
        name: &'static str,
        render: impl Fn() -> String + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let render = move || future::ready(Some(render()));
        Ok(Self(tokio::task::spawn_local(serve(
            listener, name, render,
        ))))
    }
}

async fn serve<R, Rendering>(listener: TcpListener, name: &'static str, render: R)
where
    R: Fn() -> Rendering,
    Rendering: Future<Output = Option<String>>,
{
    let mut scrapes = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = scrapes.next() => {}
            accepted = listener.accept(), if scrapes.len() < SCRAPES_MAX => match accepted {
                Ok((stream, _)) => scrapes.push(scrape(stream, name, &render)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn scrape<R, Rendering>(stream: TcpStream, name: &str, render: &R)
where
    R: Fn() -> Rendering,
    Rendering: Future<Output = Option<String>>,
{
    let service =
        service_fn(async |request| Ok::<_, Infallible>(answer(&request, name, render).await));
    let serve = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A scraper that goes away, or takes too long, is no error of ours.
    let _ = tokio::time::timeout(SCRAPE_TIMEOUT, serve).await;
}

async fn answer<R, Rendering>(
    request: &Request<Incoming>,
    name: &str,
    render: &R,
) -> Response<Full<Bytes>>
where
    R: Fn() -> Rendering,
    Rendering: Future<Output = Option<String>>,
{
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match render().await {
            Some(text) => (StatusCode::OK, text),
            None => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{name} is shutting down\n"),
            ),
        },
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
