//! Ways to PostgreSQL: its Unix socket, TCP, TLS.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::login::{LoggedIn, Who, log_in};
use super::settings::Settings;
use super::statements::Prepared;
use super::{Answers, Cancels, Key, Server, ServerError};
use crate::config::{DbServer, ServerTls};
use crate::transport::keepalive;
use crate::transport::stream::{Stream, UnixStream};
use crate::transport::tls;
use crate::wire::postgres::{link, startup};

/// How long a connection and its login may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may be silent before its host is asked whether it is still there.
const ASK_AFTER: Duration = Duration::from_secs(15);

/// How servers are reached.
#[derive(Debug)]
pub struct Connector {
    pub server: DbServer,
    pub tls: ServerTls,
    pub client_config: Option<Arc<rustls::ClientConfig>>,
}

impl Connector {
    /// A new connection, logged in. `options` are further parameters of the startup packet.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses, or is slow.
    pub async fn connect<T>(
        self: &Rc<Self>,
        who: Who<'_>,
        options: &[(&str, &str)],
        settings: Settings,
        tie: T,
    ) -> Result<Server<T>, ServerError> {
        let logged_in = self.log_in(who, options).await?;
        if !logged_in.rest.is_empty() {
            return Err(ServerError::Protocol("more came than a login".into()));
        }
        Ok(self.server(logged_in, settings, tie))
    }

    /// A session that a proxy takes floors in, if there is a proxy that does; `tie` is told whether.
    /// `parameters` are further ones of the startup packet.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses, or is slow.
    pub async fn connect_linked<T>(
        self: &Rc<Self>,
        who: Who<'_>,
        parameters: &[(String, String)],
        settings: Settings,
        tie: impl FnOnce(bool) -> T,
    ) -> Result<Server<T>, ServerError> {
        let parameters = parameters.iter();
        let mut options: Vec<_> = parameters
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        options.push((link::OPTION, link::Mode::Session.as_option()));
        let logged_in = self.log_in(who, &options).await?;
        let tie = tie(logged_in.is_linked);
        Ok(self.server(logged_in, settings, tie))
    }

    /// Connects and logs in; what the connection is for is the caller's.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses, or is slow.
    pub async fn log_in(
        &self,
        who: Who<'_>,
        options: &[(&str, &str)],
    ) -> Result<LoggedIn, ServerError> {
        let work = async {
            let stream = self.open().await?;
            let binding = match &stream {
                Stream::Connected(stream) => tls::binding_of_peer(stream.get_ref().1),
                _ => None,
            };
            log_in(stream, who, options, binding.as_deref()).await
        };
        tokio::time::timeout(CONNECT_TIMEOUT, work)
            .await
            .map_err(|_| ServerError::Timeout(CONNECT_TIMEOUT))
            .and_then(|outcome| outcome)
    }

    fn server<T>(self: &Rc<Self>, logged_in: LoggedIn, settings: Settings, tie: T) -> Server<T> {
        let now = Instant::now();
        Server {
            stream: logged_in.stream,
            parameters: logged_in.parameters,
            settings,
            prepared: Prepared::default(),
            answers: Answers::default(),
            partial: logged_in.rest,
            readies: 0,
            passing: 0,
            cancels: Cancels::new(self, logged_in.key),
            since: now,
            used: now,
            tie,
        }
    }

    async fn open(&self) -> Result<Stream, ServerError> {
        let mut tcp = match &self.server {
            DbServer::Unix(path) => return Ok(Stream::Unix(UnixStream::connect(path).await?)),
            DbServer::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
        };
        tcp.set_nodelay(true)?;
        keepalive::ask_after(&tcp, ASK_AFTER);
        let (DbServer::Tcp(host, _), Some(config)) = (&self.server, &self.client_config) else {
            return Ok(Stream::Tcp(tcp));
        };
        tcp.write_all(&startup::tls_request()).await?;
        // One byte and no more: what follows it is not to be trusted before the handshake.
        match tcp.read_u8().await? {
            b'S' => {}
            b'N' if self.tls == ServerTls::Prefer => return Ok(Stream::Tcp(tcp)),
            _ => return Err(ServerError::Protocol("the server has no TLS".into())),
        }
        let name = ServerName::try_from(host.clone())
            .map_err(|error| ServerError::Protocol(format!("{host}: {error}")))?;
        let tls = TlsConnector::from(Arc::clone(config))
            .connect(name, tcp)
            .await?;
        Ok(Stream::Connected(Box::new(tls)))
    }
}

/// Asks the server to cancel what the connection with this key does, and waits until it has.
///
/// # Errors
/// The connection's.
pub(super) async fn cancel(connector: &Connector, key: &Key) -> io::Result<()> {
    let mut stream = connector.open().await.map_err(io::Error::other)?;
    stream
        .write_all(&startup::cancel_request(key.process, &key.secret))
        .await?;
    stream.flush().await?;
    // The server closes when it has sent the signal.
    let mut rest = [0; 16];
    while stream.read(&mut rest).await.unwrap_or(0) > 0 {}
    Ok(())
}

impl Connector {
    /// The port of a server on this host.
    pub fn port(&self) -> Option<u16> {
        match &self.server {
            DbServer::Unix(path) => path.extension()?.to_str()?.parse().ok(),
            DbServer::Tcp(host, port) => {
                let is_here = host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback());
                is_here.then_some(*port)
            }
        }
    }
}

impl std::fmt::Display for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.server {
            DbServer::Unix(path) => write!(f, "{}", path.display()),
            DbServer::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}
