//! A TCP path that can be cut off: what goes in comes out at the other end, until it is silenced. Both
//! ends then see what they see of a host that is gone: no data, no close, no reset.
//!
//! What differs from a real loss: a new connection is still accepted by this host's kernel, and then
//! silent. (Where that matters, use namespaces and take a link down.)

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Bytes taken at once.
const PIECE_BYTES: usize = 16 << 10;

/// Where a path leads.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What the path does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Passing,
    Silent,
    Ended,
}

/// A path from a port of 127.0.0.1 to somewhere; all of it ends on drop.
#[derive(Debug)]
pub struct Forwarder {
    port: u16,
    state: watch::Sender<State>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Opens a path to `destination`.
    ///
    /// # Errors
    /// If no port or thread can be had.
    pub fn start(destination: Destination) -> Result<Self> {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, crate::postgres::free_port()?))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State::Passing);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("lbt-forwarder".to_owned())
            .spawn(move || {
                runtime.block_on(accept(listener, destination, watched));
            });
        Ok(Self {
            port,
            state,
            thread: Some(thread.context("start a forwarder")?),
        })
    }

    /// Where the path begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing passes, and nobody is told.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Everything passes again, what was held back first.
    pub fn resume(&self) {
        self.state.send_replace(State::Passing);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.state.send_replace(State::Ended);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    destination: Destination,
    mut state: watch::Receiver<State>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let for_paths = state.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((from, _)) = accepted {
                tokio::spawn(path(from, destination.clone(), for_paths.clone()));
            },
            // The runtime's end takes every path along.
            _ = state.wait_for(|state| *state == State::Ended) => return,
        }
    }
}

async fn path(from: TcpStream, destination: Destination, mut state: watch::Receiver<State>) {
    if state
        .wait_for(|state| *state == State::Passing)
        .await
        .is_err()
    {
        return;
    }
    let _ = from.set_nodelay(true);
    let (from_read, from_write) = from.into_split();
    match destination {
        Destination::Tcp(address) => {
            if let Ok(to) = TcpStream::connect(address).await {
                let _ = to.set_nodelay(true);
                let (read, write) = to.into_split();
                tokio::join!(
                    copy(from_read, write, state.clone()),
                    copy(read, from_write, state)
                );
            }
        }
        Destination::Unix(path) => {
            if let Ok(to) = UnixStream::connect(path).await {
                let (read, write) = to.into_split();
                tokio::join!(
                    copy(from_read, write, state.clone()),
                    copy(read, from_write, state)
                );
            }
        }
    }
}

/// One direction, up to its end: an end passes like data.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await;
        if state
            .wait_for(|state| *state == State::Passing)
            .await
            .is_err()
        {
            return;
        }
        let written = match read {
            Ok(0) | Err(_) => break,
            Ok(count) => to.write_all(&piece[..count]).await,
        };
        if written.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_silenced_path_holds_everything_back_and_loses_nothing() -> Result<()> {
        let server = std::net::TcpListener::bind("127.0.0.1:0")?;
        let path = Forwarder::start(Destination::Tcp(server.local_addr()?))?;
        let mut client = TcpStream::connect(("127.0.0.1", path.port()))?;
        let (mut served, _) = server.accept()?;
        let mut word = [0; 4];
        client.write_all(b"ping")?;
        served.read_exact(&mut word)?;
        path.silence();
        client.write_all(b"lost")?;
        served.set_read_timeout(Some(Duration::from_millis(50)))?;
        let error = served.read(&mut word).expect_err("nothing comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        served.set_read_timeout(None)?;
        path.resume();
        served.read_exact(&mut word)?;
        assert_eq!(&word, b"lost");
        drop(client);
        assert_eq!(served.read(&mut word)?, 0);
        Ok(())
    }
}
