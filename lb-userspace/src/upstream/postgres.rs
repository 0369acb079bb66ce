//! One connection to PostgreSQL, from its login until it is closed: what is set on it, what it has
//! prepared, what it still owes.
//!
//! It belongs to a pool while it rests, and to one session while it works; called by both.

mod awaited;
mod cancel;
mod connect;
mod login;
pub mod settings;
pub mod statements;
mod talk;
pub mod tracking;

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

pub use self::awaited::{Answers, Awaited, Fate};
pub use self::cancel::Cancels;
pub use self::connect::Connector;
pub use self::login::{Credentials, Who, nonce};
use self::settings::Settings;
use self::statements::{Prepared, stamp};
pub use self::talk::{Reader, Row};
use crate::transport::stream::Stream;
use crate::wire::postgres::{error::PgError, frame, link, write};

/// More than this does not come to a connection that rests, unless it is to be closed.
const NEWS_BYTES_MAX: usize = 512;
/// How long a server may take to be made clean again before it is closed instead.
const RESET_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// What BackendKeyData said.
#[derive(Debug, Clone, Default)]
pub struct Key {
    pub process: u32,
    pub secret: Box<[u8]>,
}

/// A connection to PostgreSQL that has logged in. `T` is what its owner ties to it, such as a place
/// in a pool.
#[derive(Debug)]
pub struct Server<T> {
    pub stream: Stream,
    /// What ParameterStatus said last.
    pub parameters: Vec<(String, String)>,
    /// What was set on it.
    pub settings: Settings,
    pub prepared: Prepared,
    pub answers: Answers,
    /// The beginning of a message of which the rest is still to come.
    pub partial: Vec<u8>,
    /// How many times it said that it is ready, since its login.
    pub readies: u64,
    /// How many bytes of the message that is passing through are still to come.
    pub passing: usize,
    pub cancels: Rc<Cancels>,
    pub since: Instant,
    pub used: Instant,
    pub tie: T,
}

/// Why a server could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{0}")]
    Refused(PgError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("protocol error: {0}")]
    Protocol(String),
    #[error("{0}")]
    Scram(#[from] crate::wire::postgres::scram::ScramError),
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    #[error("{0}")]
    Credentials(String),
}

impl<T> Server<T> {
    /// Whether it rests in peace: nothing came from it while it lay in the pool, or nothing that
    /// ends it.
    pub fn is_quiet(&mut self) -> bool {
        let mut scratch = [0; NEWS_BYTES_MAX];
        let mut cx = Context::from_waker(Waker::noop());
        match self.stream.poll_into(&mut cx, &mut scratch) {
            Poll::Pending => true,
            Poll::Ready(Ok(count)) if count > 0 => self.take_news(&scratch[..count]),
            Poll::Ready(_) => false,
        }
    }

    /// Notices and changed parameters may come at any time; anything else means that it ends.
    fn take_news(&mut self, mut bytes: &[u8]) -> bool {
        while let Ok(Some(header)) = frame::header(bytes) {
            let Some(message) = bytes.get(..header.total) else {
                return false;
            };
            match header.tag {
                b'S' => self.set_parameter(&message[frame::HEADER_BYTES..]),
                b'N' | link::TAG => {}
                _ => return false,
            }
            bytes = &bytes[header.total..];
        }
        bytes.is_empty()
    }

    /// Takes the body of a ParameterStatus.
    pub fn set_parameter(&mut self, body: &[u8]) {
        let Some((name, rest)) = frame::text(body) else {
            return;
        };
        let Some((value, _)) = frame::text(rest) else {
            return;
        };
        let value = String::from_utf8_lossy(value).into_owned();
        let known = self
            .parameters
            .iter_mut()
            .find(|(known, _)| known.as_bytes() == name);
        match known {
            Some((_, known)) => *known = value,
            None => {
                let name = String::from_utf8_lossy(name).into_owned();
                self.parameters.push((name, value));
            }
        }
    }

    /// Sees to it that the unnamed statement is a client's own, by its stamp, or that there is none: what
    /// another client left must not answer. What must be sent before goes where `out` says.
    pub fn refer_to_unnamed<'o>(
        &mut self,
        stamp: u64,
        definition: &[u8],
        out: impl FnOnce() -> &'o mut Vec<u8>,
    ) {
        let own = match stamp {
            stamp::KEPT_THERE => return,
            _ if stamp == self.prepared.unnamed => return,
            stamp::NONE => {
                write::statement(out(), b'C', b"");
                Awaited::OwnClose(0)
            }
            _ => {
                write::parse(out(), b"", definition);
                Awaited::OwnParse(0)
            }
        };
        self.prepared.unnamed = stamp;
        self.answers.sent(own, &mut self.prepared);
    }

    /// Whether nothing is on its way and no transaction is open.
    pub fn is_idle(&self) -> bool {
        self.answers.is_idle() && self.partial.is_empty() && self.passing == 0
    }

    /// Whether nothing is on its way, though a transaction may be open.
    pub fn is_silent(&self) -> bool {
        self.answers.awaited.is_empty() && self.partial.is_empty() && self.passing == 0
    }

    /// Forgets everything that a session left: as after the login.
    ///
    /// # Errors
    /// If the server refuses or is slow; it must be closed then.
    pub async fn reset(&mut self, pristine: Settings) -> Result<(), ServerError> {
        let work = async {
            if self.answers.state != b'I' {
                self.run(b"ROLLBACK").await?;
            }
            self.run(b"DISCARD ALL").await
        };
        tokio::time::timeout(RESET_TIMEOUT, work)
            .await
            .map_err(|_| ServerError::Timeout(RESET_TIMEOUT))??;
        self.settings = pristine;
        self.prepared.clear();
        Ok(())
    }

    /// Makes it agree with a session's settings: all of them or none.
    ///
    /// # Errors
    /// If the server refuses or is slow; after anything but [`ServerError::Refused`] it must be
    /// closed.
    pub async fn agree(&mut self, settings: &Settings) -> Result<(), ServerError> {
        if self.settings == *settings {
            return Ok(());
        }
        // The statements of one query are one transaction.
        let script = settings::script(&self.settings, settings);
        tokio::time::timeout(RESET_TIMEOUT, self.run(&script))
            .await
            .map_err(|_| ServerError::Timeout(RESET_TIMEOUT))??;
        self.settings = settings.clone();
        Ok(())
    }

    /// The same, one setting after the other: a proxy understands each of them, and need not keep a
    /// connection for what it did not understand.
    ///
    /// # Errors
    /// If the server refuses one or is slow; it must be closed then.
    pub async fn agree_singly(&mut self, settings: &Settings) -> Result<(), ServerError> {
        if self.settings == *settings {
            return Ok(());
        }
        let statements = settings::statements(&self.settings, settings);
        let queries: Vec<_> = statements.iter().map(Vec::as_slice).collect();
        tokio::time::timeout(RESET_TIMEOUT, self.ask(&queries))
            .await
            .map_err(|_| ServerError::Timeout(RESET_TIMEOUT))??;
        self.settings = settings.clone();
        Ok(())
    }

    /// Ends the transaction that a client left open.
    ///
    /// # Errors
    /// If the server refuses or is slow; it must be closed then.
    pub async fn roll_back(&mut self) -> Result<(), ServerError> {
        tokio::time::timeout(RESET_TIMEOUT, self.run(b"ROLLBACK"))
            .await
            .map_err(|_| ServerError::Timeout(RESET_TIMEOUT))?
    }
}

/// Room for the answers that most batches await.
fn awaited_room() -> VecDeque<Awaited> {
    VecDeque::with_capacity(8)
}
