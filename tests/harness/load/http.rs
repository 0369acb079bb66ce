//! A small blocking HTTP/1.1 client with a deadline for the whole request.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Failure;

/// The largest head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// The largest body of an answer, in bytes.
const BODY_MAX: usize = 256 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header `x-backend`: who answered.
    pub backend: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// What became of it instead of an answer.
pub fn request(
    target: SocketAddr,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + timeout;
    Connection::open(target, None, deadline)?.ask(method, path, false, deadline)
}

/// A TCP connection for requests one after another.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    target: SocketAddr,
    /// Bytes received and not yet used.
    received: Vec<u8>,
}

impl Connection {
    /// Connects, from an address of choice.
    ///
    /// # Errors
    /// How connecting failed.
    pub fn open(
        target: SocketAddr,
        from: Option<IpAddr>,
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let socket = Socket::new(
            Domain::for_address(target),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if let Some(address) = from {
            // The port is chosen at connect, by the whole five-tuple: there are many more then.
            setsockopt(&socket, IpBindAddressNoPort, &true).map_err(std::io::Error::from)?;
            socket.bind(&SockAddr::from(SocketAddr::new(address, 0)))?;
        }
        socket.connect_timeout(&SockAddr::from(target), left(deadline)?)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Connection {
            stream: socket.into(),
            target,
            received: Vec::new(),
        })
    }

    /// This end's address: the flow's identity.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Sends a request and reads the whole answer. With `keep` the connection serves for more.
    ///
    /// # Errors
    /// What became of the request; the connection is of no further use then.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        keep: bool,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let close = if keep { "" } else { "Connection: close\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n{close}\r\n",
            self.target
        );
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        self.stream.write_all(request.as_bytes())?;
        let head = self.read_head(deadline)?;
        let length = header(&head, "content-length").and_then(|value| value.parse().ok());
        let body = self.read_body(length.ok_or(Failure::Garbled)?, deadline)?;
        if !keep {
            self.read_to_end(deadline)?;
        }
        let status = head
            .get(9..12)
            .and_then(|code| code.parse().ok())
            .ok_or(Failure::Garbled)?;
        Ok(Answer {
            status,
            backend: header(&head, "x-backend").map(str::to_owned),
            body,
        })
    }

    fn read_head(&mut self, deadline: Instant) -> Result<String, Failure> {
        loop {
            if let Some(end) = self
                .received
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                let head = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).map_err(|_| Failure::Garbled);
            }
            if self.received.len() > HEAD_MAX {
                return Err(Failure::Garbled);
            }
            self.receive(deadline)?;
        }
    }

    fn read_body(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, Failure> {
        if length > BODY_MAX {
            return Err(Failure::Garbled);
        }
        while self.received.len() < length {
            self.receive(deadline)?;
        }
        Ok(self.received.drain(..length).collect())
    }

    /// The server closes first and keeps the TIME_WAIT, so that our ports are free at once.
    fn read_to_end(&mut self, deadline: Instant) -> Result<(), Failure> {
        match self.receive(deadline) {
            Err(Failure::Closed) => Ok(()),
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::Garbled),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<(), Failure> {
        let mut bytes = [0; 16 << 10];
        self.stream.set_read_timeout(Some(left(deadline)?))?;
        let count = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        if count == 0 {
            return Err(Failure::Closed);
        }
        self.received.extend_from_slice(&bytes[..count]);
        Ok(())
    }
}

/// Time until the deadline; never zero, which sockets take for "for ever".
pub(super) fn left(deadline: Instant) -> Result<Duration, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(Failure::TimedOut)
    } else {
        Ok(left)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .next()
}
