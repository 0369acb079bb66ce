//! A primary of an epoch that is over takes nothing any more, and says so.

use std::fs;

use anyhow::Result;
use lb_tests::wait;
use lb_userspace::wire::postgres::link::{Attest, Epoch, FromLogic, Heartbeat, Lsn, Role};

use super::client::Link;
use super::floors::Pair;
use crate::setup::{SOON, Site, connect, sqlstate};

fn attest(link: &mut Link, epoch: Epoch) -> Result<()> {
    link.say(FromLogic::Attest(Attest { epoch }))
}

fn is_known(heartbeat: &Heartbeat) -> bool {
    heartbeat.role != Role::Unknown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_primary_is_fenced_at_once_and_stays_so_after_a_restart() -> Result<()> {
    let mut site = Site::new("")?;
    let mut link = Link::open(site.proxy.port(), "lb", "watch")?;
    let own = link.until("known", is_known)?.epoch;
    site.psql("CREATE TABLE t (a int)")?;
    let (busy, idle) = (site.connect("").await?, site.connect("").await?);
    busy.batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await?;
    idle.batch_execute("SELECT 1").await?;
    // Of another cluster, and an older one: nothing happens.
    let other = Epoch {
        system: own.system ^ 1,
        timeline: 9,
        began: Lsn(0),
    };
    attest(&mut link, other)?;
    attest(&mut link, own)?;
    idle.batch_execute("INSERT INTO t VALUES (2)").await?;
    assert!(!link.heartbeat()?.is_fenced);

    let newer = Epoch {
        timeline: 2,
        began: Lsn(0x300_0000),
        ..own
    };
    attest(&mut link, newer)?;
    let fenced = link.until("fenced", |heartbeat| heartbeat.is_fenced)?;
    assert_eq!((fenced.highest, fenced.epoch), (newer, own));
    assert!(fenced.reason.contains("timeline 2"), "{}", fenced.reason);
    let state = sqlstate(busy.batch_execute("COMMIT").await);
    assert!(
        matches!(state.as_deref(), None | Some("57P01")),
        "{state:?}"
    );
    for sql in ["INSERT INTO t VALUES (3)", "SELECT 1"] {
        let outcome = idle.batch_execute(sql).await;
        assert_eq!(sqlstate(outcome).as_deref(), Some("25006"), "{sql}");
    }
    let outcome = idle.query("SELECT 1", &[]).await;
    assert_eq!(sqlstate(outcome).as_deref(), Some("25006"));
    wait::until("the transaction is gone", SOON, || {
        site.server
            .sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in tr%'")
            .is_ok_and(|count| count == "0")
    })?;
    assert_eq!(
        site.server.sql("SELECT string_agg(a::text, ',') FROM t")?,
        "2"
    );
    assert!(site.console("SHOW FENCE")?.starts_with("closed|"));
    assert!(site.proxy.metrics()?.contains("\nlb_db_proxy_fenced 1\n"));

    site.proxy.restart(&site.run)?;
    let client = connect(site.proxy.port(), "").await;
    let outcome = match &client {
        Ok(client) => client.batch_execute("INSERT INTO t VALUES (4)").await,
        Err(error) => panic!("{error:#}"),
    };
    assert_eq!(sqlstate(outcome).as_deref(), Some("25006"));
    Ok(())
}

#[test]
fn a_fenced_primary_that_becomes_a_standby_of_the_new_one_serves_again() -> Result<()> {
    let mut pair = Pair::new("")?;
    let mut old = Link::open(pair.site.proxy.port(), "lb", "watch")?;
    let mut new = Link::open(pair.proxy.port(), "lb", "watch")?;
    pair.site.psql("CREATE TABLE t AS SELECT 1 AS a")?;
    // In order, so that nothing must be rewound.
    pair.site.server.stop()?;
    pair.standby.promote()?;
    let promoted = new.until("promoted", |heartbeat| heartbeat.epoch.timeline == 2)?;
    pair.site.server.start()?;
    attest(&mut old, promoted.epoch)?;
    old.until("fenced", |heartbeat| heartbeat.is_fenced)?;
    let mut session = Link::open(pair.site.proxy.port(), "postgres", "session")?;
    assert_eq!(
        session.query("SELECT a FROM t")?.error.as_deref(),
        Some("25006")
    );
    pair.site.server.stop()?;
    let (directory, port) = (
        pair.standby.socket_directory().display(),
        pair.standby.port(),
    );
    pair.site.server.configure(&format!(
        "primary_conninfo = 'host={directory} port={port} user=postgres'\n"
    ))?;
    fs::write(pair.site.server.data().join("standby.signal"), "")?;
    pair.site.server.start()?;
    let follows = old.until("let in", |heartbeat| !heartbeat.is_fenced)?;
    assert!(matches!(follows.role, Role::Standby { .. }));
    assert_eq!(follows.highest.timeline, promoted.epoch.timeline);
    assert_eq!(session.query("SELECT a FROM t")?.values, ["1"]);
    Ok(())
}
