//! A standby runs a segment only if it has replayed what the segment must see.

use anyhow::Result;
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_userspace::wire::postgres::link::{Epoch, Floor, Heartbeat, Intent, Lsn, Role};
use lb_userspace::wire::postgres::write;

use super::client::{Link, read_above};
use crate::setup::Site;

/// A primary and a standby, each behind a proxy.
pub struct Pair {
    pub proxy: DbProxy,
    pub standby: Postgres,
    pub site: Site,
}

impl Pair {
    pub fn new(settings: &str) -> Result<Self> {
        let site = Site::new("")?;
        let standby = site.server.standby(&site.run, "db-2")?;
        let settings = format!("auth = \"trust\"\n{settings}");
        let proxy = DbProxy::start(&site.run, &standby, &settings)?;
        Ok(Self {
            proxy,
            standby,
            site,
        })
    }

    /// Where the primary's log ends.
    pub fn written(&self) -> Result<Lsn> {
        let position = self.site.server.sql("SELECT pg_current_wal_flush_lsn()")?;
        Ok(Lsn::parse(&position).expect("a position"))
    }
}

pub fn replayed(heartbeat: &Heartbeat) -> Option<Lsn> {
    match heartbeat.role {
        Role::Standby { replayed, .. } => Some(replayed),
        _ => None,
    }
}

fn has_replayed(position: Lsn) -> impl Fn(&Heartbeat) -> bool {
    move |heartbeat| replayed(heartbeat).is_some_and(|replayed| replayed >= position)
}

#[test]
fn floors_are_kept_on_a_standby_and_after_its_promotion() -> Result<()> {
    let pair = Pair::new("")?;
    let mut watch = Link::open(pair.proxy.port(), "lb", "watch")?;
    let mut session = Link::open(pair.proxy.port(), "postgres", "session")?;
    assert!(session.has_link);
    pair.site
        .psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")?;
    let seen = pair.written()?;
    let epoch = watch.until("replayed", has_replayed(seen))?.epoch;
    let count = "SELECT count(*) FROM t";
    let answer = session.query_above(read_above(epoch, seen, 0), count)?;
    assert_eq!((answer.values, answer.error), (vec!["1".to_owned()], None));

    // What it has not replayed it does not run, whatever the protocol.
    pair.standby.sql("SELECT pg_wal_replay_pause()")?;
    pair.standby.sql("ALTER SYSTEM SET log_statement = 'all'")?;
    pair.standby.sql("SELECT pg_reload_conf()")?;
    pair.site.psql("INSERT INTO t VALUES (2)")?;
    let ahead = pair.written()?;
    let refused = session.query_above(read_above(epoch, ahead, 0), "SELECT 'never run'")?;
    assert_eq!(refused.error.as_deref(), Some("LB001"));
    assert_eq!((refused.values.len(), refused.state), (0, b'I'));
    let mut batch = Vec::new();
    lb_userspace::wire::postgres::link::FromLogic::Floor(read_above(epoch, ahead, 20))
        .write(&mut batch);
    write::parse(&mut batch, b"", b"SELECT 'never run'\0\0\0");
    batch.extend_from_slice(b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0");
    batch.extend_from_slice(write::SYNC);
    // The next segment is not held to a floor that was announced for this one.
    write::query(&mut batch, b"SELECT 'is run'");
    session.send(&batch)?;
    assert_eq!(session.answer()?.error.as_deref(), Some("LB001"));
    assert_eq!(session.answer()?.values, ["is run"]);
    assert!(!pair.standby.log().contains("never run"));
    assert!(pair.standby.log().contains("is run"));

    // With patience it is run as soon as it can be.
    session.send(&{
        let mut bytes = Vec::new();
        let floor = read_above(epoch, ahead, 10_000);
        lb_userspace::wire::postgres::link::FromLogic::Floor(floor).write(&mut bytes);
        write::query(&mut bytes, count.as_bytes());
        bytes
    })?;
    pair.standby.sql("SELECT pg_wal_replay_resume()")?;
    assert_eq!(session.answer()?.values, ["2"]);

    let write = Floor {
        intent: Intent::Write,
        ..read_above(Epoch::default(), Lsn(0), 0)
    };
    let refused = session.query_above(write, "SELECT 'never run'")?;
    assert_eq!(refused.error.as_deref(), Some("LB003"));

    // The primary's own future is lost by the promotion.
    pair.standby.promote()?;
    let promoted = watch.until("promoted", |heartbeat| {
        matches!(heartbeat.role, Role::Primary { .. })
    })?;
    assert_eq!(promoted.epoch.timeline, 2, "right at once");
    assert!(promoted.epoch.began >= ahead);
    let on_one = |position| read_above(epoch, position, 0);
    let began = promoted.epoch.began;
    assert_eq!(session.query_above(on_one(began), count)?.values, ["2"]);
    let lost = session.query_above(on_one(Lsn(began.0 + 1)), count)?;
    assert_eq!(lost.error.as_deref(), Some("LB002"));
    let rival = Epoch {
        began: Lsn(began.0 - 8),
        ..promoted.epoch
    };
    let lost = session.query_above(read_above(rival, Lsn(0), 0), count)?;
    assert_eq!(lost.error.as_deref(), Some("LB002"));
    let future = Epoch {
        timeline: 3,
        ..promoted.epoch
    };
    let refused = session.query_above(read_above(future, Lsn(0), 0), count)?;
    assert_eq!(refused.error.as_deref(), Some("LB001"));
    let refused = session.query_above(
        Floor {
            epoch: future,
            ..write
        },
        count,
    )?;
    assert_eq!(refused.error.as_deref(), Some("LB003"));
    assert!(
        session
            .query_above(write, "INSERT INTO t VALUES (3)")?
            .error
            .is_none()
    );
    assert_eq!(session.position()?.epoch, promoted.epoch);
    Ok(())
}

#[test]
fn a_restarted_standby_is_not_taken_for_what_it_was() -> Result<()> {
    let mut pair = Pair::new("")?;
    let mut watch = Link::open(pair.proxy.port(), "lb", "watch")?;
    pair.site.psql("CREATE TABLE t AS SELECT 1 AS a")?;
    let seen = pair.written()?;
    let before = watch.until("replayed", has_replayed(seen))?;
    let mut session = Link::open(pair.proxy.port(), "postgres", "session")?;
    let floor = read_above(before.epoch, seen, 0);
    assert_eq!(session.query_above(floor, "SELECT a FROM t")?.values, ["1"]);
    // Its log is applied late: it serves again before it has replayed what it once had.
    pair.standby
        .configure("recovery_min_apply_delay = '1h'\n")?;
    pair.standby.kill()?;
    pair.standby.start()?;
    let after = watch.until("another life", |heartbeat| {
        heartbeat.incarnation != before.incarnation && replayed(heartbeat).is_some()
    })?;
    assert!(replayed(&after) < Some(seen), "it went back: {after:?}");
    let mut session = Link::open(pair.proxy.port(), "postgres", "session")?;
    let refused = session.query_above(floor, "SELECT a FROM t")?;
    assert_eq!(refused.error.as_deref(), Some("LB001"));
    // It is right: the table is not there.
    let stale = session.query("SELECT a FROM t")?;
    assert_eq!(stale.error.as_deref(), Some("42P01"));
    Ok(())
}
