//! Read your writes: each session counts up a register of its own, and reads it again and again in
//! between. No read may show less than the session was last acknowledged.
//!
//! Reads come in three forms: a simple query, a prepared statement, a transaction of its own. What
//! other sessions' registers show is not compared: that was never promised.

mod check;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

pub use self::check::Verdict;
use super::session::Session;
use super::{Failure, Failures, Load, Running, Shared, Target};
use crate::postgres::Postgres;

// A write of unknown outcome may come late: it must not undo a newer one.
const WRITE: &str = "UPDATE lbt_registers SET value = greatest(value, $2) WHERE key = $1";
const READ: &str = "SELECT value FROM lbt_registers WHERE key = $1";

/// Sessions that write and read.
#[derive(Debug)]
pub struct OwnReads {
    running: Running<ClientHistory>,
}

/// What a session did to its register, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It tried to set it to this value.
    Write(i64, Result<(), Failure>),
    /// It read it: its value, none if there was no such row.
    Read(Result<Option<i64>, Failure>),
}

/// What one session did, and how long it took.
#[derive(Debug, Default)]
pub(super) struct ClientHistory {
    pub steps: Vec<Step>,
    pub took: Vec<Duration>,
    pub connect_failures: Failures,
}

/// What all sessions did.
#[derive(Debug, Default)]
pub struct History {
    clients: Vec<ClientHistory>,
}

impl OwnReads {
    /// Makes the table, with a register for each of so many sessions.
    ///
    /// # Errors
    /// The server's.
    pub fn create(server: &Postgres, clients: usize) -> Result<()> {
        let sql = format!(
            "CREATE TABLE lbt_registers (key bigint PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50); \
             INSERT INTO lbt_registers SELECT key, 0 FROM generate_series(0, {clients} - 1) AS key"
        );
        server.sql(&sql).map(drop)
    }

    /// Lets the sessions work until they are stopped, each with `reads` reads after each write.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(target: &Target, load: Load, reads: u32) -> Result<Self> {
        let target = target.clone();
        let running = Running::start(load.clients, move |number, shared| {
            client(number, target.clone(), load, reads, shared)
        })?;
        Ok(Self { running })
    }

    /// How many reads were answered so far.
    pub fn answered(&self) -> u64 {
        self.running.succeeded()
    }

    /// Waits until so many more were.
    ///
    /// # Errors
    /// If they were not at the deadline.
    pub fn wait_for_more(&self, more: u64, deadline: Duration) -> Result<()> {
        self.running.wait_for_more(more, deadline)
    }

    /// Stops the sessions, each after what it is doing.
    ///
    /// # Errors
    /// If the workload itself failed.
    pub fn stop(self) -> Result<History> {
        Ok(History {
            clients: self.running.stop()?,
        })
    }
}

impl History {
    /// Whether each session saw what it had written.
    pub fn check(&self) -> Verdict {
        check::check(&self.clients)
    }
}

async fn client(
    number: usize,
    target: Target,
    load: Load,
    reads: u32,
    shared: Arc<Shared>,
) -> ClientHistory {
    let mut session = Session::new(&target, load.operation_max);
    let mut history = ClientHistory::default();
    let key = i64::try_from(number).unwrap_or(0);
    // Unknown writes may show later: their values are never used again.
    for value in 1.. {
        for turn in 0..=reads {
            while !shared.is_stopping() && !session.connect().await {}
            if shared.is_stopping() {
                history.connect_failures = session.connect_failures;
                return history;
            }
            let began = Instant::now();
            let step = if turn == 0 {
                Step::Write(
                    value,
                    session.prepared(WRITE, &[key, value]).await.map(drop),
                )
            } else {
                let read = read(&mut session, key, value + i64::from(turn)).await;
                if read.is_ok() {
                    shared.count();
                }
                Step::Read(read)
            };
            history.steps.push(step);
            history.took.push(began.elapsed());
            if !load.pause.is_zero() {
                tokio::time::sleep(load.pause).await;
            }
        }
    }
    history
}

async fn read(session: &mut Session, key: i64, form: i64) -> Result<Option<i64>, Failure> {
    let sql = format!("SELECT value FROM lbt_registers WHERE key = {key}");
    let numbers = match form % 3 {
        0 => session.simple_numbers(&sql).await?,
        1 => session.prepared(READ, &[key]).await?,
        _ => {
            let sql = format!("BEGIN READ ONLY; {sql}; COMMIT");
            let read = session.simple_numbers(&sql).await;
            if read.is_err() {
                session.roll_back().await;
            }
            read?
        }
    };
    Ok(numbers.first().copied())
}
