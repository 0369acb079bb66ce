//! docs/failures.md, row by row, with real servers: what each client is told of a loss, by how far its
//! statement had come.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, TryStreamExt};
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use super::site::Cluster;
use crate::setup::{SOON, sqlstate};

/// A statement that is on its way; the client comes back with its outcome.
type OnItsWay = JoinHandle<(Client, Result<(), Error>)>;

fn run(client: Client, sql: &'static str) -> OnItsWay {
    tokio::spawn(async move {
        let outcome = client.batch_execute(sql).await;
        (client, outcome)
    })
}

async fn ended(statement: OnItsWay) -> Result<(Client, Option<String>)> {
    let (client, outcome) = tokio::time::timeout(SOON, statement).await??;
    let code = outcome.err().and_then(|error| error.code().cloned());
    Ok((client, code.map(|code| code.code().to_owned())))
}

/// A session that has begun a transaction and written in it.
async fn begun(cluster: &Cluster, number: u32) -> Result<Client> {
    let client = cluster.connect("").await?;
    let sql = format!("INSERT INTO ledger VALUES ({number})");
    client.batch_execute("BEGIN").await?;
    client.batch_execute(&sql).await?;
    Ok(client)
}

/// Waits until so many statements that match are at work on a server.
fn until_at_work(server: &Postgres, pattern: &str, count: usize) -> Result<()> {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '{pattern}' \
         AND pid <> pg_backend_pid()"
    );
    wait::until(pattern, SOON, || {
        server
            .sql(&sql)
            .is_ok_and(|found| found == count.to_string())
    })
}

/// Waits until it is known what statements do: a standby has answered one.
fn until_standby_reads(cluster: &Cluster) -> Result<()> {
    wait::until("a standby answers", SOON, || {
        let read = cluster.psql("SELECT count(*) FROM pg_class, generate_series(1, 2)");
        read.is_ok() && cluster.sum("postgres_reads_total", "db-2") > Some(0.0)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "red once of three runs: one of the sessions that should live on was closed; which, and why, is not known yet"]
async fn each_client_is_told_what_became_of_its_statement() -> Result<()> {
    let mut cluster = Cluster::new(1, ", failover_timeout = \"20s\"")?;
    cluster.psql(
        "CREATE TABLE ledger (id int); CREATE TABLE slow (id int);
         CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON slow
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleeps()",
    )?;
    let alone = cluster.connect("").await?;
    let alone = run(alone, "INSERT INTO ledger SELECT 1 FROM pg_sleep(60)");
    let asking = begun(&cluster, 2).await?;
    let asking = run(asking, "SELECT pg_sleep(60)");
    let committing = begun(&cluster, 3).await?;
    committing
        .batch_execute("INSERT INTO slow VALUES (3)")
        .await?;
    let committing = run(committing, "COMMIT");
    let (open, to_commit, to_roll_back) = (
        begun(&cluster, 4).await?,
        begun(&cluster, 5).await?,
        begun(&cluster, 6).await?,
    );
    let copying = cluster.connect("").await?;
    let sink = copying.copy_in("COPY ledger FROM STDIN").await?;
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::from_static(b"7\n")).await?;
    let waiting = cluster.connect("").await?;
    until_at_work(&cluster.servers[0], "%pg_sleep(60)%", 2)?;
    until_at_work(&cluster.servers[0], "COMMIT", 1)?;
    cluster.servers[0].kill()?;

    let (alone, code) = ended(alone).await?;
    assert_eq!(code.as_deref(), Some("40003"), "a write by itself");
    let (asking, code) = ended(asking).await?;
    assert_eq!(code.as_deref(), Some("08006"), "within a transaction");
    let outcome = asking.batch_execute("SELECT 1").await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("25P02"), "state E");
    asking.batch_execute("ROLLBACK").await?;
    let (committing, code) = ended(committing).await?;
    assert_eq!(code.as_deref(), Some("08007"), "COMMIT");
    let outcome = open.batch_execute("INSERT INTO ledger VALUES (4)").await;
    assert_eq!(
        sqlstate(outcome).as_deref(),
        Some("08006"),
        "the next statement"
    );
    let outcome = open.query("SELECT 1 + $1", &[&1]).await.map(drop);
    assert_eq!(sqlstate(outcome).as_deref(), Some("25P02"), "state E");
    open.batch_execute("ROLLBACK").await?;
    let outcome = to_commit.batch_execute("COMMIT").await;
    assert_eq!(
        sqlstate(outcome).as_deref(),
        Some("08006"),
        "a COMMIT that was not sent"
    );
    to_roll_back.batch_execute("ROLLBACK").await?;
    let _ = sink.send(bytes::Bytes::from_static(b"7\n")).await;
    let copied = sink.as_mut().finish().await.map(drop);
    assert_eq!(sqlstate(copied).as_deref(), Some("40003"), "COPY");

    // What was not sent waits, and is done once.
    let waiting = run(waiting, "INSERT INTO ledger VALUES (8)");
    wait::until("a write waits", SOON, || {
        cluster.gauge("postgres_waiting") >= Some(1.0)
    })?;
    // Reads go on: on the same sessions.
    for client in [
        &alone,
        &asking,
        &committing,
        &open,
        &to_commit,
        &to_roll_back,
        &copying,
    ] {
        client.simple_query("SELECT 1").await?;
    }
    cluster.servers[1].promote()?;
    let (_, code) = ended(waiting).await?;
    assert_eq!(code, None, "a write that was not sent");
    alone.batch_execute("INSERT INTO ledger VALUES (9)").await?;
    let there = cluster.servers[1].sql("SELECT id FROM ledger ORDER BY id")?;
    assert_eq!(there, "8\n9");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the slow read's second copy may be first, at the primary: then killing the standby breaks nothing, and it goes on for ever"]
async fn a_read_is_answered_by_another_server_unless_the_client_has_a_part() -> Result<()> {
    let mut cluster = Cluster::new(1, "")?;
    until_standby_reads(&cluster)?;
    let (short, long) = (cluster.connect("").await?, cluster.connect("").await?);
    let short = tokio::spawn(async move {
        let row = short
            .query_one("SELECT count(*) FROM generate_series(1, 10000000)", &[])
            .await;
        row.map(|row| row.get::<_, i64>(0))
    });
    // More than `read_buffer` with the first row, and then slowly more.
    let sql = "SELECT repeat('x', 100000), (SELECT count(*) FROM generate_series(1, 300000 + g)) \
               FROM generate_series(1, 100000) g";
    let rows = long.query_raw(sql, std::iter::empty::<i32>()).await?;
    let mut rows = Box::pin(rows);
    rows.try_next().await?.context("a row")?;
    until_at_work(&cluster.servers[1], "%generate_series%", 2)?;
    cluster.servers[1].kill()?;
    let counted = tokio::time::timeout(SOON * 2, short).await??;
    assert_eq!(counted?, 10_000_000);
    let broken = loop {
        match rows.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("the answer is whole"),
            Err(error) => break error,
        }
    };
    // In the middle of a row there is no room for an error: the connection ends.
    let code = broken.code().map(tokio_postgres::error::SqlState::code);
    assert!(matches!(code, Some("08006") | None), "{broken:?}");
    assert!(cluster.gauge("postgres_broken_off_total") >= Some(1.0));
    assert!(cluster.sum("postgres_repeats_total", "db-2") >= Some(1.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_hangs_is_overtaken_by_a_second_copy() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("").await?;
    let sql = "SELECT count(*) FROM pg_class";
    until_standby_reads(&cluster)?;
    client.simple_query(sql).await?;
    let pids = cluster.servers[1].sql(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND pid <> pg_backend_pid()",
    )?;
    let hung = Hung::new(&pids)?;
    for _ in 0..5 {
        tokio::time::timeout(SOON, client.simple_query(sql)).await??;
    }
    drop(hung);
    let won = cluster.sum("postgres_hedges_won_total", "db-1");
    ensure!(won >= Some(1.0), "{won:?} second copies were first");
    ensure!(cluster.sum("postgres_usable", "db-2") == Some(1.0));
    Ok(())
}

/// Backends that are stopped until this is dropped.
struct Hung(Vec<nix::unistd::Pid>);

impl Hung {
    fn new(pids: &str) -> Result<Self> {
        let pids: Vec<_> = pids
            .lines()
            .map(|pid| Ok(nix::unistd::Pid::from_raw(pid.parse()?)))
            .collect::<Result<_>>()?;
        ensure!(!pids.is_empty(), "nobody works for the proxy");
        for pid in &pids {
            nix::sys::signal::kill(*pid, nix::sys::signal::Signal::SIGSTOP)?;
        }
        Ok(Self(pids))
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = nix::sys::signal::kill(*pid, nix::sys::signal::Signal::SIGCONT);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_what_is_lost_is_told_once() -> Result<()> {
    let mut cluster = Cluster::new(1, ", failover_timeout = \"20s\"")?;
    cluster.psql("CREATE TABLE ledger (id int)")?;
    let (reader, writer) = (cluster.connect("").await?, cluster.connect("").await?);
    let bystander = cluster.connect("").await?;
    wait::until("the standby has the table", SOON, || {
        cluster.servers[1]
            .sql("SELECT count(*) FROM ledger")
            .is_ok()
    })?;
    // From now on the standby gets nothing more.
    let standby = &cluster.servers[1];
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")?;
    standby.sql("SELECT pg_reload_conf()")?;
    wait::until("the standby does not follow", SOON, || {
        let sql = "SELECT count(*) FROM pg_stat_wal_receiver";
        standby.sql(sql).is_ok_and(|count| count == "0")
    })?;
    for client in [&reader, &writer] {
        client
            .batch_execute("INSERT INTO ledger VALUES (1)")
            .await?;
    }
    // Time for the proxy to tell how far that is.
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.servers[0].kill()?;
    cluster.servers[1].promote()?;
    let outcome = reader
        .query("SELECT count(*) FROM ledger", &[])
        .await
        .map(drop);
    assert_eq!(sqlstate(outcome).as_deref(), Some("40000"));
    let outcome = writer.batch_execute("INSERT INTO ledger VALUES (2)").await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("40000"));
    for client in [&reader, &writer, &bystander] {
        let row = client.query_one("SELECT count(*) FROM ledger", &[]).await?;
        assert_eq!(row.get::<_, i64>(0), 0);
    }
    writer
        .batch_execute("INSERT INTO ledger VALUES (3)")
        .await?;
    let row = writer.query_one("SELECT id FROM ledger", &[]).await?;
    assert_eq!(row.get::<_, i32>(0), 3);
    assert_eq!(cluster.gauge("postgres_lost_writes_total"), Some(2.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_of_one_epoch_get_no_writes_and_an_old_one_never_again() -> Result<()> {
    let mut cluster = Cluster::new(2, ", failover_timeout = \"1s\"")?;
    cluster.psql("CREATE TABLE ledger (id int)")?;
    let client = cluster.connect("").await?;
    let bystander = cluster.connect("").await?;
    for standby in &cluster.servers[1..] {
        wait::until("the standby has the table", SOON, || {
            standby.sql("SELECT count(*) FROM ledger").is_ok()
        })?;
    }
    cluster.servers[0].kill()?;
    cluster.servers[1].promote()?;
    wait::until("db-2 takes writes", SOON, || {
        cluster.sum("postgres_primary", "db-2") == Some(1.0)
    })?;
    client
        .batch_execute("INSERT INTO ledger VALUES (1)")
        .await?;
    // The old one comes back, and says that it is primary.
    cluster.servers[0].start()?;
    wait::until("the old primary is fenced", SOON, || {
        cluster.log().contains("it is fenced")
    })?;
    client
        .batch_execute("INSERT INTO ledger VALUES (2)")
        .await?;
    assert_eq!(cluster.servers[0].sql("SELECT count(*) FROM ledger")?, "0");
    assert_eq!(cluster.sum("postgres_primary", "db-1"), Some(0.0));
    // The other standby is promoted as well, where the first one was, or beside it.
    cluster.servers[2].promote()?;
    wait::until("there is no primary", SOON, || {
        cluster.gauge("postgres_primary") == Some(0.0)
    })?;
    let outcome = bystander
        .batch_execute("INSERT INTO ledger VALUES (3)")
        .await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("57P03"));
    // Silence takes nobody's claim back.
    cluster.servers[2].kill()?;
    let outcome = bystander
        .batch_execute("INSERT INTO ledger VALUES (4)")
        .await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("57P03"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_two_clusters_are_an_error_that_says_so() -> Result<()> {
    let run = RunDirectory::new()?;
    let servers = vec![
        Postgres::start_new(&run, "db-1", "")?,
        Postgres::start_new(&run, "db-2", "")?,
    ];
    let cluster = Cluster::before(run, servers, ", failover_timeout = \"1s\"", false)?;
    wait::until("both clusters were heard", SOON, || {
        cluster.log().contains("different clusters")
    })?;
    let refused = cluster.connect("").await.err().context("it is refused")?;
    let refused: Error = refused.downcast()?;
    let code = refused.code().map(tokio_postgres::error::SqlState::code);
    assert_eq!(code, Some("57P03"));
    let said = format!("{refused:?}");
    ensure!(said.contains("different clusters"), "{said}");
    Ok(())
}
