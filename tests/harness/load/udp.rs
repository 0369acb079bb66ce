//! One UDP flow to `lbt-web --udp`, which answers with its name and what it was sent.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use socket2::{Domain, Protocol, SockAddr, Type};

use super::Failure;
use super::http::left;

/// The largest answer: a name, a space and a number.
const ANSWER_MAX: usize = 512;

/// A connected UDP socket.
#[derive(Debug)]
pub(super) struct Socket(UdpSocket);

impl Socket {
    pub fn open(target: SocketAddr, from: Option<IpAddr>) -> Result<Socket, Failure> {
        let socket = socket2::Socket::new(
            Domain::for_address(target),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if let Some(address) = from {
            socket.bind(&SockAddr::from(SocketAddr::new(address, 0)))?;
        }
        socket.connect(&SockAddr::from(target))?;
        Ok(Socket(socket.into()))
    }

    pub fn local_address(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }

    /// Sends a number and waits for a name and the same number.
    pub fn ask(&mut self, number: u64, deadline: Instant) -> Result<String, Failure> {
        let number = number.to_string();
        self.0.send(number.as_bytes())?;
        let mut answer = [0; ANSWER_MAX];
        loop {
            self.0.set_read_timeout(Some(left(deadline)?))?;
            let length = self.0.recv(&mut answer)?;
            let text = std::str::from_utf8(&answer[..length]).map_err(|_| Failure::Garbled)?;
            // The answer to an earlier datagram, given up already, may arrive late.
            if let Some((name, _)) = text.rsplit_once(' ').filter(|(_, sent)| *sent == number) {
                return Ok(name.to_owned());
            }
        }
    }
}
