//! From an accepted connection to a session: TLS, the startup packet, the proof of who it is, and
//! what a client is told of the server before its first query.

mod authenticate;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Registered;
use super::console::{self, Console};
use super::pool::PoolKey;
use super::server::Credentials;
use super::session::{End, Session, check_out, give};
use super::settings::Map;
use super::stream::Stream;
use super::{Proxy, cancel};
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::startup::{self, First, Startup};
use crate::wire::postgres::write;

/// How long a client may take to log in; PostgreSQL's `authentication_timeout`.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to read why it was refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client gets.
pub(super) enum Service {
    Session(Box<Session>),
    Console(Box<Console>),
}

/// Why nothing comes of a connection.
enum Refused {
    /// It was a cancel request, or the client went away.
    Silently,
    /// The client is told.
    Told(PgError),
}

impl From<std::io::Error> for Refused {
    fn from(_: std::io::Error) -> Self {
        Self::Silently
    }
}

impl From<PgError> for Refused {
    fn from(error: PgError) -> Self {
        Self::Told(error)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!("a login failed: {error:#}");
        Self::Told(PgError::fatal(
            "58000",
            "the proxy cannot check passwords now",
        ))
    }
}

/// Serves a connection until its client has logged in; `None` if it does not.
pub(super) async fn log_in(
    proxy: &Rc<Proxy>,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(Registered, Service)> {
    let _ = stream.set_nodelay(true);
    let mut stream = Some(Stream::Tcp(stream));
    let work = greet(proxy, &mut stream, address);
    let outcome = tokio::time::timeout(LOGIN_TIMEOUT, work).await;
    let refused = match outcome {
        Ok(Ok(service)) => {
            proxy.stats.logins.set(proxy.stats.logins.get() + 1);
            return Some(service);
        }
        Ok(Err(refused)) => refused,
        Err(_) => Refused::Silently,
    };
    if let (Refused::Told(error), Some(stream)) = (refused, &mut stream) {
        proxy
            .stats
            .logins_refused
            .set(proxy.stats.logins_refused.get() + 1);
        tracing::info!(client = %address, %error, "login refused");
        let mut message = Vec::new();
        error.write(&mut message);
        let words = async {
            stream.write_all(&message).await?;
            stream.flush().await?;
            stream.shutdown().await?;
            let mut rest = [0; 512];
            while stream.read(&mut rest).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, words).await;
    }
    None
}

async fn greet(
    proxy: &Rc<Proxy>,
    slot: &mut Option<Stream>,
    address: SocketAddr,
) -> Result<(Registered, Service), Refused> {
    let startup = first_packets(proxy, slot).await?;
    let stream = slot.as_mut().ok_or(Refused::Silently)?;
    let config = Rc::clone(&proxy.config.borrow());
    if proxy.connections.get() > config.pool.max_clients {
        let what = format!(
            "sorry, too many clients already ({})",
            config.pool.max_clients
        );
        return Err(PgError::fatal(code::TOO_MANY_CONNECTIONS, what).into());
    }
    let user = startup
        .get("user")
        .filter(|user| !user.is_empty())
        .ok_or_else(|| {
            let what = "no PostgreSQL user name specified in startup packet";
            PgError::fatal(code::INVALID_AUTHORIZATION, what)
        })?;
    let named = startup.get("database").filter(|name| !name.is_empty());
    let database = named.unwrap_or(user);
    if startup.get("replication").is_some_and(|word| !is_no(word)) {
        let what =
            "replication connections do not go through the proxy: connect to PostgreSQL itself";
        return Err(PgError::fatal(code::FEATURE_NOT_SUPPORTED, what).into());
    }
    negotiate(stream, &startup).await?;
    let credentials = authenticate::check(proxy, stream, user).await?;
    let is_encrypted = stream.is_encrypted();
    let registered = proxy
        .clients
        .register(user, database, address, is_encrypted);
    if console::is_console(database) {
        console::may_use(proxy, user)?;
        let mut hello = write::AUTHENTICATION_OK.to_vec();
        console::greeting(&mut hello);
        end_of_login(&registered, &mut hello);
        stream.write_all(&hello).await?;
        let stream = slot.take().ok_or(Refused::Silently)?;
        let console = Console::new(Rc::clone(proxy), Rc::clone(&registered.client), stream);
        return Ok((registered, Service::Console(Box::new(console))));
    }
    let session = open_session(proxy, slot, &startup, database, &credentials, &registered).await?;
    Ok((registered, Service::Session(Box::new(session))))
}

fn is_no(word: &str) -> bool {
    matches!(word, "false" | "off" | "no" | "0" | "f" | "n")
}

async fn open_session(
    proxy: &Rc<Proxy>,
    slot: &mut Option<Stream>,
    startup: &Startup,
    database: &str,
    credentials: &Credentials,
    registered: &Registered,
) -> Result<Session, Refused> {
    let parameters = startup.parameters.iter();
    let map = Map::of_startup(parameters.map(|(name, value)| (name.as_str(), value.as_str())));
    let settings = proxy.settings.hold(map);
    let key = PoolKey {
        database: database.to_owned(),
        user: registered.client.user.to_string(),
    };
    let pool = proxy.pool(&key, credentials).ok_or_else(|| {
        PgError::fatal(code::TOO_MANY_CONNECTIONS, "too many users and databases")
    })?;
    let greeting = match pool.greeting(&settings) {
        Some(greeting) => greeting,
        None => {
            // The first of its kind: the server itself says whether database and settings are good.
            let server = check_out(proxy, &pool, &settings)
                .await
                .map_err(|end| match end {
                    End::Refused(error) => error,
                    _ => {
                        PgError::fatal(code::CONNECTION_FAILURE, "the server closed the connection")
                    }
                })?;
            let greeting = pool.greet(&server);
            give(&pool, server);
            greeting
        }
    };
    let mut hello = write::AUTHENTICATION_OK.to_vec();
    hello.extend_from_slice(&greeting);
    end_of_login(registered, &mut hello);
    let stream = slot.as_mut().ok_or(Refused::Silently)?;
    stream.write_all(&hello).await?;
    stream.flush().await?;
    let stream = slot.take().ok_or(Refused::Silently)?;
    let client = Rc::clone(&registered.client);
    Ok(Session::new(
        Rc::clone(proxy),
        pool,
        client,
        stream,
        settings,
    ))
}

fn end_of_login(registered: &Registered, hello: &mut Vec<u8>) {
    write::backend_key(hello, registered.client.id, &registered.client.secret);
    write::ready(hello, b'I');
}

/// Requests for encryption may come before the startup packet, each once.
async fn first_packets(proxy: &Rc<Proxy>, slot: &mut Option<Stream>) -> Result<Startup, Refused> {
    loop {
        let stream = slot.as_mut().ok_or(Refused::Silently)?;
        match first_packet(stream).await? {
            First::Startup(startup) => return Ok(startup),
            First::Gss => stream.write_all(b"N").await?,
            First::Tls => {
                let acceptor = proxy.acceptor.borrow().clone();
                let Some(acceptor) = acceptor.filter(|_| !stream.is_encrypted()) else {
                    stream.write_all(b"N").await?;
                    continue;
                };
                stream.write_all(b"S").await?;
                let Some(Stream::Tcp(tcp)) = slot.take() else {
                    return Err(Refused::Silently);
                };
                let tls = acceptor.tls.accept(tcp).await?;
                *slot = Some(Stream::Accepted(Box::new(tls)));
            }
            First::Cancel { process, secret } => {
                cancel::forward(proxy, process, &secret).await;
                return Err(Refused::Silently);
            }
        }
    }
}

async fn first_packet(stream: &mut Stream) -> Result<First, Refused> {
    let violation =
        |error: startup::StartupError| PgError::fatal(code::PROTOCOL_VIOLATION, error.to_string());
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut body = vec![0; startup::body_bytes(length).map_err(violation)?];
    stream.read_exact(&mut body).await?;
    Ok(startup::first(&body).map_err(violation)?)
}

/// Newer minor versions and options that we do not know: the client is told, and goes on without.
async fn negotiate(stream: &mut Stream, startup: &Startup) -> Result<(), Refused> {
    let names = startup.parameters.iter().map(|(name, _)| name.as_str());
    let unknown: Vec<_> = names.filter(|name| name.starts_with("_pq_.")).collect();
    if startup.minor > 0 || !unknown.is_empty() {
        let mut message = Vec::new();
        write::negotiate(&mut message, &unknown);
        stream.write_all(&message).await?;
    }
    Ok(())
}
