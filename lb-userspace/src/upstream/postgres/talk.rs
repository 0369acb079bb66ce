//! Queries that the proxy itself asks, while no client has the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::statements::stamp;
use super::{Server, ServerError};
use crate::wire::postgres::{error::PgError, frame, link, write};

/// The longest message that a server sends of its own accord or in answer to us.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The columns of a row, as texts; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Reads whole messages.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    from: usize,
}

impl Reader {
    /// Begins with bytes that were read already.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, from: 0 }
    }

    /// What was read and not taken.
    pub fn into_rest(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes.drain(..self.from);
        bytes
    }

    /// The next message: its tag and its body. Cancel-safe.
    ///
    /// # Errors
    /// The connection's; if what comes is no message, or is too long.
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
        let rows = self.ask(&[sql]).await?;
        Ok(rows.into_iter().flatten().next().flatten())
    }

    /// Runs queries one after the other, all of them sent at once; returns the last row of each, empty
    /// where there was none.
    ///
    /// # Errors
    /// The server's first error, or that of the connection.
    pub async fn ask(&mut self, queries: &[&[u8]]) -> Result<Vec<Row>, ServerError> {
        let mut rows = vec![Row::new(); queries.len()];
        self.each_row(queries, |query, row| rows[query] = row)
            .await?;
        Ok(rows)
    }

    /// Runs a query; returns all its rows.
    ///
    /// # Errors
    /// The server's first error, or that of the connection.
    pub async fn rows(&mut self, sql: &[u8]) -> Result<Vec<Row>, ServerError> {
        let mut rows = Vec::new();
        self.each_row(&[sql], |_, row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs one statement whose `$1`, `$2` … are these texts; returns all its rows.
    ///
    /// # Errors
    /// The server's first error, or that of the connection.
    pub async fn rows_with(
        &mut self,
        sql: &[u8],
        parameters: &[&str],
    ) -> Result<Vec<Row>, ServerError> {
        let mut sent = Vec::new();
        write::run(&mut sent, sql, parameters);
        let mut rows = Vec::new();
        self.exchange(&sent, 1, |_, row| rows.push(row)).await?;
        Ok(rows)
    }

    async fn each_row(
        &mut self,
        queries: &[&[u8]],
        take: impl FnMut(usize, Row),
    ) -> Result<(), ServerError> {
        let mut sent = Vec::new();
        for sql in queries {
            write::query(&mut sent, sql);
        }
        self.exchange(&sent, queries.len(), take).await
    }

    /// Sends what is answered by so many ReadyForQuery, and takes the rows of each.
    async fn exchange(
        &mut self,
        sent: &[u8],
        count: usize,
        mut take: impl FnMut(usize, Row),
    ) -> Result<(), ServerError> {
        self.stream.write_all(sent).await?;
        self.stream.flush().await?;
        let mut reader = Reader::of(std::mem::take(&mut self.partial));
        let mut told = Vec::new();
        let mut outcome = Ok(());
        for query in 0..count {
            loop {
                let (tag, body) = reader.next(&mut self.stream).await?;
                match tag {
                    b'S' => self.set_parameter(&body),
                    b'E' if outcome.is_ok() => {
                        outcome = Err(ServerError::Refused(PgError::read(&body)));
                    }
                    b'D' => take(query, row(&body)),
                    link::TAG => write::message(&mut told, tag, |out| out.extend_from_slice(&body)),
                    b'Z' => {
                        self.answers.state = body.first().copied().unwrap_or(b'I');
                        self.readies += 1;
                        break;
                    }
                    _ => {}
                }
            }
        }
        let rest = reader.into_rest();
        if !rest.is_empty() && rest[0] != link::TAG {
            return Err(ServerError::Protocol("more came than was asked for".into()));
        }
        // Whoever uses the connection next reads what the proxy said meanwhile.
        self.partial = told;
        self.partial.extend_from_slice(&rest);
        // A simple query takes the unnamed statement away.
        self.prepared.unnamed = stamp::NONE;
        outcome
    }
}

/// The columns of a DataRow, as far as they are well-formed.
fn row(body: &[u8]) -> Row {
    let Some((_count, mut rest)) = body.split_first_chunk::<2>() else {
        return Row::new();
    };
    let mut columns = Row::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        rest = after;
        // -1 is NULL.
        columns.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let Some((value, after)) = rest.split_at_checked(length) else {
                    return columns;
                };
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            Err(_) => None,
        });
    }
    columns
}
