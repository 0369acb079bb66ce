//! Ask for a path over HTTP/1.1; the status of the answer decides. The body is not read.

use std::net::SocketAddr;

use httparse::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HttpProbe, tcp};
use crate::health::error::ProbeError;
use crate::health::statuses::Statuses;

/// The longest head of an answer, interim answers included, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers in one head.
const HEADERS_MAX: usize = 128;
/// Room for a usual head; the buffer is kept from probe to probe and grows to what is needed.
const HEAD_BYTES_USUAL: usize = 512;

/// An [`HttpProbe`] made ready for one address.
pub(in crate::health) struct Prober {
    address: SocketAddr,
    request: Vec<u8>,
    expect: Statuses,
    head: Vec<u8>,
}

impl Prober {
    pub(super) fn new(probe: &HttpProbe, address: SocketAddr) -> Self {
        let host = probe.host.clone().unwrap_or_else(|| address.to_string());
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lb-health\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            probe.path
        );
        Self {
            address,
            request: request.into_bytes(),
            expect: probe.expect.clone(),
            head: Vec::with_capacity(HEAD_BYTES_USUAL),
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), ProbeError> {
        let mut stream = tcp::connect(self.address).await?;
        stream
            .write_all(&self.request)
            .await
            .map_err(|error| tcp::classify(&error))?;
        let got = self.read_status(&mut stream).await?;
        if self.expect.contains(got) {
            return Ok(());
        }
        Err(ProbeError::WrongStatus {
            got,
            expected: self.expect.clone(),
        })
    }

    /// Reads up to the end of the final answer's head.
    async fn read_status(&mut self, stream: &mut TcpStream) -> Result<u16, ProbeError> {
        self.head.clear();
        let mut stream = stream.take(HEAD_BYTES_MAX as u64);
        // Where the head being read begins: after the interim answers (100, 103).
        let mut start = 0;
        loop {
            let before = self.head.len();
            let read = stream.read_buf(&mut self.head).await;
            let is_end = read.map_err(|error| tcp::classify(&error))? == 0;
            // Only a finished line can change what the parser says, so that a server that sends
            // byte by byte does not make us parse 16 KiB as many times.
            if !is_end && !self.head[before..].contains(&b'\n') {
                continue;
            }
            while let Some((status, length)) = parse_head(&self.head[start..])? {
                if !is_interim(status) {
                    return Ok(status);
                }
                start += length;
            }
            if self.head.len() >= HEAD_BYTES_MAX {
                return Err(malformed(format!(
                    "its head is longer than {HEAD_BYTES_MAX} bytes"
                )));
            }
            if is_end {
                return Err(ProbeError::Closed);
            }
        }
    }
}

/// The status and length of a complete head; `None` if there is more to come.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, usize)>, ProbeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete(length)) => Ok(response.code.map(|status| (status, length))),
        Err(httparse::Error::TooManyHeaders) => {
            Err(malformed(format!("it has more than {HEADERS_MAX} headers")))
        }
        Err(error) => Err(malformed(error.to_string())),
    }
}

/// Interim answers come before the final one (RFC 9110 §15.2); 101 is final, and nobody asked.
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

fn malformed(what: String) -> ProbeError {
    ProbeError::Malformed(what)
}
