//! What every daemon needs of the operating system: a runtime, signals, the service manager, room
//! for descriptors.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads that run tasks. The agent is one busy task and many idle ones.
const WORKER_THREADS: usize = 2;

/// Connections that wait to be accepted, on each listening socket.
const BACKLOG: i32 = 1024;

/// Runs a daemon's future to its end on a runtime of its own.
///
/// # Errors
/// If the kernel gives no threads.
pub fn block_on<T>(daemon: impl Future<Output = T>) -> io::Result<T> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?;
    let result = runtime.block_on(daemon);
    // A blocking call that hangs must not keep the daemon from stopping.
    runtime.shutdown_background();
    Ok(result)
}

/// The same on the calling thread alone, for daemons whose tasks share what is not locked.
///
/// # Errors
/// If the kernel gives no descriptors.
pub fn block_on_one_thread<T: 'static>(daemon: impl Future<Output = T> + 'static) -> io::Result<T> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    // A task like the others: what the set itself is blocked on is polled whenever any task is woken.
    let ended = tasks.block_on(&runtime, async { tokio::task::spawn_local(daemon).await });
    runtime.shutdown_background();
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => io::Error::other(error),
    })
}

/// Runs what `make` makes on a thread and a runtime of its own, so that it may share with nobody.
///
/// # Errors
/// If the kernel gives no thread.
pub fn spawn_thread<F>(
    name: String,
    make: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    let builder = std::thread::Builder::new().name(name);
    builder.spawn(move || {
        if let Err(error) = block_on_one_thread(async { make().await }) {
            tracing::error!(%error, "a thread has no runtime");
        }
    })
}

/// One listening socket for each of `count` threads; the kernel spreads connections over them.
///
/// # Errors
/// The kernel's: somebody else listens there, or the address is not this host's.
pub fn listen_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    (0..count).map(|_| listen_one(address)).collect()
}

fn listen_one(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&socket, sockopt::ReusePort, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    socket::listen(&socket, backlog)?;
    Ok(TcpListener::from(socket))
}

/// The signals that a daemon obeys.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for whichever of the two comes first. Cancel-safe.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }
}

/// What a signal asks of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Tells systemd that the daemon serves. Without systemd nothing happens.
pub fn notify_ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the daemon is about to end.
pub fn notify_stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

/// A held connection per backend and a descriptor per map: more than the usual 1,024.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files from {soft} to {hard}");
    }
}
