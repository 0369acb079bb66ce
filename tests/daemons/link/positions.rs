//! After a commit the session learns a position that covers it.

use anyhow::{Context, Result};
use lb_userspace::wire::postgres::link::{Epoch, Lsn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::{Link, read_above};
use super::floors::Pair;
use crate::setup::Site;

#[test]
fn a_position_covers_the_segments_that_it_names() -> Result<()> {
    let site = Site::new("")?;
    let mut link = Link::open(site.proxy.port(), "postgres", "session")?;
    link.query("CREATE TABLE t (a int)")?;
    let created = link.position()?;
    assert_eq!((created.segments, created.epoch.timeline), (1, 1));
    // Reads that are announced, and segments that leave a transaction open, have none.
    let read = read_above(Epoch::default(), Lsn(0), 0);
    assert_eq!(link.query_above(read, "SELECT 1")?.values, ["1"]);
    assert_eq!(link.query("BEGIN; INSERT INTO t VALUES (1)")?.state, b'T');
    link.query("COMMIT")?;
    let committed = link.position()?;
    assert_eq!((committed.segments, link.positions()), (4, 0));
    assert!(committed.position > created.position);
    // A function may write, which nobody can see from outside.
    link.query("SELECT nextval(pg_get_serial_sequence('u', 'a')) FROM pg_class LIMIT 0")?;
    assert_eq!(link.position()?.segments, 5);
    assert_eq!(created.epoch, committed.epoch);
    Ok(())
}

#[test]
fn a_read_above_the_position_of_a_write_sees_it_on_the_standby() -> Result<()> {
    let pair = Pair::new("")?;
    let mut primary = Link::open(pair.site.proxy.port(), "postgres", "session")?;
    let mut standby = Link::open(pair.proxy.port(), "postgres", "session")?;
    primary.query("CREATE TABLE t (a int); INSERT INTO t VALUES (0)")?;
    let (mut served, mut refused) = (0, 0);
    for number in 1..=200 {
        primary.query(&format!("UPDATE t SET a = {number}"))?;
        let position = primary.position()?;
        // Every other one waits for the standby.
        let patience_ms = if number % 2 == 0 { 10_000 } else { 0 };
        let floor = read_above(position.epoch, position.position, patience_ms);
        let answer = standby.query_above(floor, "SELECT a FROM t")?;
        match answer.error.as_deref() {
            None => {
                assert_eq!(answer.values, [number.to_string()], "stale");
                served += 1;
            }
            Some("LB001") if patience_ms == 0 => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(served >= 100, "{served} served, {refused} refused");
    Ok(())
}

/// How many questions the watch has asked.
fn questions(site: &Site) -> Result<u64> {
    let metrics = site.proxy.metrics()?;
    let name = "lb_db_proxy_watch_questions_total ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(count.context("it is counted")?.parse()?)
}

#[test]
fn one_sample_serves_every_commit_that_finished_before_it() -> Result<()> {
    const SESSIONS: usize = 20;
    let site = Site::new("pool = { size = 20 }")?;
    site.psql("CREATE TABLE t (a int)")?;
    let open = |_| Link::open(site.proxy.port(), "postgres", "session");
    let mut links: Vec<Link> = (0..SESSIONS).map(open).collect::<Result<_>>()?;
    let watch = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lb watch'";
    let watch = Pid::from_raw(site.server.sql(watch)?.parse()?);
    // Commits are acknowledged while the watch has no answer.
    kill(watch, Signal::SIGSTOP)?;
    for link in &mut links {
        assert_eq!(link.query("INSERT INTO t VALUES (1)")?.state, b'I');
        assert_eq!(link.positions(), 0);
    }
    let before = questions(&site)?;
    kill(watch, Signal::SIGCONT)?;
    for link in &mut links {
        assert_eq!(link.position()?.segments, 1);
    }
    // One was on its way, the next serves everybody; and time passes.
    let asked = questions(&site)? - before;
    assert!(asked < SESSIONS as u64 / 2, "{asked} questions");
    Ok(())
}
