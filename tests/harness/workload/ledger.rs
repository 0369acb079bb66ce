//! An append-only ledger: every insert has a number of its own, and every client notes what became of
//! it. The table has no unique key, so that an insert which was done twice shows.
//!
//! Inserts come in four forms: alone as a simple query, alone as a prepared statement, two in a
//! transaction of four messages, two in a transaction of one. Two of one transaction must be there both
//! or not at all.

mod check;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use self::check::Verdict;
use super::session::Session;
use super::{Failure, Failures, Load, Running, Shared, Target};
use crate::postgres::Postgres;

const INSERT: &str = "INSERT INTO lbt_ledger (id) VALUES ($1)";
/// So many numbers belong to each client.
const IDS_PER_CLIENT: i64 = 1_000_000_000;

/// Clients that write.
#[derive(Debug)]
pub struct Ledger {
    running: Running<ClientHistory>,
}

/// What one insert, or two of one transaction, came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It certainly did not happen: the server said so, or its COMMIT was never sent.
    Refused(Failure),
    /// Nobody knows.
    Unknown(Failure),
}

/// One insert, or two of one transaction.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its numbers.
    pub ids: Vec<i64>,
    /// What became of it.
    pub outcome: Outcome,
    /// From its first message to its last answer.
    pub took: Duration,
}

/// What one client did.
#[derive(Debug, Default)]
struct ClientHistory {
    entries: Vec<Entry>,
    connect_failures: Failures,
}

/// What all clients did.
#[derive(Debug, Default)]
pub struct History {
    /// In no order.
    pub entries: Vec<Entry>,
    /// What connecting failed with.
    pub connect_failures: Failures,
}

impl Ledger {
    /// Makes the table.
    ///
    /// # Errors
    /// The server's.
    pub fn create(server: &Postgres) -> Result<()> {
        server
            .sql("CREATE TABLE lbt_ledger (id bigint NOT NULL)")
            .map(drop)
    }

    /// Lets clients write until they are stopped.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(target: &Target, load: Load) -> Result<Self> {
        let target = target.clone();
        let running = Running::start(load.clients, move |number, shared| {
            client(number, target.clone(), load, shared)
        })?;
        Ok(Self { running })
    }

    /// How many inserts or transactions were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.running.succeeded()
    }

    /// Waits until so many more were acknowledged.
    ///
    /// # Errors
    /// If they were not at the deadline.
    pub fn wait_for_more(&self, more: u64, deadline: Duration) -> Result<()> {
        self.running.wait_for_more(more, deadline)
    }

    /// Stops the clients, each after what it is doing.
    ///
    /// # Errors
    /// If the workload itself failed.
    pub fn stop(self) -> Result<History> {
        let mut history = History::default();
        for client in self.running.stop()? {
            history.entries.extend(client.entries);
            for (failure, count) in client.connect_failures {
                *history.connect_failures.entry(failure).or_default() += count;
            }
        }
        Ok(history)
    }

    /// Every number in the table, asked past every proxy.
    ///
    /// # Errors
    /// The server's.
    pub fn rows(server: &Postgres) -> Result<Vec<i64>> {
        let rows = server.sql("SELECT id FROM lbt_ledger")?;
        rows.lines()
            .map(|line| line.parse().context("an id is a number"))
            .collect()
    }
}

impl History {
    /// Compares what was acknowledged and refused with what the table holds.
    pub fn check(&self, rows: &[i64]) -> Verdict {
        check::check(self, rows)
    }
}

async fn client(number: usize, target: Target, load: Load, shared: Arc<Shared>) -> ClientHistory {
    let mut session = Session::new(&target, load.operation_max);
    let mut entries = Vec::new();
    let first = i64::try_from(number).unwrap_or(0) * IDS_PER_CLIENT;
    for turn in 0.. {
        // Not before the first connection: whoever stops meanwhile has done nothing.
        while !shared.is_stopping() && !session.connect().await {}
        if shared.is_stopping() {
            break;
        }
        let began = Instant::now();
        let ids = [first + 2 * turn, first + 2 * turn + 1];
        let (used, outcome) = insert(&mut session, turn % 4, ids).await;
        if outcome == Outcome::Done {
            shared.count();
        }
        entries.push(Entry {
            ids: ids[..used].to_vec(),
            outcome,
            took: began.elapsed(),
        });
        tokio::time::sleep(load.pause).await;
    }
    ClientHistory {
        entries,
        connect_failures: session.connect_failures,
    }
}

/// Inserts in one of four forms; returns how many of the numbers it used.
async fn insert(session: &mut Session, form: i64, ids: [i64; 2]) -> (usize, Outcome) {
    let [one, two] = ids;
    match form {
        0 => {
            let sql = format!("INSERT INTO lbt_ledger (id) VALUES ({one})");
            (1, committing(session.simple(&sql).await))
        }
        1 => (
            1,
            committing(session.prepared(INSERT, &[one]).await.map(drop)),
        ),
        2 => {
            let sql = format!(
                "BEGIN; INSERT INTO lbt_ledger (id) VALUES ({one}); INSERT INTO lbt_ledger (id) VALUES ({two}); COMMIT"
            );
            let outcome = committing(session.simple(&sql).await);
            if outcome != Outcome::Done {
                session.roll_back().await;
            }
            (2, outcome)
        }
        _ => (2, in_a_transaction(session, ids).await),
    }
}

async fn in_a_transaction(session: &mut Session, ids: [i64; 2]) -> Outcome {
    let mut written = session.simple("BEGIN").await;
    for id in ids {
        if written.is_ok() {
            written = session.prepared(INSERT, &[id]).await.map(drop);
        }
    }
    if let Err(failure) = written {
        // Whatever the reason: nobody has sent COMMIT.
        session.roll_back().await;
        return Outcome::Refused(failure);
    }
    let outcome = committing(session.simple("COMMIT").await);
    if outcome != Outcome::Done {
        session.roll_back().await;
    }
    outcome
}

/// The outcome of what commits when it succeeds.
fn committing(outcome: Result<(), Failure>) -> Outcome {
    match outcome {
        Ok(()) => Outcome::Done,
        Err(Failure::Sqlstate(code)) if !may_be_done(&code) => {
            Outcome::Refused(Failure::Sqlstate(code))
        }
        Err(failure) => Outcome::Unknown(failure),
    }
}

/// Whether a commit may have happened although this SQLSTATE was the answer: lost connections, "statement
/// completion unknown", servers that end (in the middle of waiting for a standby, say), internal errors.
fn may_be_done(code: &str) -> bool {
    code.starts_with("08")
        || code.starts_with("XX")
        || matches!(code, "40003" | "57P01" | "57P02" | "57P05")
}
