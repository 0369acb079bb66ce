//! What comes after the login: garbage between any two messages, messages that are too long, that never
//! end, or that break off at any byte.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::wait;

use super::raw::{answered, connected, logged_in, message, query, rest, superuser, told, until};
use crate::bystander::Bystander;
use crate::setup::{SOON, Site};

/// A tag that nobody has, with a length that is valid.
const GARBAGE: &[u8] = b"\xff\0\0\0\x08junk";

/// Messages that leave the session in another state after each.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        message(b'P', b"s1\0SELECT $1::int\0\0\x01\0\0\0\x17"),
        message(b'D', b"Ss1\0"),
        message(b'B', b"p1\0s1\0\0\0\0\x01\0\0\0\x017\0\0"),
        message(b'D', b"Pp1\0"),
        message(b'E', b"p1\0\0\0\0\0"),
        message(b'H', b""),
        message(b'C', b"Ss1\0"),
        message(b'S', b""),
        query("BEGIN"),
        query("INSERT INTO t VALUES (1)"),
        query("SELECT 1 / 0"),
        query("ROLLBACK"),
        query("SET work_mem = '5MB'"),
        query("COPY t FROM STDIN"),
        message(b'd', b"1\n"),
        message(b'c', b""),
    ]
}

#[test]
fn garbage_between_any_two_messages_ends_that_client_only() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    site.psql("CREATE TABLE t (a int)")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let conversation = conversation();
    for count in 0..=conversation.len() {
        let what = || format!("after {count} messages");
        // At once, and with an answer to the first half read before the rest is sent.
        let mut at_once = connected(site.proxy.port())?;
        at_once.write_all(&[superuser(), conversation[..count].concat()].concat())?;
        let mut one_by_one = logged_in(site.proxy.port())?;
        for message in &conversation[..count] {
            one_by_one.write_all(message)?;
        }
        for mut stream in [at_once, one_by_one] {
            stream.write_all(GARBAGE)?;
            let told = rest(stream).and_then(|answer| told(&answer));
            let told = told.with_context(what)?;
            ensure!(told.code == "08P01", "{}: {told:?}", what());
        }
        other.is_undisturbed().with_context(what)?;
        let settings = site.psql("SHOW work_mem").with_context(what)?;
        ensure!(settings == "4MB", "{}: {settings}", what());
    }
    ensure!(site.psql("SELECT count(*) <= 2 FROM t")? == "t");
    Ok(())
}

#[test]
fn nobody_runs_an_unnamed_statement_of_another_client() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let parse = |sql: &str| message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    let bind = |statement: &str| {
        let body = [&b"\0"[..], statement.as_bytes(), &[0; 7]].concat();
        message(b'B', &body)
    };
    let (execute, sync) = (message(b'E', b"\0\0\0\0\0"), message(b'S', b""));
    for (what, before, expected) in [
        ("who has parsed none", Vec::new(), "26000"),
        (
            "who has closed it",
            [parse("SELECT 'other'"), message(b'C', b"S\0")].concat(),
            "26000",
        ),
        (
            // An error first: what follows it is not looked at, up to the Sync.
            "whose own one the server has ignored",
            [bind("nobody's"), parse("SELECT 'other'")].concat(),
            "other",
        ),
    ] {
        let (mut one, mut other) = (logged_in(site.proxy.port())?, logged_in(site.proxy.port())?);
        other.write_all(&[before, sync.clone()].concat())?;
        answered(&mut other)?;
        one.write_all(&[parse("SELECT 'one'"), bind(""), sync.clone()].concat())?;
        until(&mut one, b'Z')?;
        let asks = [bind(""), execute.clone(), sync.clone(), message(b'X', b"")];
        other.write_all(&asks.concat())?;
        let answer = rest(other)?;
        let says = |text: &str| {
            answer
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        let answer = answer.escape_ascii();
        ensure!(says(expected) && !says("one"), "{what}: {answer}");
    }
    Ok(())
}

#[test]
fn messages_that_cannot_be_are_refused() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let long_name = message(b'D', &[b'S'; 10_000]);
    for (what, bytes) in [
        ("a message that nobody has", GARBAGE),
        ("one without a length", b"\xff\0\0\0\x04"),
        ("a query of no length", b"Q\0\0\0\0"),
        ("a query shorter than its length", b"Q\0\0\0\x03SELECT 1\0"),
        ("a query of 4 GiB", b"Q\xff\xff\xff\xff"),
        ("a query of 1 GiB", b"Q\x40\0\0\0SELECT 1"),
        ("a bind of 1 GiB", b"B\x40\0\0\0\0\0"),
        ("a piece of a copy of 1 GiB", b"d\x40\0\0\0"),
        ("a statement without an end", b"P\0\0\0\x08abcd"),
        ("a bind without an end", b"B\0\0\0\x06ab"),
        ("a describe without an end", b"D\0\0\0\x06S\xff"),
        ("a name of 10,000 bytes", &long_name),
        ("a close of nothing that there is", b"C\0\0\0\x07Xa\0"),
        ("a password", b"p\0\0\0\x08abcd"),
    ] {
        let mut stream = logged_in(site.proxy.port())?;
        // It may be refused before all of it is sent.
        let _ = stream.write_all(bytes);
        let told = rest(stream)
            .and_then(|answer| told(&answer))
            .context(what)?;
        ensure!(told.code == "08P01", "{what}: {told:?}");
        other.is_undisturbed().context(what)?;
    }
    Ok(())
}

#[test]
fn a_connection_that_ends_at_any_byte_leaves_nothing() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let conversation = [
        message(b'P', b"s1\0SELECT $1::int\0\0\x01\0\0\0\x17"),
        message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x017\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        query("BEGIN"),
        query("INSERT INTO t VALUES (1)"),
    ]
    .concat();
    for end in 0..conversation.len() {
        let mut stream = logged_in(site.proxy.port())?;
        stream.write_all(&conversation[..end])?;
        drop(stream);
    }
    other.is_undisturbed()?;
    wait::until("no transaction is left open", SOON, || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND xact_start < now() - interval '1s'";
        site.server.sql(open).is_ok_and(|count| count == "0")
    })
}

#[test]
fn a_message_that_never_ends_holds_no_server() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let mut unfinished = Vec::new();
    for bytes in [
        &b"Q"[..],
        b"Q\0\0\xff",
        b"Q\0\0\xff\xffSELECT",
        b"P\0\0\xff\xffs1\0SELECT",
        b"B\0\0\xff\xffp1\0s1",
        b"D\0\0\0\x20S",
        b"C\0\0\0\x20S",
    ] {
        let mut stream = logged_in(site.proxy.port())?;
        stream.write_all(bytes)?;
        unfinished.push(stream);
        other
            .is_undisturbed()
            .with_context(|| format!("{bytes:?}"))?;
    }
    Ok(())
}

/// What one client may make the proxy hold, whatever it sends, and what an allocator adds to it.
const HELD_KIB_MAX: u64 = 16 << 10;
/// What is sent of messages of 256 MiB.
const SENT_BYTES: usize = 64 << 20;

#[test]
fn the_longest_messages_are_passed_on_and_not_kept() -> Result<()> {
    let mut site = Site::new("pool = { size = 4 }")?;
    site.psql("CREATE TABLE t (a int)")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let pid = site.proxy.process().pid();
    let before = resident_kib(pid)?;
    let piece = vec![b' '; 1 << 20];
    for (what, opening, head) in [
        ("a query", Vec::new(), &b"Q\x10\0\0\0"[..]),
        ("a statement", Vec::new(), b"P\x10\0\0\0s1\0"),
        ("a copy", query("COPY t FROM STDIN"), b"d\x10\0\0\0"),
    ] {
        let mut stream = logged_in(site.proxy.port())?;
        stream.write_all(&opening)?;
        if !opening.is_empty() {
            until(&mut stream, b'G')?;
        }
        stream.write_all(head)?;
        let mut held = 0;
        for _ in 0..SENT_BYTES / piece.len() {
            stream.write_all(&piece).context(what)?;
            held = held.max(resident_kib(pid)?.saturating_sub(before));
        }
        ensure!(
            held < HELD_KIB_MAX,
            "{what}: the proxy holds {held} KiB of it"
        );
        other.is_undisturbed().context(what)?;
        drop(stream);
        other.is_undisturbed().context(what)?;
    }
    wait::until("their servers are free or closed", SOON, || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE 'COPY%'";
        site.server.sql(busy).is_ok_and(|count| count == "0")
    })
}

#[test]
fn a_client_that_sends_without_end_and_reads_nothing_is_not_kept_in_memory() -> Result<()> {
    let mut site = Site::new("pool = { size = 2 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let pid = site.proxy.process().pid();
    let before = resident_kib(pid)?;
    let mut stream = logged_in(site.proxy.port())?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let questions = query("SELECT repeat('x', 1000)").repeat(1000);
    let sent = pours(&mut stream, &questions)?;
    let held = resident_kib(pid)?.saturating_sub(before);
    ensure!(
        held < HELD_KIB_MAX,
        "of {sent} bytes the proxy holds {held} KiB"
    );
    other.is_undisturbed()
}

/// Writes until the other side takes no more; returns how much it took.
fn pours(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    let mut sent = 0;
    while sent < SENT_BYTES {
        match stream.write(&bytes[sent % bytes.len()..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(sent),
            Err(error) => return Err(error).context("write to the proxy"),
        }
    }
    anyhow::bail!("it takes everything, {sent} bytes, and nobody reads the answers")
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.context("the kernel says how much memory a process has")
}
