//! docs/failures.md, row by row, with real servers: what each client is told of a loss, by how far its
//! statement had come.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{SinkExt, TryStreamExt};
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use super::site::{Cluster, Options};
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

/// Waits until so many sessions know that the primary is lost.
fn until_noticed(cluster: &Cluster, sessions: usize) -> Result<()> {
    wait::until("sessions notice the loss", SOON, || {
        cluster.log().matches("the primary was lost").count() == sessions
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
    // What is asked before a session knows of the loss is sent, and told as such.
    until_noticed(&cluster, 7)?;

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
async fn of_several_statements_sent_ahead_each_is_told() -> Result<()> {
    let mut cluster = Cluster::new(1, ", failover_timeout = \"20s\"")?;
    cluster.psql("CREATE TABLE ledger (id int)")?;
    let (alone, open, ending) = (
        cluster.connect("").await?,
        begun(&cluster, 1).await?,
        begun(&cluster, 2).await?,
    );
    let sleep = "SELECT pg_sleep(60)";
    let pairs = [
        (alone, [sleep, "INSERT INTO ledger VALUES (3)"], "40003"),
        (open, [sleep, "INSERT INTO ledger VALUES (4)"], "08006"),
        // What stands behind the end of a transaction is not rolled back with it.
        (
            ending,
            ["SELECT pg_sleep(60)", "/* the end */ ROLLBACK"],
            "40003",
        ),
    ];
    let mut asked = Vec::new();
    for (client, [first, second], expected) in pairs {
        asked.push(tokio::spawn(async move {
            let both = futures::join!(client.batch_execute(first), client.batch_execute(second));
            (client, both, expected)
        }));
    }
    until_at_work(&cluster.servers[0], "%pg_sleep(60)%", 3)?;
    cluster.servers[0].kill()?;
    for asked in asked {
        let (client, (first, second), expected) = tokio::time::timeout(SOON, asked).await??;
        assert_eq!(sqlstate(first).as_deref(), Some(expected));
        assert_eq!(sqlstate(second).as_deref(), Some(expected));
        if expected == "08006" {
            let outcome = client.batch_execute("SELECT 1").await;
            assert_eq!(sqlstate(outcome).as_deref(), Some("25P02"), "state E");
            client.batch_execute("/* whose */ ROLLBACK").await?;
        }
        client.simple_query("SELECT 1").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lives_on_whose_server_was_lost_in_the_middle_of_a_statement() -> Result<()> {
    let mut cluster = Cluster::new(1, "")?;
    cluster.psql("CREATE TABLE long (text text)")?;
    let client = cluster.connect("").await?;
    let before = cluster.sum("postgres_writes_total", "db-1").unwrap_or(0.0);
    // More than all buffers on the way take.
    let text = "x".repeat(100 << 20);
    let insert = tokio::spawn(async move {
        let sql = "INSERT INTO long VALUES ($1)";
        let outcome = client.execute(sql, &[&text]).await.map(drop);
        (client, outcome)
    });
    wait::until("a write is on its way", SOON, || {
        cluster.sum("postgres_writes_total", "db-1") >= Some(before + 2.0)
    })?;
    cluster.servers[0].kill()?;
    let (client, outcome) = tokio::time::timeout(SOON, insert).await??;
    assert_eq!(sqlstate(outcome).as_deref(), Some("40003"));
    client.simple_query("SELECT 1").await?;
    Ok(())
}

/// A read that waits for a file in the directory of whichever server runs it.
const WAITS: &str = "CREATE FUNCTION waits(file text) RETURNS bool STABLE LANGUAGE plpgsql AS
    $$ BEGIN
         FOR i IN 1..3000 LOOP
           EXIT WHEN (pg_stat_file(file, true)).size IS NOT NULL;
           PERFORM pg_sleep(0.02);
         END LOOP;
         RETURN true;
       END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_answered_by_another_server_unless_the_client_has_a_part() -> Result<()> {
    let mut cluster = Cluster::new(1, "")?;
    cluster.psql(WAITS)?;
    wait::until("the standby knows the function", SOON, || {
        let before = cluster.sum("postgres_reads_total", "db-2");
        let is_read = cluster.psql("SELECT waits('PG_VERSION')").is_ok();
        is_read && cluster.sum("postgres_reads_total", "db-2") > before
    })?;
    let (short, long) = (cluster.connect("").await?, cluster.connect("").await?);
    let short = tokio::spawn(async move {
        let row = short.query_one("SELECT waits('last'), 42", &[]).await;
        row.map(|row| row.get::<_, i32>(1))
    });
    // Each row is more than `read_buffer`. The first ones come of the standby only, also where a second
    // copy was sent; the last one nobody gives.
    fs::write(cluster.servers[1].data().join("first"), "")?;
    let sql = "SELECT repeat('x', 100000), waits(CASE WHEN g < 3 THEN 'first' ELSE 'last' END) \
               FROM generate_series(1, 3) g";
    let rows = long.query_raw(sql, std::iter::empty::<i32>()).await?;
    let mut rows = Box::pin(rows);
    rows.try_next().await?.context("a row")?;
    until_at_work(&cluster.servers[1], "%waits%", 2)?;
    cluster.servers[1].kill()?;
    fs::write(cluster.servers[0].data().join("last"), "")?;
    let counted = tokio::time::timeout(SOON, short).await??;
    assert_eq!(counted?, 42);
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
    let options = Options {
        postgres: ", failover_timeout = \"1s\"",
        ..Options::default()
    };
    let cluster = Cluster::before(run, servers, &options)?;
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
