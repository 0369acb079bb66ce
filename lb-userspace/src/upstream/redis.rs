//! A connection to a Redis server or Sentinel, one question at a time: for those who watch servers, not
//! for clients' commands.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::wire::resp::reply::{self, Scan};
use crate::wire::resp::write;

/// The longest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How a server is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who we are; `None`: the default user.
    pub username: Option<String>,
    /// The password; `None`: none is needed.
    pub password: Option<String>,
    /// `None`: in the clear.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// The server said so.
    #[error("{0}")]
    Refused(String),
    /// It is no Redis.
    #[error("{0}")]
    Protocol(#[from] crate::wire::resp::error::ProtocolError),
}

trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// A connection.
pub struct Connection {
    stream: Box<dyn Socket>,
    buffer: Vec<u8>,
    patience: Duration,
}

impl Connection {
    /// Connects and says who we are, each within `patience`, which answers have as well.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn open(
        address: SocketAddr,
        access: &Access,
        patience: Duration,
    ) -> Result<Self, RedisError> {
        let stream = timeout(patience, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| RedisError::Late)??;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Socket> = match &access.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::IpAddress(address.ip().into());
                let connector = TlsConnector::from(Arc::clone(config));
                let connected = timeout(patience, connector.connect(name, stream)).await;
                Box::new(connected.map_err(|_| RedisError::Late)??)
            }
        };
        let mut connection = Self {
            stream,
            buffer: Vec::new(),
            patience,
        };
        match (&access.username, &access.password) {
            (Some(user), Some(password)) => {
                connection.ask(&["AUTH", user, password]).await?;
            }
            (None, Some(password)) => {
                connection.ask(&["AUTH", password]).await?;
            }
            _ => {}
        }
        Ok(connection)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`RedisError`]; after any but [`RedisError::Refused`] the connection is of no use.
    pub async fn ask<T: AsRef<[u8]>>(&mut self, words: &[T]) -> Result<Vec<u8>, RedisError> {
        let patience = self.patience;
        let asked = timeout(patience, async {
            let mut command = Vec::new();
            write::command(&mut command, words);
            self.stream.write_all(&command).await?;
            self.next().await
        });
        let answer = asked.await.map_err(|_| RedisError::Late)??;
        if reply::kind(&answer) == reply::Kind::Error {
            let text = reply::text(&answer).unwrap_or_default();
            return Err(RedisError::Refused(
                String::from_utf8_lossy(text).into_owned(),
            ));
        }
        Ok(answer)
    }

    /// Waits for the next answer or message. Cancel-safe: what has come of it stays in the buffer.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn next(&mut self) -> Result<Vec<u8>, RedisError> {
        let mut scan = Scan::default();
        loop {
            if let Some(end) = scan.end(&self.buffer)? {
                return Ok(self.buffer.drain(..end).collect());
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
