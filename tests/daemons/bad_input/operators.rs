//! What comes to the console and to the watch: garbage between any two messages, messages that are too
//! long or never end, questions in a way that they do not take.

use std::io::Write;
use std::net::Shutdown;

use anyhow::{Context, Result, ensure};
use lb_tests::wait;
use lb_userspace::wire::postgres::link::TAG;

use super::raw::{logged_in_by, message, query, rest, startup, told, until};
use crate::bystander::Bystander;
use crate::setup::{SOON, Site};

fn console() -> Vec<u8> {
    startup(&[("user", "postgres"), ("database", "lb")])
}

fn watch() -> Vec<u8> {
    startup(&[
        ("user", "lb"),
        ("database", "postgres"),
        ("_pq_.lb_link", "watch"),
    ])
}

/// What neither takes.
const GARBAGE: [(&str, &[u8]); 5] = [
    ("a message that nobody has", b"\xff\0\0\0\x08junk"),
    ("a query of no length", b"Q\0\0\0\0"),
    ("a query of 4 GiB", b"Q\xff\xff\xff\xff"),
    ("a query of 1 GiB", b"Q\x40\0\0\0SHOW POOLS"),
    ("a password", b"p\0\0\0\x08abcd"),
];

#[test]
fn garbage_at_the_console_ends_that_client_only() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    for commands in 0..=2 {
        for (what, bytes) in GARBAGE {
            let what = || format!("{what}, after {commands} commands");
            let mut stream = logged_in_by(site.proxy.port(), &console())?;
            for _ in 0..commands {
                stream.write_all(&query("SHOW POOLS"))?;
                until(&mut stream, b'Z')?;
            }
            // It may be refused before all of it is sent.
            let _ = stream.write_all(bytes);
            let told = rest(stream).and_then(|answer| told(&answer));
            let told = told.with_context(what)?;
            ensure!(told.code == "08P01", "{}: {told:?}", what());
            other.is_undisturbed().with_context(what)?;
        }
    }
    Ok(())
}

#[test]
fn the_console_refuses_a_whole_batch_of_the_extended_protocol_once() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut stream = logged_in_by(site.proxy.port(), &console())?;
    let batch = [
        message(b'P', b"\0SHOW POOLS\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ];
    stream.write_all(&[batch.concat(), query("SHOW VERSION")].concat())?;
    assert_eq!(until(&mut stream, b'E')?, b"E");
    assert_eq!(until(&mut stream, b'Z')?, b"Z");
    assert_eq!(until(&mut stream, b'Z')?, b"TDCZ");
    Ok(())
}

#[test]
fn garbage_at_the_watch_ends_that_client_only() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let of_a_link: [(&str, &[u8]); 3] = [
        ("a message of no kind", &message(TAG, b"?")),
        ("an epoch that breaks off", &message(TAG, b"A\0\0")),
        ("a message of 10,000 bytes", &message(TAG, &[b'A'; 10_000])),
    ];
    for (what, bytes) in GARBAGE.into_iter().chain(of_a_link) {
        let mut stream = logged_in_by(site.proxy.port(), &watch())?;
        // It may be refused before all of it is sent.
        let _ = stream.write_all(bytes);
        let told = rest(stream).and_then(|answer| told(&answer));
        let told = told.context(what)?;
        ensure!(told.code == "08P01", "{what}: {told:?}");
        other.is_undisturbed().context(what)?;
    }
    ensure!(site.proxy.metrics()?.contains("\nlb_db_proxy_fenced 0\n"));
    Ok(())
}

#[test]
fn operators_that_stop_within_a_message_hold_nobody_up_and_are_forgotten() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let mut unfinished = Vec::new();
    for first in [console(), watch()] {
        for bytes in [&b""[..], b"Q", b"Q\0\0", b"Q\0\0\0\x20SHOW PO"] {
            let mut stream = logged_in_by(site.proxy.port(), &first)?;
            stream.write_all(bytes)?;
            unfinished.push(stream);
        }
    }
    other.is_undisturbed()?;
    for stream in &unfinished {
        stream.shutdown(Shutdown::Write)?;
    }
    for stream in unfinished {
        rest(stream)?;
    }
    other.is_undisturbed()?;
    drop(other);
    wait::until("they are forgotten", SOON, || {
        let metrics = site.proxy.metrics();
        metrics.is_ok_and(|text| text.contains("\nlb_db_proxy_clients 0\n"))
    })
}
