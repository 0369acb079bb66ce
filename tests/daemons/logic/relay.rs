//! What clients can do through a logic daemon as they can at PostgreSQL itself.

use std::time::Duration;

use anyhow::Result;
use futures::{SinkExt, TryStreamExt};
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;

use super::site::{Cluster, Options};
use crate::setup::{SOON, certificate, printed, sqlstate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_and_pgbench_work_in_all_protocols() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    assert_eq!(cluster.psql("SELECT 40 + 2")?, "42");
    assert_eq!(cluster.readyz()?, 200);
    let status = cluster.lb(&["status"])?;
    assert!(status.contains("postgres"), "{status}");
    let mut init = cluster.program("pgbench")?;
    printed(init.args(["-i", "-s", "1", "-q"]))?;
    for protocol in ["simple", "extended", "prepared"] {
        for script in ["select-only", "tpcb-like"] {
            let mut pgbench = cluster.program("pgbench")?;
            pgbench.args(["-n", "-c", "8", "-t", "40", "-M", protocol]);
            printed(pgbench.args(["-b", script]))?;
        }
    }
    let balance = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = \
                   (SELECT sum(delta) FROM pgbench_history), count(*) FROM pgbench_history";
    assert_eq!(cluster.psql(balance)?, "t|960");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_a_session_stays_with_it() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("application_name=of_a_test").await?;
    let one = |sql: &'static str| {
        let client = &client;
        async move {
            let rows = client.simple_query(sql).await?;
            let row = rows.into_iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            anyhow::Ok(row.unwrap_or_default())
        }
    };
    assert_eq!(one("SHOW application_name").await?, "of_a_test");
    client
        .batch_execute("SET statement_timeout = '41s'")
        .await?;
    assert_eq!(one("SHOW statement_timeout").await?, "41s");
    let sql = "SELECT current_setting('statement_timeout')";
    assert_eq!(one(sql).await?, "41s");
    client
        .batch_execute("BEGIN; SET search_path = pg_catalog; ROLLBACK")
        .await?;
    assert_eq!(one("SHOW search_path").await?, "\"$user\", public");
    client
        .batch_execute("CREATE TEMP TABLE t AS SELECT 7 AS a")
        .await?;
    assert_eq!(one("SELECT a FROM t").await?, "7");
    assert_eq!(one("SHOW in_hot_standby").await?, "off");
    assert_eq!(one("SELECT pg_is_in_recovery()").await?, "f");
    let error = client.batch_execute("SELECT 1 / 0").await;
    assert_eq!(sqlstate(error).as_deref(), Some("22012"));
    assert_eq!(one("SELECT a FROM t").await?, "7");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reset_is_what_the_login_gave() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    cluster.servers[0].sql("ALTER ROLE postgres SET lock_timeout = '7s'")?;
    let words = "application_name=one options='-c work_mem=5MB -c search_path=a,b'";
    let one = cluster.connect(words).await?;
    let two = cluster.connect("").await?;
    for reset in ["RESET work_mem", "RESET ALL", "DISCARD ALL"] {
        for opens in [false, true] {
            for set in ["work_mem = '8MB'", "search_path = c", "lock_timeout = '1s'"] {
                one.batch_execute(&format!("SET {set}")).await?;
            }
            let opens = opens && !reset.starts_with("DISCARD");
            if opens {
                one.batch_execute("BEGIN").await?;
            }
            one.batch_execute(reset).await?;
            assert_eq!(setting(&one, "work_mem").await?, "5MB", "{reset}");
            if !reset.contains("work_mem") {
                assert_eq!(setting(&one, "search_path").await?, "a,b", "{reset}");
                assert_eq!(setting(&one, "application_name").await?, "one");
                assert_eq!(setting(&one, "lock_timeout").await?, "7s", "{reset}");
            }
            if opens {
                one.batch_execute("ROLLBACK").await?;
                assert_eq!(setting(&one, "work_mem").await?, "8MB", "{reset}");
                one.batch_execute(reset).await?;
            }
            assert_eq!(setting(&two, "work_mem").await?, "4MB", "{reset}");
            assert_eq!(setting(&one, "work_mem").await?, "5MB", "{reset}");
        }
    }
    // What is sent behind a reset before its answer came finds what the login gave.
    let (reset, found) = futures::join!(
        one.batch_execute("SET work_mem = '8MB'; RESET ALL"),
        one.simple_query("SHOW work_mem")
    );
    reset?;
    assert!(format!("{:?}", found?).contains("5MB"));
    Ok(())
}

/// As a standby may tell it, and as the primary does.
async fn setting(client: &tokio_postgres::Client, name: &str) -> Result<String> {
    let row = client
        .query_one("SELECT current_setting($1)", &[&name])
        .await?;
    let shown = client.query_one(&format!("SHOW {name}"), &[]).await?;
    anyhow::ensure!(
        row.get::<_, String>(0) == shown.get::<_, String>(0),
        "{name}"
    );
    Ok(row.get(0))
}

#[test]
fn many_clients_share_few_server_connections() -> Result<()> {
    let options = Options {
        proxies: "auth = \"trust\"\npool = { size = 3, queue_timeout = \"10s\" }",
        ..Options::default()
    };
    let cluster = Cluster::with(1, "", &options)?;
    printed(cluster.program("pgbench")?.args(["-i", "-s", "1", "-q"]))?;
    // What the login gives and what the script sets must not keep a connection for its client.
    let script = cluster.run().join("sets.sql");
    std::fs::write(
        &script,
        "SET work_mem = '5MB';\nSET \"lock_timeout\" = '7s';\n\
         SELECT abalance FROM pgbench_accounts WHERE aid = 1;\n\
         UPDATE pgbench_tellers SET tbalance = 1 WHERE tid = 1;\n\
         SELECT abalance FROM pgbench_accounts WHERE aid = 2;\nRESET \"work_mem\";\n",
    )?;
    for protocol in ["simple", "prepared"] {
        let mut pgbench = cluster.program("pgbench")?;
        pgbench.env(
            "PGOPTIONS",
            "-c search_path=public,pg_catalog -c statement_timeout=60s",
        );
        pgbench.args(["-n", "-c", "24", "-t", "10", "-M", protocol, "-f"]);
        printed(pgbench.arg(&script))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_to_the_proxies_are_encrypted_if_they_are_to_be() -> Result<()> {
    let (one, two) = (RunDirectory::new()?, RunDirectory::new()?);
    let (ours, key) = certificate(&one)?;
    let (other, _) = certificate(&two)?;
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "")?;
    let (ours, key) = (ours.display(), key.display());
    let tls = format!("{{ certificate = \"{ours}\", key = \"{key}\" }}");
    let proxies = format!("auth = \"trust\"\ntls = {tls}");
    let vouched =
        |ca: &dyn std::fmt::Display| format!("server_tls = \"verify-full\"\nserver_ca = \"{ca}\"");
    let options = Options {
        proxies: &proxies,
        database: &vouched(&ours),
        ..Options::default()
    };
    let cluster = Cluster::around(run, vec![server], &options)?;
    assert_eq!(cluster.psql("SELECT 40 + 2")?, "42");
    drop(cluster);
    // Nobody vouches for these: nothing is sent to them.
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "")?;
    let options = Options {
        database: &vouched(&other.display()),
        ..options
    };
    let cluster = Cluster::before(run, vec![server], &options)?;
    wait::until("the certificate is refused", SOON, || {
        let log = cluster.log();
        log.contains("no link") && log.contains("certificate")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_goes_both_ways_and_large_answers_pass() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let client = cluster.connect("").await?;
    client
        .batch_execute("CREATE TABLE c (a int, b text)")
        .await?;
    let sink = client.copy_in("COPY c FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    for number in 0..2000 {
        let line = format!("{number}\t{}\n", "x".repeat(100));
        sink.send(bytes::Bytes::from(line)).await?;
    }
    assert_eq!(sink.finish().await?, 2000);
    let out = client.copy_out("COPY c TO STDOUT").await?;
    let bytes: usize = out
        .try_fold(0, |sum, part| async move { Ok(sum + part.len()) })
        .await?;
    assert!(bytes > 200_000, "{bytes}");
    let rows = client.query("SELECT a, repeat(b, 10) FROM c", &[]).await?;
    assert_eq!(rows.len(), 2000);
    let large = client.query_one("SELECT repeat('y', 3000000)", &[]).await?;
    assert_eq!(large.get::<_, String>(0).len(), 3_000_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_requests_reach_the_server_that_works() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    for _ in 0..4 {
        let client = cluster.connect("").await?;
        let cancel = client.cancel_token();
        let sleeping =
            tokio::spawn(async move { client.simple_query("SELECT pg_sleep(60)").await });
        wait::until("the query runs", SOON, || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' \
                       AND state = 'active' AND pid <> pg_backend_pid()";
            cluster.servers[0].sql(sql).is_ok_and(|count| count == "1")
        })?;
        cancel.cancel_query(tokio_postgres::NoTls).await?;
        let outcome = tokio::time::timeout(SOON, sleeping).await??;
        assert_eq!(sqlstate(outcome).as_deref(), Some("57014"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_reach_who_listens() -> Result<()> {
    let cluster = Cluster::new(1, "")?;
    let mut psql = cluster.program("psql")?;
    let script = "LISTEN news; SELECT pg_notify('news', 'good'); SELECT 1";
    let said = printed(psql.args(["-XAt", "-c", "LISTEN news", "-c", script]))?;
    assert!(
        said.contains("Asynchronous notification \"news\" with payload \"good\""),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_server_nothing_is_ready_and_statements_end_in_time() -> Result<()> {
    let mut cluster = Cluster::new(1, ", failover_timeout = \"500ms\"")?;
    let client = cluster.connect("").await?;
    client.batch_execute("CREATE TABLE w (a int)").await?;
    for server in &mut cluster.servers {
        server.kill()?;
    }
    wait::until("nothing is ready", SOON, || {
        cluster.readyz().is_ok_and(|code| code == 503)
    })?;
    let started = std::time::Instant::now();
    let outcome = client.batch_execute("INSERT INTO w VALUES (1)").await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("57P03"));
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert!(cluster.gauge("postgres_waits_failed_total") >= Some(1.0));
    Ok(())
}
