//! The server goes away, in every way: clients get a proper SQLSTATE or wait, nothing hangs, and
//! the proxy serves again by itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use lb_tests::wait;

use crate::setup::{SOON, Site, sqlstate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_told_and_its_successor_is_used() -> Result<()> {
    let mut site = Site::new("pool = { size = 2, queue_timeout = \"20s\" }")?;
    let busy = site.connect("").await?;
    let idle = site.connect("").await?;
    busy.batch_execute("BEGIN; SELECT 1").await?;
    let asleep =
        tokio::spawn(async move { busy.simple_query("SELECT pg_sleep(600)").await.map(drop) });
    wait::until("the query runs", SOON, || {
        site.server.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'").is_ok_and(|count| count == "1")
    })?;
    site.server.kill()?;
    assert_eq!(sqlstate(asleep.await?).as_deref(), Some("08006"));
    // Who had nothing open waits for the server to come back.
    let waits = tokio::spawn(async move {
        idle.query_one("SELECT 1", &[])
            .await
            .map(|row| row.get::<_, i32>(0))
    });
    site.server.start()?;
    assert_eq!(waits.await??, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_outcome_is_unknown_is_called_so() -> Result<()> {
    let mut site = Site::new("pool = { size = 1 }")?;
    site.server.sql("CREATE TABLE t (a int); CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END'; CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()")?;
    let client = site.connect("").await?;
    client.batch_execute("BEGIN").await?;
    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    let commits = tokio::spawn(async move { client.batch_execute("COMMIT").await });
    wait::until("the commit runs", SOON, || {
        site.server
            .sql(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'",
            )
            .is_ok_and(|count| count == "1")
    })?;
    site.server.kill()?;
    assert_eq!(sqlstate(commits.await?).as_deref(), Some("08007"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_away_is_told_after_the_queue_timeout() -> Result<()> {
    let mut site = Site::new("pool = { size = 1, queue_timeout = \"500ms\" }")?;
    let client = site.connect("").await?;
    site.server.stop()?;
    let began = Instant::now();
    assert_eq!(
        sqlstate(client.simple_query("SELECT 1").await).as_deref(),
        Some("57P03")
    );
    assert!(
        began.elapsed() >= Duration::from_millis(500) && began.elapsed() < Duration::from_secs(5)
    );
    site.server.start()?;
    wait::until("it serves again", SOON, || site.psql("SELECT 1").is_ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_stop_passes_on_what_the_server_says() -> Result<()> {
    let mut site = Site::new("pool = { size = 1 }")?;
    let client = site.connect("").await?;
    client.batch_execute("BEGIN").await?;
    site.server.stop()?;
    let outcome = client.simple_query("SELECT 1").await;
    // The server's own last words, or ours if they came too late.
    let state = sqlstate(outcome);
    assert!(
        matches!(state.as_deref(), None | Some("57P01" | "08006")),
        "{state:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_fails_who_waits_and_goes_on_when_it_thaws() -> Result<()> {
    let mut site = Site::new("pool = { size = 1, queue_timeout = \"500ms\" }")?;
    let one = site.connect("").await?;
    let two = site.connect("").await?;
    one.batch_execute("SELECT 1").await?;
    site.server.freeze()?;
    let asks = tokio::spawn(async move {
        one.query_one("SELECT 1", &[])
            .await
            .map(|row| row.get::<_, i32>(0))
    });
    wait::until("the first one is served", SOON, || {
        site.console("SHOW CLIENTS")
            .is_ok_and(|clients| clients.contains("|active|"))
    })?;
    assert_eq!(
        sqlstate(two.simple_query("SELECT 1").await).as_deref(),
        Some("53300")
    );
    site.server.thaw()?;
    assert_eq!(asks.await??, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_free_connections_is_waited_for() -> Result<()> {
    let site = Site::new("pool = { size = 5, queue_timeout = \"20s\" }")?;
    site.server.sql("ALTER SYSTEM SET max_connections = 5")?;
    site.server
        .sql("ALTER SYSTEM SET superuser_reserved_connections = 0")?;
    let mut site = site;
    site.server.restart()?;
    let direct: Vec<_> = futures::future::try_join_all((0..5).map(|_| {
        let words = format!(
            "host={} port={} user=postgres dbname=postgres",
            site.server.socket_directory().display(),
            site.server.port()
        );
        async move {
            let (client, connection) =
                tokio_postgres::connect(&words, tokio_postgres::NoTls).await?;
            let task = tokio::spawn(async move { drop(connection.await) });
            anyhow::Ok((client, task))
        }
    }))
    .await?;
    let port = site.proxy.port();
    let waits = tokio::spawn(async move {
        crate::setup::connect(port, "")
            .await?
            .batch_execute("SELECT 1")
            .await
            .map_err(anyhow::Error::from)
    });
    wait::until("the proxy was refused", SOON, || {
        site.proxy.metrics().is_ok_and(|text| {
            text.lines().any(|line| {
                line.starts_with("lb_db_proxy_connect_failures_total{") && !line.ends_with(" 0")
            })
        })
    })?;
    drop(direct);
    waits.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_takes_writes_through_its_proxy() -> Result<()> {
    use lb_tests::db_proxy::DbProxy;
    let mut site = Site::new("")?;
    let standby = site.server.standby(&site.run, "db-2")?;
    site.server
        .replicate(lb_tests::postgres::Replication::Synchronous, &["db-2"])?;
    wait::until("the standby is synchronous", SOON, || {
        site.server
            .sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
            .is_ok_and(|count| count == "1")
    })?;
    site.psql("CREATE TABLE ledger (a int)")?;
    let proxy = DbProxy::start(&site.run, &standby, "auth = \"trust\"")?;
    let client = crate::setup::connect(proxy.port(), "").await?;
    assert_eq!(
        sqlstate(client.simple_query("INSERT INTO ledger VALUES (0)").await).as_deref(),
        Some("25006")
    );
    for number in 1..=20 {
        site.psql(&format!("INSERT INTO ledger VALUES ({number})"))?;
    }
    site.server.kill()?;
    standby.promote()?;
    client
        .batch_execute("INSERT INTO ledger VALUES (21)")
        .await?;
    let count: i64 = client
        .query_one("SELECT count(*) FROM ledger", &[])
        .await?
        .get(0);
    assert_eq!(count, 21, "what was acknowledged is there");
    Ok(())
}
