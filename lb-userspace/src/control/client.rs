//! The commands' side: blocking, one connection for one request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ANSWER_BYTES_MAX, Answer, Request};

/// How long a command waits for an answer; a reload of a large configuration takes a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not for us.
    #[error("{}", unreachable(path, source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection failed, or the answer did not come in time.
    #[error("{}", unanswered(path, source))]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The answer is not one of ours.
    #[error(
        "the agent at {path} answered what this lb does not understand ({source}); use the lb of \
         the agent's own version"
    )]
    Malformed {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
}

fn unreachable(path: &Path, source: &io::Error) -> String {
    let path = path.display();
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "not permitted to talk to the agent at {path}; run lb as root, or as the user that the \
             agent runs as"
        ),
        _ => format!(
            "no agent answers at {path} ({source}); start it (lb agent --config FILE), or name its \
             socket with --socket"
        ),
    }
}

fn unanswered(path: &Path, source: &io::Error) -> String {
    let path = path.display();
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!(
            "the agent at {path} did not answer within {} s; look at its log",
            ANSWER_TIMEOUT.as_secs()
        ),
        io::ErrorKind::UnexpectedEof => format!(
            "the agent at {path} closed the connection without an answer; see whether it still \
             runs, and try again"
        ),
        _ => {
            format!(
                "the connection to the agent at {path} failed: {source}; look at the agent's log"
            )
        }
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let refused = |source| ClientError::Connect {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).map_err(refused)?;
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)))
            .map_err(refused)?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads the first answer.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal by the daemon is [`ClientError::Refused`].
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.send(request)?;
        self.next()
    }

    /// Sends a request, whose answers [`Client::next`] reads.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request).map_err(|source| self.malformed(source))?;
        line.push(b'\n');
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(|source| self.io(source))
    }

    /// Waits for further answers without a limit of time: for a command that follows events.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn wait_forever(&mut self) -> Result<(), ClientError> {
        self.stream
            .get_ref()
            .set_read_timeout(None)
            .map_err(|source| self.io(source))
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot say why it ends"
    )]
    pub fn next(&mut self) -> Result<Answer, ClientError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(ANSWER_BYTES_MAX as u64);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|source| self.io(source))?;
        if line.is_empty() {
            return Err(self.io(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line).map_err(|source| self.malformed(source))? {
            Answer::Error(reason) => Err(ClientError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    /// For a caller that got an answer to another question.
    #[must_use]
    pub fn unexpected(&self, answer: &Answer) -> ClientError {
        let kind = serde_json::to_value(answer)
            .ok()
            .and_then(|value| value.as_object()?.keys().next().cloned())
            .unwrap_or_else(|| "end".to_owned());
        self.malformed(serde::de::Error::custom(format_args!(
            "unexpected {kind:?}"
        )))
    }

    fn io(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn malformed(&self, source: serde_json::Error) -> ClientError {
        ClientError::Malformed {
            path: self.path.clone(),
            source,
        }
    }
}
