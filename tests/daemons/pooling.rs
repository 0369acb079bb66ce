//! Server connections are shared, bounded, and given back clean.

use anyhow::Result;
use lb_tests::wait;

use crate::setup::{SOON, Site, connect, sqlstate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_few_connections() -> Result<()> {
    let site = Site::new("pool = { size = 3 }")?;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(site.connect("").await?);
    }
    let queries = clients
        .iter()
        .map(|client| client.query_one("SELECT 1", &[]));
    for row in futures::future::join_all(queries).await {
        assert_eq!(row?.get::<_, i32>(0), 1);
    }
    assert!(site.server_connections()? <= 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_keeps_its_connection_and_others_wait() -> Result<()> {
    let site = Site::new("pool = { size = 1, queue_timeout = \"300ms\" }")?;
    let mut one = site.connect("").await?;
    let two = site.connect("").await?;
    let transaction = one.transaction().await?;
    transaction.query("SELECT 1", &[]).await?;
    assert_eq!(
        sqlstate(two.simple_query("SELECT 2").await).as_deref(),
        Some("53300")
    );
    transaction.commit().await?;
    let three = site.connect("").await?;
    three.simple_query("SELECT 3").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() -> Result<()> {
    let site = Site::new("pool = { size = 1, queue = 0, queue_timeout = \"1m\" }")?;
    // The first login makes the only connection, so it needs a place in the queue.
    assert!(site.connect("").await.is_err());
    let error = site.psql("SELECT 1").expect_err("nobody may wait");
    assert!(
        error.to_string().contains("wait for a server connection"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_clients_are_refused_and_places_come_free() -> Result<()> {
    let site = Site::new("pool = { max_clients = 2 }")?;
    let one = site.connect("").await?;
    let two = site.connect("").await?;
    let error = connect(site.proxy.port(), "")
        .await
        .expect_err("two are enough");
    assert!(
        format!("{error:?}").contains("too many clients"),
        "{error:?}"
    );
    drop((one, two));
    wait::until("a place comes free", SOON, || site.psql("SELECT 1").is_ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_in_a_transaction_leaves_nothing() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    site.server.sql("CREATE TABLE t (a int)")?;
    let client = site.connect("").await?;
    client
        .batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await?;
    drop(client);
    assert_eq!(site.psql("SELECT count(*) FROM t")?, "0");
    assert_eq!(
        site.psql("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass")?,
        "0"
    );
    Ok(())
}

#[test]
fn a_client_that_dies_in_a_query_stops_it() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut psql = site.proxy.client("psql")?;
    let mut psql = psql.args(["-XAtq", "-c", "SELECT pg_sleep(600)"]).spawn()?;
    let sleeps = || {
        site.server.sql(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'",
        )
    };
    wait::until("the query runs", SOON, || {
        sleeps().is_ok_and(|count| count == "1")
    })?;
    psql.kill()?;
    psql.wait()?;
    wait::until("the query is stopped", SOON, || {
        sleeps().is_ok_and(|count| count == "0")
    })?;
    assert_eq!(site.psql("SELECT 1")?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_cancelled_by_its_client_only() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let one = site.connect("").await?;
    let token = one.cancel_token();
    let two = site.connect("").await?;
    // Nothing runs for it: the request must hit nobody.
    let other =
        tokio::spawn(async move { two.simple_query("SELECT pg_sleep(0.5)").await.map(drop) });
    token.cancel_query(tokio_postgres::NoTls).await?;
    other.await??;
    let asleep =
        tokio::spawn(async move { one.simple_query("SELECT pg_sleep(600)").await.map(drop) });
    let runs = || {
        site.server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()")
    };
    wait::until("the query runs", SOON, || {
        runs().is_ok_and(|count| count == "1")
    })?;
    token.cancel_query(tokio_postgres::NoTls).await?;
    assert_eq!(sqlstate(asleep.await?).as_deref(), Some("57014"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_pooling_keeps_the_connection_and_cleans_it() -> Result<()> {
    let site = Site::new("pool = { mode = \"session\", size = 1 }")?;
    let client = site.connect("").await?;
    client
        .batch_execute("CREATE TEMP TABLE t (a int); PREPARE p AS SELECT 1; LISTEN x")
        .await?;
    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    drop(client);
    let left = "SELECT count(*) FROM pg_prepared_statements";
    assert_eq!(site.psql(left)?, "0");
    assert_eq!(
        site.psql("SELECT count(*) FROM pg_listening_channels()")?,
        "0"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_transactions_finish() -> Result<()> {
    let mut site = Site::new("")?;
    let idle = site.connect("").await?;
    let mut busy = site.connect("").await?;
    let transaction = busy.transaction().await?;
    transaction.query("SELECT 1", &[]).await?;
    site.proxy
        .process()
        .signal(nix::sys::signal::Signal::SIGTERM)?;
    wait::until("the idle client is sent away", SOON, || idle.is_closed())?;
    transaction.query("SELECT 2", &[]).await?;
    transaction.commit().await?;
    let status = site.proxy.process().wait(SOON)?;
    assert!(status.success());
    Ok(())
}

#[test]
fn connections_that_are_too_old_are_not_used_again() -> Result<()> {
    for (lifetime, is_reused) in [("1h", true), ("0s", false)] {
        let pool = format!("pool = {{ mode = \"session\", size = 1, lifetime = \"{lifetime}\" }}");
        let site = Site::new(&pool)?;
        // The first login asks the server what it is, on a connection of its own.
        site.psql("SELECT 1")?;
        let backends = [
            site.psql("SELECT pg_backend_pid()")?,
            site.psql("SELECT pg_backend_pid()")?,
        ];
        assert_eq!(
            backends[0] == backends[1],
            is_reused,
            "{lifetime}: {backends:?}"
        );
    }
    // A rest long enough ends it as well.
    let site = Site::new("pool = { size = 1, lifetime = \"200ms\" }")?;
    let backend = site.psql("SELECT pg_backend_pid()")?;
    wait::until("the old connection is closed", SOON, || {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {backend}");
        site.server.sql(&sql).is_ok_and(|count| count == "0")
    })
}
