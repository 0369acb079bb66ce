//! What a proxy tells of its server: what it is, how far it is, and that it does not answer.

use anyhow::Result;
use lb_userspace::wire::postgres::error::PgError;
use lb_userspace::wire::postgres::link::{Answering, Lsn, Role};

use super::client::Link;
use crate::setup::Site;

fn code(error: anyhow::Error) -> Result<String> {
    Ok(error.downcast::<PgError>()?.code)
}

#[test]
fn a_watch_tells_what_the_server_is_and_how_far_it_is() -> Result<()> {
    let site = Site::new("")?;
    let mut link = Link::open(site.proxy.port(), "lb", "watch")?;
    assert!(link.has_link && link.unknown_options.is_empty());
    let first = link.until("known", |heartbeat| heartbeat.role != Role::Unknown)?;
    let system = site
        .server
        .sql("SELECT system_identifier FROM pg_control_system()")?;
    assert_eq!(first.epoch.system.to_string(), system);
    assert_eq!((first.epoch.timeline, first.epoch.began), (1, Lsn(0)));
    assert_eq!(first.answering, Answering::Yes);
    assert!(!first.is_fenced && first.incarnation != 0 && first.started_us != 0);
    assert_eq!(first.highest, first.epoch);
    site.server.sql("CREATE TABLE t AS SELECT 1 AS a")?;
    let written = site.server.sql("SELECT pg_current_wal_flush_lsn()")?;
    let written = Lsn::parse(&written).expect("a position");
    let says = |role: &Role| matches!(role, Role::Primary { inserted, .. } if *inserted >= written);
    let then = link.until("further", |heartbeat| says(&heartbeat.role))?;
    assert!(then.sequence > first.sequence);
    // They go on while nothing happens.
    for _ in 0..5 {
        assert_eq!(link.heartbeat()?.incarnation, first.incarnation);
    }
    Ok(())
}

#[test]
fn who_does_not_know_the_option_goes_on_without_a_link() -> Result<()> {
    let site = Site::new("")?;
    let socket = format!(".s.PGSQL.{}", site.server.port());
    let socket = site.server.socket_directory().join(socket);
    let port = site.proxy.port();
    for mut link in [
        Link::open_directly(&socket, "postgres", "session")?,
        Link::open(port, "postgres", "something of the future")?,
    ] {
        assert!(!link.has_link);
        assert_eq!(link.unknown_options, ["_pq_.lb_link"]);
        assert_eq!(link.query("SELECT 7")?.values, ["7"]);
    }
    Ok(())
}

#[test]
fn only_users_who_are_named_may_watch_and_nobody_queries_there() -> Result<()> {
    let site = Site::new("links = [\"observer\"]")?;
    let refused = Link::open(site.proxy.port(), "postgres", "watch").err();
    assert_eq!(code(refused.expect("it is refused"))?, "28000");
    let mut link = Link::open(site.proxy.port(), "observer", "watch")?;
    assert!(link.has_link);
    link.heartbeat()?;
    link.send(b"Q\0\0\0\x0dSELECT 1\0")?;
    let end = loop {
        if let Err(error) = link.heartbeat() {
            break error.to_string();
        }
    };
    assert!(end.contains("'E'"), "{end}");
    Ok(())
}

#[test]
fn a_hung_server_is_silent_and_one_that_is_gone_is_unreachable() -> Result<()> {
    let mut site = Site::new("")?;
    let mut link = Link::open(site.proxy.port(), "lb", "watch")?;
    let first = link.until("answers", |heartbeat| heartbeat.answering == Answering::Yes)?;
    site.server.freeze()?;
    let silent = link.until("silent", |heartbeat| {
        heartbeat.answering == Answering::Silent
    })?;
    assert!(silent.silent_ms >= 100 && silent.age_ms >= silent.silent_ms);
    site.server.thaw()?;
    let again = link.until("answers", |heartbeat| heartbeat.answering == Answering::Yes)?;
    assert_eq!(again.incarnation, first.incarnation, "it is the same life");
    site.server.kill()?;
    let gone = link.until("gone", |heartbeat| {
        heartbeat.answering == Answering::Unreachable
    })?;
    assert!(!gone.reason.is_empty());
    site.server.start()?;
    let back = link.until("back", |heartbeat| heartbeat.answering == Answering::Yes)?;
    assert_ne!(back.incarnation, first.incarnation);
    assert!(back.started_us > first.started_us);
    assert!(site.console("SHOW WATCH")?.starts_with("answers|primary|"));
    Ok(())
}
