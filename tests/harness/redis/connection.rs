//! A client of our own: one connection, commands as they are, answers as they come.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Place, Reply};

/// Longer than anything but a fault may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A connection to a server or to a proxy.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects from a place.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn open(from: &Place, to: SocketAddr) -> Result<Self> {
        let stream = from.connect(to)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self {
            reader: BufReader::with_capacity(64 * 1024, stream),
            buffer: Vec::new(),
        })
    }

    /// How long an answer may take from now on.
    ///
    /// # Errors
    /// If the socket refuses.
    pub fn patience(&self, patience: Duration) -> Result<()> {
        Ok(self.reader.get_ref().set_read_timeout(Some(patience))?)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// If the connection ends first. A refusal is an answer.
    pub fn command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply> {
        self.queue(words);
        self.flush()?;
        self.answer()
    }

    /// Adds a command to those that [`Connection::flush`] sends.
    pub fn queue<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        encode(&mut self.buffer, words);
    }

    /// Sends what was queued, with one write.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn flush(&mut self) -> Result<()> {
        let sent = self.reader.get_mut().write_all(&self.buffer);
        self.buffer.clear();
        sent.context("send commands")
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("send bytes")
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// If the connection ends first, or stays silent.
    pub fn answer(&mut self) -> Result<Reply> {
        Reply::read(&mut self.reader).context("read an answer")
    }
}

/// A command as clients write it: an array of strings.
pub fn encode<W: AsRef<[u8]>>(into: &mut Vec<u8>, words: &[W]) {
    let _ = write!(into, "*{}\r\n", words.len());
    for word in words {
        let word = word.as_ref();
        let _ = write!(into, "${}\r\n", word.len());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}
