//! Many TCP connections that last. Each sends a byte, waits for the line that says who answered,
//! pauses, and so on for as long as it can; whoever loses its connection opens another. The life
//! of every connection is written down, so that afterwards it can be said who lost what, and when.
//!
//! The other side is `lbt-web --talk` ([`crate::site::Backend::serve_talks`]).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::namespace::Namespace;

/// Connections opened per second at the start.
const OPENED_PER_SECOND: u32 = 1000;
/// How long connecting may take before another port is tried.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What a client waits after it was refused.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(50);
/// Longest line that is read, in bytes.
const LINE_MAX: usize = 64;
/// Descriptors that a process needs beside its connections.
const DESCRIPTORS_BESIDE: u64 = 1000;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// By RST.
    Reset,
    /// By FIN, or by RST behind one.
    Closed,
    /// No answer came for as long as the client waits.
    Silent,
    /// Somebody else answered on it.
    Swapped,
}

/// One connection, from its opening to its end. Connections on which nobody ever answered are not
/// written down, only counted.
#[derive(Clone, Debug)]
pub struct Life {
    /// The client's address and port.
    pub from: SocketAddr,
    /// The VIP and port.
    pub to: SocketAddr,
    /// Who answers.
    pub owner: Arc<str>,
    /// When connecting began.
    pub opened: Instant,
    /// When the first answer came.
    pub answered: Instant,
    /// The longest wait for an answer that came.
    pub slowest: Duration,
    /// When it ended, and how; `None` for one that lived to the end of the test.
    pub end: Option<(Instant, End)>,
}

/// What connections to keep.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to connect to; the connections take turns.
    pub targets: Vec<SocketAddr>,
    /// The client's addresses to connect from, those of the target's family in turn.
    pub sources: Vec<IpAddr>,
    /// How many connections.
    pub count: usize,
    /// What each waits after an answer, at random.
    pub pause: Range<Duration>,
    /// How long a client waits for an answer before it calls the connection lost.
    pub silence_max: Duration,
}

/// Connections under way; they are closed on drop.
#[derive(Debug)]
pub struct Connections {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    lives: Mutex<Vec<Life>>,
    refused: AtomicU64,
    answers: AtomicU64,
}

/// Lets this process, and those that it starts, keep so many connections.
///
/// # Errors
/// If the limit is lower and cannot be raised (root can).
pub fn allow(connections: usize) -> Result<()> {
    let wanted = connections as u64 + DESCRIPTORS_BESIDE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
            .with_context(|| format!("cannot raise the limit of descriptors to {wanted}"))?;
    }
    Ok(())
}

impl Connections {
    /// Begins to open them from inside `namespace`.
    ///
    /// # Errors
    /// If so many descriptors are not allowed.
    pub fn start(namespace: &Namespace, plan: Plan) -> Result<Connections> {
        allow(plan.count)?;
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = namespace.start({
            let shared = Arc::clone(&shared);
            move || {
                // Dropping the runtime at the end drops every client with its connection.
                runtime.block_on(async {
                    let plan = Arc::new(plan);
                    for number in 0..plan.count {
                        tokio::spawn(keep(Arc::clone(&shared), Arc::clone(&plan), number));
                    }
                    let _ = stopped.await;
                });
            }
        });
        Ok(Connections {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// How many are open and were answered on.
    pub fn open(&self) -> usize {
        let lives = self.shared.lives();
        lives.iter().filter(|life| life.end.is_none()).count()
    }

    /// Answers so far, over all connections.
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Connections so far that ended before anybody had answered.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Everything that was written down so far.
    pub fn lives(&self) -> Vec<Life> {
        self.shared.lives().clone()
    }

    /// Closes them.
    pub fn stop(mut self) -> Vec<Life> {
        self.join();
        self.lives()
    }

    fn join(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn lives(&self) -> std::sync::MutexGuard<'_, Vec<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, life: Life) -> usize {
        let mut lives = self.lives();
        lives.push(life);
        lives.len() - 1
    }
}

/// One client: one connection after another.
async fn keep(shared: Arc<Shared>, plan: Arc<Plan>, number: usize) {
    sleep(Duration::from_secs(1) * number as u32 / OPENED_PER_SECOND).await;
    let to = plan.targets[number % plan.targets.len()];
    let sources = plan.sources.iter();
    let sources: Vec<IpAddr> = sources
        .filter(|source| source.is_ipv4() == to.is_ipv4())
        .copied()
        .collect();
    let from = sources[number / plan.targets.len() % sources.len()];
    loop {
        // Refused, or ended before the first answer: the backend died just then, or had died.
        if talk(&shared, &plan, from, to).await.is_err() {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE_AFTER_REFUSAL).await;
        }
    }
}

/// One connection; an error before the first answer, what became of it else written down.
async fn talk(shared: &Shared, plan: &Plan, from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let opened = Instant::now();
    let mut stream = timeout(CONNECT_MAX, connect(from, to)).await??;
    let owner = timeout(plan.silence_max, ask(&mut stream)).await??;
    let owner: Arc<str> = Arc::from(owner);
    let answered = Instant::now();
    let index = shared.begin(Life {
        from: stream.local_addr()?,
        to,
        owner: Arc::clone(&owner),
        opened,
        answered,
        slowest: Duration::ZERO,
        end: None,
    });
    let end = loop {
        shared.answers.fetch_add(1, Ordering::Relaxed);
        let pause = plan.pause.end - plan.pause.start;
        let pause = plan.pause.start + pause.mul_f64(fastrand::f64());
        // Nothing is said unasked: what can be read is the end.
        if let Ok(read) = timeout(pause, stream.read(&mut [0])).await {
            break read.map_or_else(|error| end_of(&error), |_| End::Closed);
        }
        let asked = Instant::now();
        match timeout(plan.silence_max, ask(&mut stream)).await {
            Ok(Ok(name)) if *name == *owner => {
                let mut lives = shared.lives();
                let life = &mut lives[index];
                life.slowest = life.slowest.max(asked.elapsed());
            }
            Ok(Ok(_)) => break End::Swapped,
            Ok(Err(error)) => break end_of(&error),
            Err(_) => break End::Silent,
        }
    };
    shared.lives()[index].end = Some((Instant::now(), end));
    Ok(())
}

async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a byte and reads the line that answers it.
async fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"?").await?;
    let mut line = [0; LINE_MAX];
    let mut length = 0;
    loop {
        let read = stream.read(&mut line[length..]).await?;
        length += read;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line[length - 1] == b'\n' {
            return Ok(String::from_utf8_lossy(&line[..length - 1]).into_owned());
        }
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused => End::Reset,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            End::Silent
        }
        _ => End::Closed,
    }
}
