//! The console, PAUSE and RESUME, metrics.

use anyhow::Result;
use lb_tests::wait;

use crate::setup::{SOON, Site, connect, printed, sqlstate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn show_tells_what_is_going_on() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let client = site.connect("application_name=x").await?;
    client.batch_execute("SELECT 1; SELECT 2").await?;
    client.batch_execute("BEGIN; SELECT 1").await?;
    assert!(
        site.console("SHOW POOLS")?
            .starts_with("postgres|postgres|1|0|1|")
    );
    assert!(site.console("SHOW CLIENTS")?.contains("|active|127.0.0.1|"));
    assert!(site.console("SHOW SERVERS")?.contains("|active|"));
    assert!(
        site.console("SHOW STATS")?
            .starts_with("postgres|postgres|")
    );
    assert!(site.console("SHOW CONFIG")?.contains("pool.size|2"));
    for list in ["DATABASES", "USERS", "LISTS", "VERSION", "HELP"] {
        site.console(&format!("SHOW {list}"))
            .map_err(|error| error.context(list))?;
    }
    assert!(site.console("SHOW NONSENSE").is_err());
    let metrics = site.proxy.metrics()?;
    for line in [
        "lb_db_proxy_clients 1",
        "lb_db_proxy_servers_open{database=\"postgres\",user=\"postgres\"} 1",
        "lb_db_proxy_transaction_seconds{database=\"postgres\",user=\"postgres\",quantile=\"0.99\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_status_and_lb_reload_reach_the_proxy() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let client = site.connect("").await?;
    client.batch_execute("BEGIN").await?;
    let text = site.proxy.command(&["status"])?;
    for expected in [
        "1 of 10000; transaction pooling",
        "answers, primary",
        "postgres",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&site.proxy.command(&["status", "--json"])?)?;
    assert_eq!(json["clients"], 1);
    assert_eq!(json["fence"]["closed"], false);
    assert_eq!(json["watch"]["role"], "primary");
    assert_eq!(json["pools"][0]["active"], 1);
    assert_eq!(json["pools"][0]["size"], 2);
    site.proxy
        .configure("auth = \"trust\"\npool = { size = 3 }")?;
    site.proxy.command(&["reload"])?;
    let json: serde_json::Value =
        serde_json::from_str(&site.proxy.command(&["status", "--json"])?)?;
    assert_eq!(json["pools"][0]["size"], 3);
    site.proxy.configure("nonsense = 1")?;
    let error = site.proxy.command(&["reload"]).expect_err("it is refused");
    assert!(error.to_string().contains("nonsense"), "{error}");
    let text = site.proxy.command(&["status"])?;
    assert!(text.contains("last reload refused"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_admins_may_use_the_console() -> Result<()> {
    let site = Site::new("")?;
    let mut psql = site.proxy.client("psql")?;
    psql.args(["-XAtq", "-d", "lb", "-U", "alice", "-c", "SHOW POOLS"]);
    let error = printed(&mut psql).expect_err("alice is no admin");
    assert!(
        error.to_string().contains("may not use the console"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_pause_costs_no_client_an_error() -> Result<()> {
    let mut site = Site::new("pool = { size = 2, queue_timeout = \"200ms\" }")?;
    let client = site.connect("").await?;
    client.batch_execute("SELECT 1").await?;
    site.console("PAUSE")?;
    assert_eq!(site.server_connections()?, 0);
    let waiting = tokio::spawn(async move {
        let outcome = client.query_one("SELECT 2", &[]).await;
        outcome.map(|row| row.get::<_, i32>(0))
    });
    wait::until("the client waits", SOON, || {
        site.console("SHOW CLIENTS")
            .is_ok_and(|clients| clients.contains("|waiting|"))
    })?;
    // Longer than its queue_timeout.
    site.server.restart()?;
    site.console("RELOAD")?;
    site.console("RESUME")?;
    assert_eq!(waiting.await??, 2);
    Ok(())
}

fn is_paused(site: &Site) -> Result<bool> {
    let status = site.proxy.command(&["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    Ok(status["paused"] == true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_waits_for_transactions_and_ends_with_the_patience_of_who_asked() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let busy = site.connect("").await?;
    busy.batch_execute("BEGIN; SELECT 1").await?;
    // Cancelled, as by Ctrl-C.
    let admin = connect(site.proxy.port(), "dbname=lb").await?;
    let token = admin.cancel_token();
    let pauses = tokio::spawn(async move { admin.simple_query("PAUSE").await.map(drop) });
    wait::until("the pause begins", SOON, || {
        is_paused(&site).is_ok_and(|is| is)
    })?;
    token.cancel_query(tokio_postgres::NoTls).await?;
    assert_eq!(sqlstate(pauses.await?).as_deref(), Some("57014"));
    assert!(!is_paused(&site)?);
    // Left alone.
    let mut psql = site.proxy.client("psql")?;
    let mut psql = psql.args(["-XAtq", "-d", "lb", "-c", "PAUSE"]).spawn()?;
    wait::until("the pause begins", SOON, || {
        is_paused(&site).is_ok_and(|is| is)
    })?;
    psql.kill()?;
    psql.wait()?;
    wait::until("it is over", SOON, || is_paused(&site).is_ok_and(|is| !is))?;
    assert_eq!(site.psql("SELECT 1")?, "1");
    // Waited for.
    let port = site.proxy.port();
    let pauses = tokio::spawn(async move {
        let admin = connect(port, "dbname=lb").await?;
        admin.simple_query("PAUSE").await?;
        anyhow::Ok(())
    });
    wait::until("the pause begins", SOON, || {
        is_paused(&site).is_ok_and(|is| is)
    })?;
    busy.batch_execute("SELECT 2; COMMIT").await?;
    pauses.await??;
    assert_eq!(site.server_connections()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_database_waits_for_every_user_and_no_other_database_does() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    site.server.sql("CREATE ROLE alice LOGIN")?;
    site.psql("SELECT 1")?;
    site.console("PAUSE postgres")?;
    // She has never been here.
    let port = site.proxy.port();
    let alice = tokio::spawn(async move {
        let alice = connect(port, "user=alice").await?;
        let row = alice.query_one("SELECT current_user::text", &[]).await?;
        anyhow::Ok(row.get::<_, String>(0))
    });
    wait::until("she waits", SOON, || {
        site.console("SHOW POOLS")
            .is_ok_and(|pools| pools.contains("postgres|alice|0|1|0|"))
    })?;
    let mut other = site.proxy.client("psql")?;
    other.args(["-XAtq", "-d", "template1", "-c", "SELECT 1"]);
    assert_eq!(printed(&mut other)?, "1");
    site.console("RESUME postgres")?;
    assert_eq!(alice.await??, "alice");
    Ok(())
}
