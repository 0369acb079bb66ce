//! Connect, and nothing more: a server that accepts is alive.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};

use crate::health::error::{ProbeError, Unreachable};

/// Connects to `address`. Dropping the connection resets it.
///
/// A reset leaves no TIME_WAIT behind: at 100 probes a second each lasting a minute, a few
/// backends would use up this host's ephemeral ports.
pub(in crate::health) async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    let stream = open(address).await.map_err(|error| classify(&error))?;
    if is_connected_to_itself(&stream, address) {
        return Err(ProbeError::Refused);
    }
    Ok(stream)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Before connecting, so that a probe given up halfway leaves nothing either.
    socket.set_zero_linger()?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Probing a free port of this very host from an ephemeral port that happens to be the same one
/// connects the socket to itself (simultaneous open, RFC 9293 §3.5) though nobody listens.
fn is_connected_to_itself(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|local| local == address)
}

/// Whose failure it is, and which.
pub(super) fn classify(error: &io::Error) -> ProbeError {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
        return ProbeError::Other(error.to_string());
    };
    match errno {
        Errno::ECONNREFUSED => ProbeError::Refused,
        Errno::ECONNRESET | Errno::ECONNABORTED => ProbeError::Reset,
        Errno::EPIPE => ProbeError::Closed,
        // ETIMEDOUT is the kernel giving up after its own retransmissions, minutes later.
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ETIMEDOUT => {
            ProbeError::Unreachable(Unreachable::Host)
        }
        Errno::ENETUNREACH | Errno::ENETDOWN => ProbeError::Unreachable(Unreachable::Network),
        // EADDRNOTAVAIL is connect(2) without a free ephemeral port; EPERM and EACCES come from
        // this host's own packet filter.
        Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOBUFS
        | Errno::ENOMEM
        | Errno::EADDRNOTAVAIL
        | Errno::EAFNOSUPPORT
        | Errno::EPERM
        | Errno::EACCES => ProbeError::Local(errno.desc().to_owned()),
        _ => ProbeError::Other(errno.desc().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_blamed_on_whom_they_belong_to() {
        let kinds = [
            (Errno::ECONNREFUSED, "refused"),
            (Errno::ECONNRESET, "reset"),
            (Errno::EPIPE, "closed"),
            (Errno::EHOSTUNREACH, "unreachable"),
            (Errno::ENETUNREACH, "unreachable"),
            (Errno::EMFILE, "local"),
            (Errno::EADDRNOTAVAIL, "local"),
            (Errno::EINVAL, "other"),
        ];
        for (errno, expected) in kinds {
            assert_eq!(classify(&errno.into()).kind().as_str(), expected, "{errno}");
        }
    }

    #[tokio::test]
    async fn a_socket_connected_to_itself_is_recognised() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let stream = socket.connect(address).await.unwrap();
        assert!(is_connected_to_itself(&stream, address));
    }
}
