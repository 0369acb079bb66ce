//! Load from inside a namespace: so many clients, each sending one request after another, every
//! request recorded with its begin, end and result.
//!
//! Clients are plain threads with blocking sockets: what is measured is the system under test,
//! not a scheduler of ours.

pub mod http;
mod report;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::namespace::Namespace;

pub use report::{Failure, Outcome, Record, Report};

/// How long a request may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a client waits after a failure, so that refusals do not become a busy loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(1);
/// Requests recorded in one run, over all clients; the load ends there.
const REQUESTS_MAX: u64 = 20_000_000;

/// What load to send. Begin with [`Load::http`] or [`Load::udp`].
#[derive(Clone, Debug)]
pub struct Load {
    target: SocketAddr,
    protocol: Protocol,
    from: Option<IpAddr>,
    clients: usize,
    reuse: bool,
    count_max: u64,
    time_max: Option<Duration>,
    timeout: Duration,
    pause: Duration,
}

#[derive(Clone, Debug)]
enum Protocol {
    Http { path: String },
    Udp,
}

impl Load {
    /// `GET /` from one client with a new connection for each request, until stopped.
    pub fn http(target: SocketAddr) -> Load {
        Load::new(
            target,
            Protocol::Http {
                path: "/".to_owned(),
            },
        )
    }

    /// Datagrams from one client with a new socket for each, until stopped.
    pub fn udp(target: SocketAddr) -> Load {
        Load::new(target, Protocol::Udp)
    }

    fn new(target: SocketAddr, protocol: Protocol) -> Load {
        Load {
            target,
            protocol,
            from: None,
            clients: 1,
            reuse: false,
            count_max: REQUESTS_MAX,
            time_max: None,
            timeout: TIMEOUT,
            pause: Duration::ZERO,
        }
    }

    /// Asks for another path than `/`.
    #[must_use]
    pub fn path(mut self, wanted: &str) -> Load {
        if let Protocol::Http { path } = &mut self.protocol {
            wanted.clone_into(path);
        }
        self
    }

    /// Sends from this address of the client's.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Load {
        self.from = Some(address);
        self
    }

    /// So many clients at a time.
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Load {
        self.clients = clients;
        self
    }

    /// Each client keeps its connection (or UDP socket) until it fails.
    #[must_use]
    pub fn keep_alive(mut self) -> Load {
        self.reuse = true;
        self
    }

    /// Ends after exactly so many requests, over all clients.
    #[must_use]
    pub fn count(mut self, requests: u64) -> Load {
        self.count_max = requests.min(REQUESTS_MAX);
        self
    }

    /// Ends after this time; requests under way are finished.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Load {
        self.time_max = Some(time);
        self
    }

    /// Gives a request up after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Load {
        self.timeout = timeout;
        self
    }

    /// Each client waits so long between two requests.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Load {
        self.pause = pause;
        self
    }

    /// Starts sending from inside `namespace`.
    pub fn start(&self, namespace: &Namespace) -> Running {
        let shared = Arc::new(Shared {
            left: AtomicU64::new(self.count_max),
            is_over: AtomicBool::new(false),
            until: self.time_max.map(|time| Instant::now() + time),
            records: (0..self.clients).map(|_| Mutex::default()).collect(),
        });
        // Threads stay in the namespace of the thread that started them.
        let clients = namespace.run(|| {
            (0..self.clients)
                .map(|number| {
                    let (load, shared) = (self.clone(), Arc::clone(&shared));
                    thread::spawn(move || load.send_one_after_another(&shared, number))
                })
                .collect()
        });
        Running { shared, clients }
    }

    /// Sends from inside `namespace` until the count or the time is reached.
    pub fn run(&self, namespace: &Namespace) -> Report {
        self.start(namespace).finish()
    }

    fn send_one_after_another(&self, shared: &Shared, number: usize) {
        let mut client = Client::new(self);
        while shared.takes_one_more() {
            let record = client.request();
            let failed = record.outcome.is_failure();
            shared.records[number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(record);
            thread::sleep(if failed {
                self.pause.max(PAUSE_AFTER_FAILURE)
            } else {
                self.pause
            });
        }
    }
}

/// What the clients of a load share.
#[derive(Debug)]
struct Shared {
    left: AtomicU64,
    is_over: AtomicBool,
    until: Option<Instant>,
    /// One list for each client, so that they do not wait for each other.
    records: Vec<Mutex<Vec<Record>>>,
}

impl Shared {
    fn takes_one_more(&self) -> bool {
        let in_time = self.until.is_none_or(|until| Instant::now() < until);
        let one_less = |left: u64| left.checked_sub(1);
        !self.is_over.load(Ordering::Relaxed)
            && in_time
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
    }

    fn report(&self) -> Report {
        Report::new(self.records.iter().flat_map(|records| {
            records
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        }))
    }
}

/// Load that is being sent; it stops on drop.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Running {
    /// What has been recorded so far.
    pub fn so_far(&self) -> Report {
        self.shared.report()
    }

    /// How many requests have been recorded so far (cheap, unlike [`Running::so_far`]).
    pub fn count(&self) -> usize {
        let lists = self.shared.records.iter();
        lists
            .map(|list| list.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Lets requests under way finish, and reports.
    pub fn stop(self) -> Report {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for the count or the time, and reports.
    pub fn finish(mut self) -> Report {
        for client in self.clients.drain(..) {
            if let Err(payload) = client.join() {
                std::panic::resume_unwind(payload);
            }
        }
        self.shared.report()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

/// One client: at most one connection at a time.
struct Client<'a> {
    load: &'a Load,
    http: Option<http::Connection>,
    udp: Option<udp::Socket>,
    sequence: u64,
    /// Names heard before, so that a million records share a handful of strings.
    names: Vec<Arc<str>>,
}

impl<'a> Client<'a> {
    fn new(load: &'a Load) -> Client<'a> {
        Client {
            load,
            http: None,
            udp: None,
            sequence: 0,
            names: Vec::new(),
        }
    }

    fn request(&mut self) -> Record {
        let start = Instant::now();
        let (from, answer) = match &self.load.protocol {
            Protocol::Http { path } => self.ask_http(path, start + self.load.timeout),
            Protocol::Udp => self.ask_udp(start + self.load.timeout),
        };
        let end = Instant::now();
        let outcome = match answer {
            Ok(name) => Outcome::Answered {
                by: self.shared_name(&name),
            },
            Err(failure) => Outcome::Failed(failure),
        };
        Record {
            start,
            end,
            from,
            outcome,
        }
    }

    fn ask_http(
        &mut self,
        path: &str,
        deadline: Instant,
    ) -> (Option<SocketAddr>, Result<String, Failure>) {
        let load = self.load;
        let opened = match self.http.take() {
            Some(connection) => Ok(connection),
            None => http::Connection::open(load.target, load.from, deadline),
        };
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(failure) => return (None, Err(failure)),
        };
        let from = connection.local_address();
        let answer = connection.ask("GET", path, load.reuse, deadline);
        if load.reuse && answer.is_ok() {
            self.http = Some(connection);
        }
        let name = answer.and_then(|answer| match answer.status {
            200 => Ok(answer.backend.unwrap_or_default()),
            status => Err(Failure::Status(status)),
        });
        (from, name)
    }

    fn ask_udp(&mut self, deadline: Instant) -> (Option<SocketAddr>, Result<String, Failure>) {
        let load = self.load;
        let opened = match self.udp.take() {
            Some(socket) => Ok(socket),
            None => udp::Socket::open(load.target, load.from),
        };
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(failure) => return (None, Err(failure)),
        };
        let from = socket.local_address();
        self.sequence += 1;
        let answer = socket.ask(self.sequence, deadline);
        // UDP has no connection that could break: a lost datagram does not end the flow.
        if load.reuse {
            self.udp = Some(socket);
        }
        (from, answer)
    }

    fn shared_name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|known| known.as_ref() == name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(name);
        self.names.push(Arc::clone(&name));
        name
    }
}
