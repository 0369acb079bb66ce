//! Reads go to standbys, as far as they may, and never show less than their session has written.

use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::{scale, wait};
use tokio_postgres::Client;

use super::site::Cluster;
use crate::setup::SOON;

/// Probes of a session's own writes in the suite, and in the long run.
const PROBES: u32 = 2_000;
const PROBES_LONG: u32 = 200_000;

/// Waits until what statements do is known: until a read was answered by a standby.
async fn until_known(cluster: &Cluster, client: &Client, sql: &str) -> Result<()> {
    for _ in 0..2000 {
        let before = by_standbys(cluster);
        client.simple_query(sql).await?;
        if by_standbys(cluster) > before {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("no standby answers {sql:?}");
}

/// Reads that standbys have answered.
fn by_standbys(cluster: &Cluster) -> f64 {
    let all = cluster.gauge("postgres_reads_total").unwrap_or(0.0);
    all - cluster.sum("postgres_reads_total", "db-1").unwrap_or(0.0)
}

async fn number(client: &Client, sql: &str) -> Result<i64> {
    let rows = client.simple_query(sql).await?;
    let value = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    value.context("no row")?.parse().context("no number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_standbys_and_writes_to_the_primary() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("").await?;
    client
        .batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        .await?;
    until_known(&cluster, &client, "SELECT a FROM t").await?;
    let reads = cluster.sum("postgres_reads_total", "db-2");
    let writes = cluster.sum("postgres_writes_total", "db-1");
    for _ in 0..10 {
        assert_eq!(number(&client, "SELECT count(*) FROM t").await?, 1);
        let statement = client.prepare("SELECT a + $1 FROM t").await?;
        let row = client.query_one(&statement, &[&41]).await?;
        assert_eq!(row.get::<_, i32>(0), 42);
    }
    let grown = cluster.sum("postgres_reads_total", "db-2").unwrap_or(0.0) - reads.unwrap_or(0.0);
    assert!(grown >= 20.0, "{grown} reads of the standby");
    assert_eq!(cluster.sum("postgres_writes_total", "db-1"), writes);
    client.batch_execute("INSERT INTO t VALUES (2)").await?;
    assert_eq!(number(&client, "SELECT count(*) FROM t").await?, 2);
    assert!(cluster.sum("postgres_writes_total", "db-1") > writes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_refuses_the_primary_does_unseen() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("").await?;
    // It says that it is stable, and writes.
    client
        .batch_execute(
            "CREATE TABLE t (a int);
             CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql VOLATILE AS
               $$ BEGIN INSERT INTO t VALUES (1); RETURN 1; END $$;
             CREATE FUNCTION liar() RETURNS int LANGUAGE plpgsql STABLE AS
               $$ BEGIN PERFORM writes(); RETURN 7; END $$",
        )
        .await?;
    until_known(&cluster, &client, "SELECT count(*) FROM t").await?;
    for round in 1..=3 {
        assert_eq!(number(&client, "SELECT liar()").await?, 7);
        assert_eq!(number(&client, "SELECT count(*) FROM t").await?, round);
    }
    let row = client.query_one("SELECT liar() + $1", &[&1]).await?;
    assert_eq!(row.get::<_, i32>(0), 8);
    assert_eq!(number(&client, "SELECT count(*) FROM t").await?, 4);
    let redirects = cluster.sum("postgres_redirects_total", "db-2");
    assert!(redirects >= Some(1.0), "{redirects:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_read_their_own_writes_however_far_standbys_lag() -> Result<()> {
    let cluster = Cluster::new(2, "")?;
    let setup = cluster.connect("").await?;
    setup
        .batch_execute("CREATE TABLE probe (id int PRIMARY KEY, n bigint)")
        .await?;
    setup
        .batch_execute("INSERT INTO probe SELECT g, 0 FROM generate_series(1, 8) g")
        .await?;
    until_known(&cluster, &setup, "SELECT n FROM probe WHERE id = 1").await?;
    let rounds = if scale::is_long() {
        PROBES_LONG
    } else {
        PROBES
    } / 8;
    let mut sessions = tokio::task::JoinSet::new();
    for id in 1..=8 {
        let client = cluster.connect("").await?;
        sessions.spawn(async move {
            let read = format!("SELECT n FROM probe WHERE id = {id}");
            for round in 1..=i64::from(rounds) {
                let write = format!("UPDATE probe SET n = {round} WHERE id = {id}");
                client.batch_execute(&write).await?;
                for _ in 0..3 {
                    let read = number(&client, &read).await?;
                    anyhow::ensure!(read == round, "wrote {round} and read {read}");
                }
                if round % 50 == 0 {
                    // Time for standbys to have it.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    anyhow::ensure!(number(&client, &read).await? == round);
                }
            }
            anyhow::Ok(())
        });
    }
    let lags = ["0", "50ms", "500ms", "0", "2s", "0"];
    for lag in lags.iter().cycle() {
        for standby in &cluster.servers[1..] {
            standby.sql(&format!(
                "ALTER SYSTEM SET recovery_min_apply_delay = '{lag}'"
            ))?;
            standby.sql("SELECT pg_reload_conf()")?;
        }
        let ended = tokio::time::timeout(Duration::from_millis(500), sessions.join_next()).await;
        match ended {
            Ok(Some(ended)) => ended??,
            Ok(None) => break,
            Err(_) => {}
        }
    }
    while let Some(ended) = sessions.join_next().await {
        ended??;
    }
    let all = cluster.gauge("postgres_reads_total").unwrap_or(0.0);
    let standbys = by_standbys(&cluster);
    println!("standbys answered {standbys} of {all} reads");
    assert!(standbys > 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_table_is_read_from_standbys_as_soon_as_it_is_known() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("").await?;
    until_known(&cluster, &client, "SELECT 1").await?;
    client.batch_execute("CREATE TABLE later (a int)").await?;
    assert_eq!(number(&client, "SELECT count(*) FROM later").await?, 0);
    until_known(&cluster, &client, "SELECT count(*) FROM later").await?;
    client
        .batch_execute("CREATE VIEW hides AS SELECT nextval('s'::regclass) FROM later")
        .await
        .expect_err("there is no such sequence");
    wait::until("the standby is no primary", SOON, || {
        cluster.sum("postgres_primary", "db-2") == Some(0.0)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_returns_to_the_standbys_after_each_write() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("").await?;
    client.batch_execute("CREATE TABLE t (a int)").await?;
    let read = "SELECT count(*) FROM t";
    until_known(&cluster, &client, read).await?;
    for round in 1..=10 {
        client.batch_execute("INSERT INTO t VALUES (1)").await?;
        // The position of what was written comes while these are on their way.
        for _ in 0..round % 5 {
            assert_eq!(number(&client, read).await?, round);
        }
        until_known(&cluster, &client, read).await?;
    }
    Ok(())
}
