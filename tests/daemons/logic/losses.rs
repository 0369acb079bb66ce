//! Servers are lost while clients work: no read fails, and every writer is told the truth.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::postgres::Replication;
use lb_tests::{scale, wait};
use tokio_postgres::{Client, Error};

use super::site::Cluster;
use crate::setup::{SOON, connect};

/// Rounds of each fault in the long run.
const ROUNDS_LONG: u32 = 30;
/// The longest that a read may take, in the long run, when a server hangs or is cut off.
const STALL_MAX: Duration = Duration::from_millis(250);
/// The same when it is killed.
const STALL_KILLED_MAX: Duration = Duration::from_millis(100);

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
    CutOff,
}

/// Numbers of writes, by what their writer was told.
#[derive(Default)]
struct Ledger {
    acknowledged: BTreeSet<u32>,
    /// 08007, 40003: it may be done.
    unknown: BTreeSet<u32>,
    /// It is not done.
    refused: BTreeSet<u32>,
    /// Errors that say neither.
    other: Vec<String>,
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    longest_read_us: AtomicU64,
    failed_reads: Mutex<Vec<String>>,
    /// Sessions that were told that it is not known whether what they wrote is still there.
    told: AtomicU32,
    ledger: Mutex<Ledger>,
    next: AtomicU32,
    is_over: AtomicBool,
}

impl Seen {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic")
    }

    fn took(&self, began: Instant) {
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest_read_us.fetch_max(took, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Only reads.
    async fn read(self: Arc<Self>, port: u16) -> Result<()> {
        let client = connect(port, "").await?;
        while !self.is_over() {
            let began = Instant::now();
            let outcome = client.simple_query("SELECT count(*) FROM known").await;
            self.took(began);
            if let Err(error) = outcome {
                let failed = format!("{error:?}");
                self.failed_reads.lock().expect("no panic").push(failed);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes, and reads what it wrote.
    async fn write_and_read(self: Arc<Self>, port: u16) -> Result<()> {
        let mut client = connect(port, "").await?;
        while !self.is_over() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let insert = format!("INSERT INTO ledger VALUES ({number})");
            let Some(()) = self.note(number, client.batch_execute(&insert).await) else {
                client = alive(client, port).await?;
                continue;
            };
            for _ in 0..3 {
                let sql = format!("SELECT count(*) FROM ledger WHERE id = {number}");
                let outcome = client.query_one(&sql, &[]).await;
                match outcome {
                    Ok(row) => ensure!(row.get::<_, i64>(0) == 1, "{number} was acknowledged"),
                    Err(error) if code(&error).as_deref() == Some("08007") => {
                        self.told.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        let failed = format!("after a write: {error:?}");
                        self.failed_reads.lock().expect("no panic").push(failed);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Each insert has a number of its own, and is never tried again.
    async fn write(self: Arc<Self>, port: u16) -> Result<()> {
        let mut client = connect(port, "").await?;
        while !self.is_over() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let insert = format!("INSERT INTO ledger VALUES ({number})");
            let last = match number % 3 {
                0 => insert,
                1 => format!("BEGIN; {insert}; COMMIT"),
                _ => {
                    if self.begin(number, &client, &insert).await.is_none() {
                        let _ = client.batch_execute("ROLLBACK").await;
                        client = alive(client, port).await?;
                        continue;
                    }
                    "COMMIT".to_owned()
                }
            };
            self.note(number, client.batch_execute(&last).await);
            client = alive(client, port).await?;
        }
        Ok(())
    }

    /// Writes in a transaction, whose end is yet to come: what fails until then is not done.
    async fn begin(&self, number: u32, client: &Client, insert: &str) -> Option<()> {
        for sql in ["BEGIN", insert] {
            if let Err(error) = client.batch_execute(sql).await {
                let mut ledger = self.ledger();
                match code(&error).as_deref() {
                    Some("08006" | "57P03" | "25P02" | "40000" | "08007") => {
                        ledger.refused.insert(number);
                    }
                    _ => ledger.other.push(format!("{number}, {sql}: {error:?}")),
                }
                return None;
            }
        }
        Some(())
    }

    /// Notes what became of a write.
    fn note(&self, number: u32, outcome: Result<(), Error>) -> Option<()> {
        let mut ledger = self.ledger();
        let Err(error) = outcome else {
            ledger.acknowledged.insert(number);
            return Some(());
        };
        match code(&error).as_deref() {
            Some("08007" | "40003") => ledger.unknown.insert(number),
            Some("08006" | "57P03" | "25P02" | "40000") => ledger.refused.insert(number),
            _ => {
                ledger.other.push(format!("{number}: {error:?}"));
                true
            }
        };
        None
    }
}

fn code(error: &Error) -> Option<String> {
    error.code().map(|code| code.code().to_owned())
}

/// The client, or another in its place.
async fn alive(client: Client, port: u16) -> Result<Client> {
    if client.is_closed() {
        return connect(port, "").await;
    }
    Ok(client)
}

/// Clients at work.
struct Load {
    seen: Arc<Seen>,
    clients: tokio::task::JoinSet<Result<()>>,
}

impl Load {
    /// Sixteen: half of them only read, half of the others only write.
    fn start(cluster: &Cluster) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..16 {
            let (seen, port) = (Arc::clone(&seen), cluster.port());
            match number % 4 {
                0 | 1 => clients.spawn(seen.read(port)),
                2 => clients.spawn(seen.write(port)),
                _ => clients.spawn(seen.write_and_read(port)),
            };
        }
        let load = Self { seen, clients };
        wait::until("standbys answer", SOON, || {
            let reads = |server| cluster.sum("postgres_reads_total", server);
            reads("db-2") > Some(50.0) && reads("db-3") > Some(50.0)
        })?;
        load.wait_for_writes()?;
        Ok(load)
    }

    fn wait_for_writes(&self) -> Result<()> {
        let before = self.seen.ledger().acknowledged.len();
        wait::until("writes go on", SOON, || {
            self.seen.ledger().acknowledged.len() > before + 50
        })
        .with_context(|| self.words())
    }

    fn words(&self) -> String {
        let ledger = self.seen.ledger();
        format!(
            "{} reads, the longest {} ms; {} writes acknowledged, {} unknown, {} refused; {} told of a \
             lost position",
            self.seen.reads.load(Ordering::Relaxed),
            self.seen.longest_read_us.load(Ordering::Relaxed) / 1000,
            ledger.acknowledged.len(),
            ledger.unknown.len(),
            ledger.refused.len(),
            self.seen.told.load(Ordering::Relaxed),
        )
    }

    /// Ends the clients, and checks what they saw against the ledger of a server.
    async fn check(mut self, cluster: &Cluster, server: usize, fault: Fault) -> Result<()> {
        self.seen.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        let rows = cluster.servers[server].sql("SELECT id FROM ledger ORDER BY id")?;
        println!("{fault:?}: {}", self.words());
        let rows: Vec<u32> = rows
            .lines()
            .map(|line| line.parse().context("an id"))
            .collect::<Result<_>>()?;
        let there: BTreeSet<u32> = rows.iter().copied().collect();
        ensure!(there.len() == rows.len(), "something was done twice");
        let ledger = self.seen.ledger();
        let lost: Vec<_> = ledger.acknowledged.difference(&there).collect();
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let lied: Vec<_> = ledger.refused.intersection(&there).collect();
        ensure!(lied.is_empty(), "said to be undone, and done: {lied:?}");
        let other = &ledger.other;
        ensure!(other.is_empty(), "errors that say nothing: {other:?}");
        let failed = self.seen.failed_reads.lock().expect("no panic");
        ensure!(failed.is_empty(), "failed reads: {failed:?}");
        let longest = Duration::from_micros(self.seen.longest_read_us.load(Ordering::Relaxed));
        let most = match fault {
            Fault::Killed => STALL_KILLED_MAX,
            Fault::Frozen | Fault::CutOff => STALL_MAX,
        };
        ensure!(
            !scale::is_long() || longest <= most,
            "a read took {longest:?} when a server was {fault:?}"
        );
        Ok(())
    }
}

fn strike(cluster: &mut Cluster, victim: usize, fault: Fault) -> Result<()> {
    match fault {
        Fault::Killed => cluster.servers[victim].kill(),
        Fault::Frozen => cluster.servers[victim].freeze(),
        Fault::CutOff => {
            cluster.paths[victim].silence();
            Ok(())
        }
    }
}

fn rounds() -> u32 {
    if scale::is_long() { ROUNDS_LONG } else { 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_lost_and_no_read_fails() -> Result<()> {
    let mut cluster = Cluster::with_paths(2, ", failover_timeout = \"20s\"")?;
    cluster.psql("CREATE TABLE ledger (id int); CREATE TABLE known (a int)")?;
    for round in 0..rounds() {
        for fault in [Fault::Killed, Fault::Frozen, Fault::CutOff] {
            cluster.servers[0].sql("TRUNCATE ledger")?;
            let load = Load::start(&cluster)?;
            strike(&mut cluster, 1, fault)?;
            wait::until("the standby is not used", SOON, || {
                cluster.sum("postgres_usable", "db-2") == Some(0.0)
            })?;
            load.wait_for_writes()?;
            match fault {
                Fault::Killed => cluster.servers[1].start()?,
                Fault::Frozen => cluster.servers[1].thaw()?,
                Fault::CutOff => cluster.paths[1].resume(),
            }
            wait::until("the standby is used again", SOON, || {
                cluster.sum("postgres_usable", "db-2") == Some(1.0)
            })?;
            load.wait_for_writes()?;
            load.check(&cluster, 0, fault)
                .await
                .with_context(|| format!("round {round}"))?;
        }
    }
    Ok(())
}

/// The standby that has most of the log, once none gets any more of it: what a failover manager does.
fn most_advanced(cluster: &Cluster) -> Result<usize> {
    let mut before = [0.0; 2];
    let mut new = 1;
    wait::until("the standbys have got what they will get", SOON, || {
        let received = |server: usize| -> Result<f64> {
            let sql = "SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn";
            cluster.servers[server]
                .sql(sql)?
                .parse::<f64>()
                .context("a position")
        };
        let (Ok(first), Ok(second)) = (received(1), received(2)) else {
            return false;
        };
        let is_settled = before == [first, second];
        before = [first, second];
        new = if first >= second { 1 } else { 2 };
        is_settled
    })?;
    Ok(new)
}

/// The primary is lost, and a standby is promoted.
async fn primary_is_lost(fault: Fault) -> Result<()> {
    for round in 0..rounds() {
        one_primary_is_lost(fault)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

async fn one_primary_is_lost(fault: Fault) -> Result<()> {
    let mut cluster = Cluster::with_paths(2, ", failover_timeout = \"20s\"")?;
    cluster.psql("CREATE TABLE ledger (id int); CREATE TABLE known (a int)")?;
    cluster.servers[0].replicate(Replication::Synchronous, &["db-2", "db-3"])?;
    for standby in [1, 2] {
        cluster.servers[0].wait_until_synchronous(&cluster.servers[standby])?;
    }
    let load = Load::start(&cluster)?;
    strike(&mut cluster, 0, fault)?;
    let new = most_advanced(&cluster)?;
    cluster.servers[new].sql("ALTER SYSTEM SET synchronous_standby_names = ''")?;
    cluster.servers[new].promote()?;
    load.wait_for_writes()?;
    match fault {
        Fault::Killed => {}
        Fault::Frozen => cluster.servers[0].thaw()?,
        Fault::CutOff => cluster.paths[0].resume(),
    }
    if fault != Fault::Killed {
        wait::until("the old primary is fenced", SOON, || {
            cluster.log().contains("it is fenced")
        })?;
    }
    load.wait_for_writes()?;
    load.check(&cluster, new, fault).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_loses_and_doubles_nothing() -> Result<()> {
    primary_is_lost(Fault::Killed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_freezes_loses_and_doubles_nothing() -> Result<()> {
    primary_is_lost(Fault::Frozen).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_cut_off_loses_and_doubles_nothing() -> Result<()> {
    primary_is_lost(Fault::CutOff).await
}
