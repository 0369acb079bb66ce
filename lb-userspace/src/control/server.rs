//! The daemons' side: accepts connections, reads requests, hands them on, writes the answers.

mod connection;
mod socket;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Answer, Request};

/// Connections served at a time; a further one waits in the socket's backlog.
pub const CONNECTIONS_MAX: usize = 64;

/// Answers to one request that may wait for a client that reads slowly. A client that follows
/// events and falls behind by more loses some, and sees it by their numbers.
pub const ANSWERS_WAITING_MAX: usize = 256;

/// How long a connection may stay without a request.
pub const IDLE_MAX: Duration = Duration::from_secs(60);

/// How long a client may take to make room for one answer: long enough for somebody who stopped
/// the terminal to read something.
pub const WRITE_MAX: Duration = Duration::from_secs(60);

/// Wait before the next attempt after `accept` failed (the process is out of file descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A request and where its answers go. Dropping the sender ends the answer.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answers go.
    pub answers: mpsc::Sender<Answer>,
}

/// A listening control socket. Dropping it ends its connections and removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Listens at `path`, readable and writable by its owner only, and sends what is asked there to
    /// `calls`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `AddrInUse` if another daemon answers there, `AlreadyExists` if something else than a socket
    /// is there; otherwise what the kernel said. A socket that nobody listens on, left by a daemon
    /// that was killed, is replaced.
    pub fn listen(path: &Path, calls: mpsc::Sender<Call>) -> io::Result<Self> {
        let listener = socket::bind(path)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, calls));
        Ok(Self {
            path: path.to_owned(),
            _tasks: tasks,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A socket that cannot be removed is replaced by the next daemon.
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                connections.spawn(async move {
                    if let Err(error) = connection::serve(stream, calls).await {
                        // A client that goes away is no fault of ours.
                        tracing::debug!(%error, "a control connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
