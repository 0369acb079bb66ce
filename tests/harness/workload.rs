//! Workloads of database clients whose histories are checked afterwards, by code that knows nothing of
//! any proxy: only what was sent, what was answered, and what the table holds in the end.
//!
//! - [`ledger`]: inserts that must be there exactly once, or not at all;
//! - [`own_reads`]: reads that must see what their own session has written.
//!
//! Both take any server by a connection string (several hosts and `target_session_attrs` included), and
//! run on a thread of their own until they are stopped:
//!
//! ```no_run
//! use lb_tests::workload::{Load, Target, ledger::Ledger};
//! # fn main() -> anyhow::Result<()> {
//! # let server: lb_tests::postgres::Postgres = todo!();
//! Ledger::create(&server)?;
//! let ledger = Ledger::start(&Target::local(6432), Load::clients(20))?;
//! // … a fault …
//! ledger.wait_for_more(100, std::time::Duration::from_secs(20))?;
//! let verdict = ledger.stop()?.check(&Ledger::rows(&server)?);
//! verdict.expect_whole()?;
//! # Ok(())
//! # }
//! ```

pub mod ledger;
pub mod own_reads;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::wait;

/// Where clients connect: a connection string as `tokio_postgres` takes it, without TLS.
#[derive(Debug, Clone)]
pub struct Target(String);

impl Target {
    /// The superuser's own database at a port of this host.
    pub fn local(port: u16) -> Self {
        Self::words(&format!("host=127.0.0.1 port={port}"))
    }

    /// Whichever of these ports of this host leads to a server that takes writes.
    pub fn writable(ports: &[u16]) -> Self {
        let hosts = vec!["127.0.0.1"; ports.len()].join(",");
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(",");
        Self::words(&format!(
            "host={hosts} port={ports} target_session_attrs=read-write"
        ))
    }

    /// Any words of a connection string; user and database are `postgres` unless they say otherwise.
    pub fn words(words: &str) -> Self {
        Self(format!(
            "user=postgres dbname=postgres connect_timeout=5 {words}"
        ))
    }
}

/// How much is done, and how long one operation may take.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Sessions; each does one thing at a time.
    pub clients: usize,
    /// What is not answered by then is called hung, its connection is dropped.
    pub operation_max: Duration,
    /// Between two operations of one client.
    pub pause: Duration,
}

impl Load {
    /// So many clients that give every operation 15 seconds, and rest 2 ms after it.
    pub fn clients(clients: usize) -> Self {
        Self {
            clients,
            operation_max: Duration::from_secs(15),
            pause: Duration::from_millis(2),
        }
    }

    /// With another limit for one operation.
    #[must_use]
    pub fn operation_max(mut self, operation_max: Duration) -> Self {
        self.operation_max = operation_max;
        self
    }

    /// With another rest.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

/// Why an operation failed, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// An error with this SQLSTATE.
    Sqlstate(String),
    /// The connection ended without a word, or was refused by the kernel.
    Closed,
    /// No answer within the limit.
    Hung,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlstate(code) => f.write_str(code),
            Self::Closed => f.write_str("closed"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

/// How often each failure came.
pub type Failures = BTreeMap<Failure, u64>;

/// What clients and the one who watches them share.
#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    succeeded: AtomicU64,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }
}

/// Clients at work on a thread of their own; told to stop on drop.
#[derive(Debug)]
struct Running<T> {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<T>>>>,
}

impl<T: Send + 'static> Running<T> {
    /// Runs one future for each client; `client` makes it.
    fn start<F>(
        clients: usize,
        client: impl Fn(usize, Arc<Shared>) -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = T> + 'static,
    {
        let shared = Arc::new(Shared::default());
        let for_clients = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("lbt-workload".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let all = (0..clients).map(|number| client(number, Arc::clone(&for_clients)));
                Ok(runtime.block_on(futures::future::join_all(all)))
            });
        Ok(Self {
            shared,
            thread: Some(thread.context("start the workload")?),
        })
    }

    fn succeeded(&self) -> u64 {
        self.shared.succeeded.load(Ordering::Relaxed)
    }

    fn wait_for_more(&self, more: u64, deadline: Duration) -> Result<()> {
        let wanted = self.succeeded() + more;
        wait::until("the workload to go on", deadline, || {
            self.succeeded() >= wanted
        })
    }

    fn stop(mut self) -> Result<Vec<T>> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped once only")?;
        thread
            .join()
            .map_err(|_| anyhow!("the workload panicked"))?
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}
