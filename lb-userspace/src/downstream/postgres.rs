//! From an accepted connection to a client that is known: TLS, the startup packet, the proof of who
//! it is; and how it is refused. Called by every listener of PostgreSQL's protocol.

mod authenticate;
pub mod clients;
pub mod users;

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use self::authenticate::authenticate;
use self::users::{Secret, Users};
use crate::transport::stream::Stream;
use crate::transport::tls::Acceptor;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::startup::{self, First, Startup};
use crate::wire::postgres::write;

/// How long a client may take to log in; PostgreSQL's `authentication_timeout`.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to read why it was refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What a listener lets clients in by.
#[derive(Debug, Clone)]
pub struct Door {
    pub users: Rc<Users>,
    /// What was looked up elsewhere of the user who comes now, whom the file does not name.
    pub looked_up: Option<Secret>,
    /// `None` offers no TLS.
    pub acceptor: Option<Acceptor>,
    /// Whether everybody is who they say.
    pub trusts: bool,
}

/// What a connection turned out to want.
#[derive(Debug)]
pub enum Opening {
    Login(Startup),
    Cancel { process: u32, secret: Vec<u8> },
}

/// Why nothing comes of a connection.
#[derive(Debug)]
pub enum Refused {
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

/// Reads up to the startup packet. Requests for encryption may come before it, each once.
///
/// # Errors
/// If the client leaves, or says what cannot be understood. The stream is lost with a handshake
/// that fails.
pub async fn open(
    acceptor: Option<&Acceptor>,
    slot: &mut Option<Stream>,
) -> Result<Opening, Refused> {
    loop {
        let stream = slot.as_mut().ok_or(Refused::Silently)?;
        match first_packet(stream).await? {
            First::Startup(startup) => return Ok(Opening::Login(startup)),
            First::Cancel { process, secret } => return Ok(Opening::Cancel { process, secret }),
            First::Gss => stream.write_all(b"N").await?,
            First::Tls => {
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

/// The user that a client says it is, and the database that it wants.
///
/// # Errors
/// If it names no user, or wants to replicate.
pub fn user_and_database(startup: &Startup) -> Result<(&str, &str), PgError> {
    let user = startup
        .get("user")
        .filter(|user| !user.is_empty())
        .ok_or_else(|| {
            let what = "no PostgreSQL user name specified in startup packet";
            PgError::fatal(code::INVALID_AUTHORIZATION, what)
        })?;
    let named = startup.get("database").filter(|name| !name.is_empty());
    if startup.get("replication").is_some_and(|word| !is_no(word)) {
        let what =
            "replication connections do not go through the proxy: connect to PostgreSQL itself";
        return Err(PgError::fatal(code::FEATURE_NOT_SUPPORTED, what));
    }
    Ok((user, named.unwrap_or(user)))
}

fn is_no(word: &str) -> bool {
    matches!(word, "false" | "off" | "no" | "0" | "f" | "n")
}

/// Newer minor versions and options other than `known`: the client is told, and goes on without.
///
/// # Errors
/// The connection's.
pub async fn negotiate(
    stream: &mut Stream,
    startup: &Startup,
    known: &[&str],
) -> Result<(), Refused> {
    let names = startup.parameters.iter().map(|(name, _)| name.as_str());
    let unknown: Vec<_> = names
        .filter(|name| name.starts_with("_pq_.") && !known.contains(name))
        .collect();
    if startup.minor > 0 || !unknown.is_empty() {
        let mut message = Vec::new();
        write::negotiate(&mut message, &unknown);
        stream.write_all(&message).await?;
    }
    Ok(())
}

/// Tells a client why it is refused, and waits a moment for it to have read that.
pub async fn refuse(stream: &mut Stream, error: &PgError) {
    let mut message = Vec::new();
    error.write(&mut message);
    say_good_bye(stream, &message, REFUSAL_TIMEOUT).await;
}

/// Writes the last words, and waits for the client to close, so that they are not lost to a reset.
pub async fn say_good_bye(client: &mut Stream, last: &[u8], timeout: Duration) {
    let words = async {
        if !last.is_empty() {
            client.write_all(last).await?;
        }
        client.flush().await?;
        client.shutdown().await?;
        let mut rest = [0; 512];
        while !last.is_empty() && client.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(timeout, words).await;
}
