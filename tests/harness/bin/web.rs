//! `lbt-web`: a real HTTP/1.1 server for backend namespaces, which says who answered.
//!
//! `GET /` its name · `GET /readyz` 200 or 503 · `POST /admin/ready?on=false` switches that ·
//! `GET /slow?ms=N` answers late · `GET /bytes?n=N` answers much. With `--talk` it also keeps plain
//! TCP connections, on which it answers whatever comes with a line that is its name. It prints
//! `listening` when it does, and ends when its standard input is closed, so that it never outlives
//! its owner.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The largest answer that `/bytes` gives.
const BYTES_MAX: usize = 64 << 20;
/// The longest wait that `/slow` takes.
const SLOW_MS_MAX: u64 = 60_000;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// An HTTP server that says who answered.
#[derive(Parser)]
struct Options {
    /// What it calls itself.
    #[arg(long)]
    name: String,
    /// Where to serve HTTP; may be given more than once.
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// Where to answer on plain TCP connections with the name; may be given more than once.
    #[arg(long)]
    talk: Vec<SocketAddr>,
    /// Where to answer UDP datagrams with the name and what was sent; may be given more than once.
    #[arg(long)]
    udp: Vec<SocketAddr>,
}

struct Server {
    name: String,
    header: HeaderValue,
    is_ready: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let server = Arc::new(Server {
        header: HeaderValue::from_str(&options.name).context("--name")?,
        name: options.name,
        is_ready: AtomicBool::new(true),
    });
    for address in options.listen {
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(accept(listener, Arc::clone(&server)));
    }
    for address in options.udp {
        let socket = UdpSocket::bind(address)
            .await
            .with_context(|| format!("cannot answer UDP on {address}"))?;
        tokio::spawn(echo(socket, Arc::clone(&server)));
    }
    for address in options.talk {
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(accept_talks(listener, Arc::clone(&server)));
    }
    println!("listening");
    until_stdin_closes().await
}

/// The owner holds the other end and never writes: the end of input means that it is gone.
async fn until_stdin_closes() -> Result<()> {
    let (closed, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = closed.send(());
    });
    let _ = told.await;
    Ok(())
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        // Out of descriptors or a connection that went away: the next one may do better.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(serve(stream, Arc::clone(&server)));
    }
}

async fn accept_talks(listener: TcpListener, server: Arc<Server>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(talk(stream, Arc::clone(&server)));
    }
}

/// One line for each piece that arrives: a client that waits for the answer before it sends again
/// gets one line for each piece that it sent.
async fn talk(mut stream: TcpStream, server: Arc<Server>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let line = server.named();
    let mut piece = [0; 64];
    while stream.read(&mut piece).await? > 0 {
        stream.write_all(&line).await?;
    }
    Ok(())
}

async fn serve(stream: TcpStream, server: Arc<Server>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    // A client that goes away in the middle is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn echo(socket: UdpSocket, server: Arc<Server>) {
    let mut datagram = vec![0; 65_536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        let answer = [server.name.as_bytes(), b" ", &datagram[..length]].concat();
        let _ = socket.send_to(&answer, from).await;
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let number = |key| query(&request, key).and_then(|value| value.parse::<u64>().ok());
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => (StatusCode::OK, self.named()),
            (&Method::GET, "/readyz") if self.is_ready.load(Ordering::Relaxed) => {
                (StatusCode::OK, Bytes::from_static(b"ready\n"))
            }
            (&Method::GET, "/readyz") => (
                StatusCode::SERVICE_UNAVAILABLE,
                Bytes::from_static(b"not ready\n"),
            ),
            (&Method::POST, "/admin/ready") => {
                let on = query(&request, "on") != Some("false");
                self.is_ready.store(on, Ordering::Relaxed);
                (StatusCode::OK, self.named())
            }
            (&Method::GET, "/slow") => {
                let wait = number("ms").unwrap_or(0).min(SLOW_MS_MAX);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                (StatusCode::OK, self.named())
            }
            (&Method::GET, "/bytes") => {
                let length = number("n")
                    .and_then(|n| usize::try_from(n).ok())
                    .unwrap_or(0);
                (
                    StatusCode::OK,
                    Bytes::from(vec![b'.'; length.min(BYTES_MAX)]),
                )
            }
            _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"no such path\n")),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert("x-backend", self.header.clone());
        response
    }

    fn named(&self) -> Bytes {
        Bytes::from(format!("{}\n", self.name))
    }
}

fn query<'a>(request: &'a Request<Incoming>, key: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}
