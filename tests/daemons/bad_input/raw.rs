//! Bytes to and from a proxy, without a driver that would refuse to send them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::SOON;

/// A connection that has said nothing yet.
pub(super) fn connected(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The first packet of a client, with these parameters.
pub(super) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = b"\0\x03\0\0".to_vec();
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    with_length(&body)
}

/// The first packet of the superuser.
pub(super) fn superuser() -> Vec<u8> {
    startup(&[("user", "postgres"), ("database", "postgres")])
}

/// A message of a client.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&with_length(body));
    message
}

/// A simple query.
pub(super) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("tests send less than 4 GiB");
    [&length.to_be_bytes(), body].concat()
}

/// Logs the superuser in, where everybody is trusted.
pub(super) fn logged_in(port: u16) -> Result<TcpStream> {
    logged_in_by(port, &superuser())
}

/// Logs in by a first packet, where everybody is trusted.
pub(super) fn logged_in_by(port: u16, first: &[u8]) -> Result<TcpStream> {
    let mut stream = connected(port)?;
    stream.write_all(first)?;
    until(&mut stream, b'Z')?;
    Ok(stream)
}

/// Reads up to a message with this tag; returns the tags of all.
pub(super) fn until(stream: &mut TcpStream, last: u8) -> Result<Vec<u8>> {
    let mut tags = Vec::new();
    while tags.last() != Some(&last) {
        let mut head = [0; 5];
        stream.read_exact(&mut head).context("read a message")?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).context("read a message")?;
        ensure!(
            head[0] == last || head[0] != b'E',
            "instead of {}: {:?}",
            char::from(last),
            String::from_utf8_lossy(&body)
        );
        tags.push(head[0]);
    }
    Ok(tags)
}

/// Everything up to the end of the connection, which must come.
pub(super) fn rest(mut stream: TcpStream) -> Result<Vec<u8>> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => Ok(rest),
        // A reset is an end as well; a timeout is none.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(rest),
        Err(error) => bail!("the connection does not end: {error}"),
    }
}

/// An error that a client was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub severity: String,
    pub code: String,
    pub text: String,
}

/// The last of the messages is an error that ends the connection: which.
pub(super) fn told(bytes: &[u8]) -> Result<Told> {
    let mut rest = bytes;
    let mut last = None;
    while let Some((head, body)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        ensure!(
            length >= 4 && body.len() + 4 >= length,
            "it ends within a message: {bytes:?}"
        );
        last = Some((head[0], &body[..length - 4]));
        rest = &body[length - 4..];
    }
    let Some((b'E', fields)) = last.filter(|_| rest.is_empty()) else {
        bail!(
            "its last message is no error: {:?}",
            String::from_utf8_lossy(bytes)
        );
    };
    let field = |name: u8| {
        let field = fields
            .split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&name));
        let text = field.with_context(|| format!("field {} is missing", char::from(name)))?;
        anyhow::Ok(String::from_utf8(text[1..].to_vec())?)
    };
    let told = Told {
        severity: field(b'S')?,
        code: field(b'C')?,
        text: field(b'M')?,
    };
    ensure!(told.severity == "FATAL", "it ends the connection: {told:?}");
    Ok(told)
}
