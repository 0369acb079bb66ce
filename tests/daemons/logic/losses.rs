//! Servers are lost while clients work: no read fails, and every writer is told the truth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::postgres::Replication;
use lb_tests::{scale, wait};

use super::site::Cluster;
use crate::setup::{SOON, connect};

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    longest_read_us: AtomicU64,
    failed_reads: std::sync::Mutex<Vec<String>>,
    acknowledged: std::sync::Mutex<BTreeSet<u32>>,
    unknown: std::sync::Mutex<BTreeSet<u32>>,
    refused: std::sync::Mutex<BTreeSet<u32>>,
    other: std::sync::Mutex<Vec<String>>,
    next: AtomicU32,
    is_over: AtomicBool,
}

impl Seen {
    async fn read(self: Arc<Self>, port: u16) -> Result<()> {
        let client = connect(port, "").await?;
        while !self.is_over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let outcome = client.simple_query("SELECT count(*) FROM known").await;
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.longest_read_us.fetch_max(took, Ordering::Relaxed);
            self.reads.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = outcome {
                let failed = format!("{error:?}");
                self.failed_reads.lock().expect("no panic").push(failed);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Each insert has a number of its own, and is never tried again.
    async fn write(self: Arc<Self>, port: u16) -> Result<()> {
        let mut client = connect(port, "").await?;
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let insert = format!("INSERT INTO ledger VALUES ({number})");
            let insert = match number % 3 {
                0 => insert,
                1 => format!("BEGIN; {insert}; COMMIT"),
                _ => {
                    let begun = client.batch_execute("BEGIN").await;
                    if let Err(error) = begun {
                        self.note(number, &error);
                        client = connect(port, "").await?;
                        continue;
                    }
                    if let Err(error) = client.batch_execute(&insert).await {
                        self.note(number, &error);
                        let _ = client.batch_execute("ROLLBACK").await;
                        if client.is_closed() {
                            client = connect(port, "").await?;
                        }
                        continue;
                    }
                    "COMMIT".to_owned()
                }
            };
            match client.batch_execute(&insert).await {
                Ok(()) => drop(self.acknowledged.lock().expect("no panic").insert(number)),
                Err(error) => self.note(number, &error),
            }
            if client.is_closed() {
                client = connect(port, "").await?;
            }
        }
        Ok(())
    }

    fn note(&self, number: u32, error: &tokio_postgres::Error) {
        let code = error.code().map(|code| code.code().to_owned());
        let set = match code.as_deref() {
            Some("08007" | "40003") => &self.unknown,
            Some("08006" | "57P03" | "25P02") => &self.refused,
            _ => {
                let what = format!("{number}: {error:?}");
                return self.other.lock().expect("no panic").push(what);
            }
        };
        set.lock().expect("no panic").insert(number);
    }
}

/// Clients work while `fault` happens; what they saw is checked against the ledger.
async fn round(victim: usize, fault: Fault) -> Result<()> {
    let mut cluster = Cluster::new(2, ", failover_timeout = \"20s\"")?;
    cluster.psql("CREATE TABLE ledger (id int); CREATE TABLE known (a int)")?;
    cluster.servers[0].replicate(Replication::Synchronous, &["\"db-2\"", "\"db-3\""])?;
    let seen = Arc::new(Seen::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        clients.spawn(Arc::clone(&seen).read(cluster.port()));
        clients.spawn(Arc::clone(&seen).write(cluster.port()));
    }
    wait::until("standbys answer", SOON, || {
        cluster.sum("postgres_reads_total", "db-2") > Some(50.0)
            || cluster.sum("postgres_reads_total", "db-3") > Some(50.0)
    })?;
    match fault {
        Fault::Kill => cluster.servers[victim].kill()?,
        Fault::Freeze => cluster.servers[victim].freeze()?,
    }
    if victim == 0 {
        // As a failover manager does: the standby that is ahead.
        let received = |server: usize| {
            cluster.servers[server].sql("SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn")
        };
        let ahead: [f64; 2] = [received(1)?.parse()?, received(2)?.parse()?];
        let new = if ahead[0] >= ahead[1] { 1 } else { 2 };
        cluster.servers[new].sql("ALTER SYSTEM SET synchronous_standby_names = ''")?;
        cluster.servers[new].promote()?;
    }
    let before = seen.acknowledged.lock().expect("no panic").len();
    wait::until("writes go on", SOON, || {
        seen.acknowledged.lock().expect("no panic").len() > before + 50
    })?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    seen.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    if fault == Fault::Freeze {
        cluster.servers[victim].thaw()?;
    }
    check(&cluster, &seen)
}

fn check(cluster: &Cluster, seen: &Seen) -> Result<()> {
    let rows = cluster.psql("SELECT id FROM ledger ORDER BY id")?;
    let rows: Vec<u32> = rows
        .lines()
        .map(|line| line.parse().context("an id"))
        .collect::<Result<_>>()?;
    let there: BTreeSet<u32> = rows.iter().copied().collect();
    ensure!(there.len() == rows.len(), "something was done twice");
    let acknowledged = seen.acknowledged.lock().expect("no panic");
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let refused = seen.refused.lock().expect("no panic");
    let lied: Vec<_> = refused.intersection(&there).collect();
    ensure!(lied.is_empty(), "said to be undone, and done: {lied:?}");
    let other = seen.other.lock().expect("no panic");
    ensure!(other.is_empty(), "errors that say nothing: {other:?}");
    let failed = seen.failed_reads.lock().expect("no panic");
    ensure!(failed.is_empty(), "failed reads: {failed:?}");
    println!(
        "{} reads, the longest {} ms; {} writes acknowledged, {} unknown, {} refused",
        seen.reads.load(Ordering::Relaxed),
        seen.longest_read_us.load(Ordering::Relaxed) / 1000,
        acknowledged.len(),
        seen.unknown.lock().expect("no panic").len(),
        refused.len()
    );
    Ok(())
}

async fn rounds(victim: usize, fault: Fault) -> Result<()> {
    let count = if scale::is_long() { 30 } else { 1 };
    for number in 0..count {
        round(victim, fault)
            .await
            .with_context(|| format!("round {number} of {fault:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_killed_fails_no_read() -> Result<()> {
    rounds(1, Fault::Kill).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_freezes_fails_no_read() -> Result<()> {
    rounds(1, Fault::Freeze).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_loses_and_doubles_nothing() -> Result<()> {
    rounds(0, Fault::Kill).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_freezes_loses_and_doubles_nothing() -> Result<()> {
    rounds(0, Fault::Freeze).await
}
