//! Clients that write and read versions through one or several logic servers, and write down what
//! they saw.

mod worker;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use self::worker::Worker;
use super::{Key, Operation, Outcome, What};
use crate::redis::{Connection, Place, Reply};

/// Where clients are, and where they connect.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the clients are.
    pub place: Place,
    /// Where they connect.
    pub address: SocketAddr,
}

/// What the clients do.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The logic servers; clients take them in turn.
    pub targets: Vec<Target>,
    /// Clients, each on one connection.
    pub clients: u16,
    /// Of them, the last so many only read, one register at a time.
    pub readers: u16,
    /// Commands that a client sends at once.
    pub batch: usize,
    /// Registers; each has one writer.
    pub registers: u32,
    /// Lists; each has one writer.
    pub lists: u32,
    /// Counters, which all clients count on.
    pub counters: u32,
    /// Of 100 operations, so many write.
    pub writes: u32,
    /// Between a client's batches.
    pub pause: Duration,
    /// How an error reads that leaves open whether a write is done. Any other error says that it
    /// is not, and never will be.
    pub unknown: fn(&str) -> bool,
    /// Seed of the choices.
    pub seed: u64,
}

impl Workload {
    /// Eight clients that send four commands at a time.
    pub fn new(targets: Vec<Target>, seed: u64) -> Self {
        Self {
            targets,
            clients: 8,
            readers: 0,
            batch: 4,
            registers: 400,
            lists: 32,
            counters: 8,
            writes: 30,
            pause: Duration::ZERO,
            unknown: is_unknown,
            seed,
        }
    }

    /// Writes every register once, so that a read that finds nothing has missed something; then
    /// starts the clients.
    ///
    /// # Errors
    /// If no logic server can be reached.
    pub fn start(self) -> Result<Running> {
        let began = Instant::now();
        let is_over = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let workload = Arc::new(self);
        let mut threads = Vec::new();
        for client in 0..workload.clients {
            let mut worker = Worker::new(Arc::clone(&workload), client, began);
            worker.fill()?;
            let (is_over, done) = (Arc::clone(&is_over), Arc::clone(&done));
            let thread = thread::Builder::new().name(format!("client-{client}"));
            threads.push(thread.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let count = worker.batch();
                    done.fetch_add(count as u64, Ordering::Relaxed);
                }
                worker.finish()
            })?);
        }
        Ok(Running {
            workload,
            began,
            is_over,
            done,
            threads,
        })
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Running {
    workload: Arc<Workload>,
    began: Instant,
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Operation>>>,
}

impl Running {
    /// When the history began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Microseconds since the history began.
    pub fn now(&self) -> u64 {
        micros(self.began.elapsed())
    }

    /// Operations that have ended so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the clients; what they saw, in the order of its end.
    pub fn stop(self) -> Vec<Operation> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut operations = Vec::new();
        for thread in self.threads {
            // A client that panicked tells of it in the log; what it saw is gone.
            operations.extend(thread.join().expect("clients do not panic"));
        }
        operations.sort_by_key(|operation| operation.end);
        operations
    }

    /// Ends the clients, then reads every key once more from `target`, when all has settled.
    ///
    /// # Errors
    /// If the target does not answer.
    pub fn stop_and_settle(self, target: &Target) -> Result<Vec<Operation>> {
        let (workload, began) = (Arc::clone(&self.workload), self.began);
        let mut operations = self.stop();
        let mut connection = Connection::open(&target.place, target.address)?;
        for key in workload.keys() {
            let start = micros(began.elapsed());
            let name = key.to_string();
            let reply = match key {
                Key::List(_) => connection.command(&["LRANGE", &name, "0", "-1"])?,
                _ => connection.command(&["GET", &name])?,
            };
            let what = match key {
                Key::List(_) => versions(&reply),
                Key::Register(_) => version_of(key, &reply).map(|saw| What::Settled { saw }),
                Key::Counter(_) => number(&reply).map(|saw| What::Settled { saw }),
            };
            operations.push(Operation {
                client: u16::MAX,
                key,
                start,
                end: micros(began.elapsed()),
                what: what.unwrap_or_else(|| otherwise(&reply)),
            });
        }
        Ok(operations)
    }
}

impl Workload {
    fn keys(&self) -> impl Iterator<Item = Key> {
        let registers = (0..self.registers).map(Key::Register);
        let lists = (0..self.lists).map(Key::List);
        registers
            .chain(lists)
            .chain((0..self.counters).map(Key::Counter))
    }
}

/// How `lb logic` says that nobody knows whether a write is done.
fn is_unknown(error: &str) -> bool {
    error.starts_with("UNKNOWN")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What a register holds: its own name, and a version.
fn value_of(key: Key, version: u64) -> String {
    format!("{key}={version}")
}

/// Reads [`value_of`]; 0 if there is nothing, none if it is something else.
fn version_of(key: Key, reply: &Reply) -> Option<u64> {
    if reply.is_null() {
        return Some(0);
    }
    let Reply::Bulk(Some(bytes)) = reply else {
        return None;
    };
    let text = std::str::from_utf8(bytes).ok()?;
    let version = text.strip_prefix(&key.to_string())?.strip_prefix('=')?;
    version.parse().ok()
}

fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(*number).ok(),
        Reply::Bulk(Some(bytes)) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => reply.is_null().then_some(0),
    }
}

fn versions(reply: &Reply) -> Option<What> {
    let Reply::Array(Some(parts)) = reply else {
        return None;
    };
    let saw = parts.iter().map(number).collect::<Option<_>>()?;
    Some(What::Listed { saw })
}

/// What a read was answered instead of a value.
fn otherwise(reply: &Reply) -> What {
    match reply {
        Reply::Error(error) => What::Failed {
            error: error.clone(),
        },
        _ => What::Wrong {
            answer: format!("{reply:?}"),
        },
    }
}

/// Latest versions of a client's own keys.
type Versions = HashMap<Key, u64>;

fn outcome_of(error: &str, unknown: fn(&str) -> bool) -> Outcome {
    if unknown(error) {
        Outcome::Unknown
    } else {
        Outcome::Refused
    }
}
