//! The daemons' side: accepts connections, reads requests, hands them on, writes the answers.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Answer, LINE_BYTES_MAX, Request};

/// Connections served at a time; a further one waits in the socket's backlog.
pub const CONNECTIONS_MAX: usize = 64;

/// Answers to one request that may wait for a client that reads slowly. A client that follows
/// events and falls behind by more loses some, and sees it by their numbers.
pub const ANSWERS_WAITING_MAX: usize = 256;

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
    /// `calls`.
    ///
    /// # Errors
    /// `AddrInUse` if another daemon answers there; otherwise what the kernel said. A socket that
    /// nobody listens on, left by a daemon that was killed, is replaced.
    pub fn listen(path: &Path, calls: mpsc::Sender<Call>) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
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
                    // A client that goes away is no error of ours.
                    let _ = serve(stream, calls).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        (&mut reader)
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        let request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Answer::Error(format!("not a request of this version: {error}"));
                return write(&mut writer, &refusal).await;
            }
        };
        let (answers, mut receiver) = mpsc::channel(ANSWERS_WAITING_MAX);
        if calls.send(Call { request, answers }).await.is_err() {
            return write(
                &mut writer,
                &Answer::Error("the agent is shutting down".into()),
            )
            .await;
        }
        loop {
            tokio::select! {
                answer = receiver.recv() => match answer {
                    Some(answer) => write(&mut writer, &answer).await?,
                    None => break,
                },
                // The client closed, or sends its next request early: only the former ends this one.
                more = reader.fill_buf() => if more?.is_empty() { return Ok(()); } else { receiver_rest(&mut receiver, &mut writer).await?; break },
            }
        }
    }
}

/// Writes the remaining answers to a client that already sent its next request.
async fn receiver_rest(
    receiver: &mut mpsc::Receiver<Answer>,
    writer: &mut tokio::net::unix::OwnedWriteHalf,
) -> io::Result<()> {
    while let Some(answer) = receiver.recv().await {
        write(writer, &answer).await?;
    }
    Ok(())
}

async fn write(writer: &mut tokio::net::unix::OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
