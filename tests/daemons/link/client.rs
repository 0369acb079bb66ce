//! A client of the link: it logs in without a password, and keeps nothing but what a test asks for.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::wire::postgres::error::PgError;
use lb_userspace::wire::postgres::frame;
use lb_userspace::wire::postgres::link::{
    Epoch, Floor, FromLogic, FromProxy, Heartbeat, Intent, Lsn, OPTION, Position, TAG,
};
use lb_userspace::wire::postgres::startup::Startup;
use lb_userspace::wire::postgres::write;

use crate::setup::SOON;

/// A connection of bytes.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection that asked for a link.
pub struct Link {
    stream: Box<dyn Stream>,
    /// Whether Hello came, and what NegotiateProtocolVersion named.
    pub has_link: bool,
    pub unknown_options: Vec<String>,
    /// ReadyForQuery messages, the login's excepted.
    pub segments: u64,
    positions: VecDeque<Position>,
}

/// What a segment was answered with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The first column of each row.
    pub values: Vec<String>,
    /// SQLSTATE.
    pub error: Option<String>,
    /// What ReadyForQuery said; 0 if the connection ended before.
    pub state: u8,
}

impl Link {
    /// To a proxy.
    pub fn open(port: u16, user: &str, link: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Self::log_in(Box::new(stream), user, link)
    }

    /// To PostgreSQL itself.
    pub fn open_directly(socket: &Path, user: &str, link: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SOON))?;
        Self::log_in(Box::new(stream), user, link)
    }

    fn log_in(stream: Box<dyn Stream>, user: &str, link: &str) -> Result<Self> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let startup = Startup {
            minor: 0,
            parameters: vec![
                pair("user", user),
                pair("database", "postgres"),
                pair(OPTION, link),
            ],
        };
        let mut packet = Vec::new();
        startup.write(&mut packet);
        let mut it = Self {
            stream,
            has_link: false,
            unknown_options: Vec::new(),
            segments: 0,
            positions: VecDeque::new(),
        };
        it.stream.write_all(&packet)?;
        loop {
            let (tag, body) = it.message()?.context("the login was broken off")?;
            match tag {
                TAG => {
                    let hello = FromProxy::read(&body)?;
                    ensure!(matches!(hello, FromProxy::Hello(hello) if hello.version == 1));
                    it.has_link = true;
                }
                b'v' => {
                    let mut rest = &body[8..];
                    while let Some((name, after)) = frame::text(rest) {
                        it.unknown_options.push(String::from_utf8(name.to_vec())?);
                        rest = after;
                    }
                }
                b'E' => return Err(PgError::read(&body).into()),
                b'Z' => return Ok(it),
                _ => {}
            }
        }
    }

    /// The next message; `None` at the end.
    fn message(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; frame::HEADER_BYTES];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                bail!("nothing came for {SOON:?}")
            }
            Err(_) => return Ok(None),
        }
        let header = frame::header(&head)?.context("a whole header")?;
        let mut body = vec![0; header.total - frame::HEADER_BYTES];
        self.stream.read_exact(&mut body)?;
        Ok(Some((header.tag, body)))
    }

    /// The next heartbeat.
    pub fn heartbeat(&mut self) -> Result<Heartbeat> {
        let (tag, body) = self.message()?.context("the link was closed")?;
        ensure!(tag == TAG, "message {:?}", char::from(tag));
        match FromProxy::read(&body)? {
            FromProxy::Heartbeat(heartbeat) => Ok(*heartbeat),
            other => bail!("{other:?}"),
        }
    }

    /// The first heartbeat that says so.
    pub fn until(&mut self, what: &str, says: impl Fn(&Heartbeat) -> bool) -> Result<Heartbeat> {
        let until = Instant::now() + SOON;
        loop {
            let heartbeat = self.heartbeat()?;
            if says(&heartbeat) {
                return Ok(heartbeat);
            }
            ensure!(Instant::now() < until, "not {what}: {heartbeat:?}");
        }
    }

    /// Says something of the link.
    pub fn say(&mut self, message: FromLogic) -> Result<()> {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Runs one simple query.
    pub fn query(&mut self, sql: &str) -> Result<Answer> {
        let mut bytes = Vec::new();
        write::query(&mut bytes, sql.as_bytes());
        self.send(&bytes)?;
        self.answer()
    }

    /// The same with a floor, in one packet.
    pub fn query_above(&mut self, floor: Floor, sql: &str) -> Result<Answer> {
        let mut bytes = Vec::new();
        FromLogic::Floor(floor).write(&mut bytes);
        write::query(&mut bytes, sql.as_bytes());
        self.send(&bytes)?;
        self.answer()
    }

    /// Sends whatever it is.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// What comes up to ReadyForQuery.
    pub fn answer(&mut self) -> Result<Answer> {
        let mut answer = Answer::default();
        while let Some((tag, body)) = self.message()? {
            match tag {
                b'D' => answer.values.push(first_column(&body)?),
                b'E' => answer.error = Some(PgError::read(&body).code),
                TAG => self.take_position(&body)?,
                b'Z' => {
                    self.segments += 1;
                    answer.state = body[0];
                    break;
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    fn take_position(&mut self, body: &[u8]) -> Result<()> {
        match FromProxy::read(body)? {
            FromProxy::Position(position) => self.positions.push_back(position),
            other => bail!("{other:?}"),
        }
        Ok(())
    }

    /// The first position that covers all segments so far.
    pub fn position(&mut self) -> Result<Position> {
        loop {
            while let Some(position) = self.positions.pop_front() {
                ensure!(
                    position.segments <= self.segments,
                    "{position:?} is of the future"
                );
                if position.segments == self.segments {
                    return Ok(position);
                }
            }
            let (tag, body) = self.message()?.context("the link was closed")?;
            ensure!(tag == TAG, "message {:?}", char::from(tag));
            self.take_position(&body)?;
        }
    }

    /// How many positions came that nobody asked for.
    pub fn positions(&self) -> usize {
        self.positions.len()
    }
}

fn first_column(row: &[u8]) -> Result<String> {
    let length = u32::from_be_bytes(row[2..6].try_into()?) as usize;
    Ok(String::from_utf8(row[6..6 + length].to_vec())?)
}

/// A floor of a read.
pub fn read_above(epoch: Epoch, position: Lsn, patience_ms: u16) -> Floor {
    Floor {
        intent: Intent::Read,
        patience_ms,
        epoch,
        position,
    }
}
