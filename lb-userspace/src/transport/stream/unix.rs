//! A Unix socket that is watched for what can be read. tokio's own is always watched for room to
//! write as well, and the kernel reports room each time that the other side has read something: one
//! wakeup for each message, of which nobody has anything.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected Unix socket.
#[derive(Debug)]
pub struct UnixStream {
    socket: AsyncFd<net::UnixStream>,
    /// A second descriptor of the socket, watched for room while there is none.
    room: Option<AsyncFd<OwnedFd>>,
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let socket = tokio::net::UnixStream::connect(path).await?.into_std()?;
        Ok(Self {
            socket: watched(socket, Interest::READABLE)?,
            room: None,
        })
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that may change their descriptor; ours are std's, which do not"
)]
fn watched<F: AsRawFd>(descriptor: F, interest: Interest) -> io::Result<AsyncFd<F>> {
    AsyncFd::with_interest(descriptor, interest)
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let (room_bytes, read) = (room.len(), self.socket.get_ref().read(room));
            match read {
                Ok(count) => {
                    if 0 < count && count < room_bytes {
                        // Drained. The watch is edge-triggered: what comes now is reported anew.
                        guard.clear_ready();
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.get_ref().write(bytes) {
                Ok(count) => {
                    self.room = None;
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.room.is_none() {
                let second = OwnedFd::from(self.socket.get_ref().try_clone()?);
                self.room = Some(watched(second, Interest::WRITABLE)?);
            }
            if let Some(room) = &self.room {
                let mut guard = ready!(room.poll_write_ready(cx))?;
                guard.clear_ready();
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(std::net::Shutdown::Write))
    }
}
