//! How clients leave: by half, in the middle, or by not reading any more.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, ensure};
use lb_tests::wait;

use super::raw::{logged_in, message, query, rest, until};
use crate::bystander::Bystander;
use crate::setup::{SOON, Site, connect, sqlstate};

/// More than all buffers on the way hold.
const LONG_ANSWER: &str = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";

#[test]
fn a_client_that_says_good_bye_gets_its_answers_first() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let mut stream = logged_in(site.proxy.port())?;
    stream.write_all(&[query("SELECT 1"), message(b'X', b"")].concat())?;
    assert_eq!(until(&mut stream, b'Z')?, b"TDCZ");
    assert!(rest(stream)?.is_empty());
    other.is_undisturbed()
}

#[test]
fn a_client_that_closes_its_half_anywhere_is_let_go() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    site.psql("CREATE TABLE t (a int)")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let asks = query("SELECT 1");
    for (what, bytes) in [
        ("at rest", Vec::new()),
        (
            "after a good-bye",
            [&asks[..], &message(b'X', b"")].concat(),
        ),
        ("within a message", asks[..7].to_vec()),
        ("while it is answered", asks.clone()),
        ("while it is answered at length", query(LONG_ANSWER)),
        ("while the server works", query("SELECT pg_sleep(600)")),
        ("in a transaction", query("BEGIN; INSERT INTO t VALUES (1)")),
        ("in a copy", query("COPY t FROM STDIN")),
        ("without a sync", message(b'P', b"s1\0SELECT 1\0\0\0")),
    ] {
        let mut stream = logged_in(site.proxy.port())?;
        stream.write_all(&bytes)?;
        stream.shutdown(Shutdown::Write)?;
        // An answer or none: but an end.
        rest(stream).context(what)?;
        other.is_undisturbed().context(what)?;
    }
    assert_eq!(site.psql("SELECT count(*) FROM t")?, "0");
    Ok(())
}

/// A client that has asked for a long answer and reads none of it: its server waits for it.
fn stopped_reading(site: &Site) -> Result<TcpStream> {
    let mut stream = logged_in(site.proxy.port())?;
    stream.write_all(&query(LONG_ANSWER))?;
    wait::until("the server waits for the client to read", SOON, || {
        let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
        site.server.sql(stuck).is_ok_and(|count| count == "1")
    })?;
    Ok(stream)
}

#[test]
fn a_client_that_stops_reading_does_not_stop_others() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let mut stream = stopped_reading(&site)?;
    other.is_undisturbed()?;
    // It reads after all, and has missed nothing.
    let tags = until(&mut stream, b'Z')?;
    assert_eq!(tags.iter().filter(|&&tag| tag == b'D').count(), 100_000);
    other.is_undisturbed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_server_of_one_that_stopped_reading_is_told_and_then_served() -> Result<()>
{
    let site = Site::new("pool = { size = 1, queue_timeout = \"2s\" }")?;
    let waits = connect(site.proxy.port(), "").await?;
    waits.batch_execute("SELECT 1").await?;
    let stream = stopped_reading(&site)?;
    let told = sqlstate(waits.batch_execute("SELECT 1").await);
    ensure!(told.as_deref() == Some("53300"), "{told:?}");
    // It never reads again.
    drop(stream);
    wait::until("its server is free", SOON, || site.psql("SELECT 1").is_ok())
}
