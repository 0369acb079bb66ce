//! Queries that the proxy itself asks, while no client has the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Server, ServerError};
use crate::wire::postgres::{error::PgError, frame, write};

/// The longest message that a server sends of its own accord or in answer to us.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Reads whole messages.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    from: usize,
}

impl Reader {
    /// The next message: its tag and its body.
    pub async fn next<S>(&mut self, stream: &mut S) -> Result<(u8, Vec<u8>), ServerError>
    where
        S: tokio::io::AsyncRead + Unpin,
    {
        loop {
            let header = frame::header(&self.bytes[self.from..])
                .map_err(|error| ServerError::Protocol(error.to_string()))?;
            if let Some(header) = header {
                if header.total > MESSAGE_BYTES_MAX {
                    return Err(ServerError::Protocol("an answer is too long".into()));
                }
                if let Some(message) = self.bytes[self.from..].get(..header.total) {
                    let body = message[frame::HEADER_BYTES..].to_vec();
                    self.from += header.total;
                    return Ok((header.tag, body));
                }
            }
            self.bytes.drain(..self.from);
            self.from = 0;
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Whether everything that was read was also taken.
    pub fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }
}

impl<T> Server<T> {
    /// Runs statements and leaves out their rows.
    ///
    /// # Errors
    /// The server's first error, or that of the connection.
    pub async fn run(&mut self, sql: &[u8]) -> Result<(), ServerError> {
        self.first_value(sql).await.map(drop)
    }

    /// Runs statements; returns the first value of the last row.
    ///
    /// # Errors
    /// The server's first error, or that of the connection.
    pub async fn first_value(&mut self, sql: &[u8]) -> Result<Option<String>, ServerError> {
        let mut query = Vec::with_capacity(sql.len() + 8);
        write::query(&mut query, sql);
        self.stream.write_all(&query).await?;
        self.stream.flush().await?;
        let mut reader = Reader::default();
        let mut outcome = Ok(None);
        loop {
            let (tag, body) = reader.next(&mut self.stream).await?;
            match tag {
                b'S' => self.set_parameter(&body),
                b'E' if outcome.is_ok() => {
                    outcome = Err(ServerError::Refused(PgError::read(&body)));
                }
                b'D' if outcome.is_ok() => outcome = Ok(value(&body)),
                b'Z' => {
                    self.answers.state = body.first().copied().unwrap_or(b'I');
                    break;
                }
                _ => {}
            }
        }
        if !reader.is_empty() {
            return Err(ServerError::Protocol("more came than was asked for".into()));
        }
        // A simple query takes the unnamed statement away.
        self.unnamed = 0;
        outcome
    }
}

/// The first column of a DataRow.
fn value(row: &[u8]) -> Option<String> {
    let length = row.get(2..6)?.try_into().ok()?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
    let value = row.get(6..6 + length)?;
    Some(String::from_utf8_lossy(value).into_owned())
}
