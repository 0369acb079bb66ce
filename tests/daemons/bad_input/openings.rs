//! What comes before the login: first packets that are none, encryption where there is none.

use std::io::{Read, Write};
use std::net::Shutdown;

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;

use super::raw::{connected, rest, startup, superuser, told, until};
use crate::bystander::Bystander;
use crate::setup::{SOON, Site, certificate, printed};

const TLS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
/// How a client of TLS begins that does not ask before.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";

#[test]
fn what_is_no_first_packet_is_refused() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let long = [&b"\0\0\x27\x15\0\x03\0\0"[..], &[b'x'; 10_009]].concat();
    for (what, bytes) in [
        (
            "another protocol",
            &b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..],
        ),
        ("a length of nothing", b"\0\0\0\0"),
        ("a length of itself", b"\0\0\0\x04"),
        ("a length of everything", b"\xff\xff\xff\xff\0\x03\0\0"),
        ("a version of the past", b"\0\0\0\x08\0\x02\0\0"),
        ("a parameter without a value", b"\0\0\0\x0d\0\x03\0\0user\0"),
        ("TLS without asking", TLS_HELLO),
        ("one that is too long", &long),
    ] {
        let mut stream = connected(site.proxy.port())?;
        // It may be refused before all of it is sent.
        let _ = stream.write_all(bytes);
        let told = rest(stream)
            .and_then(|answer| told(&answer))
            .context(what)?;
        ensure!(
            told.code == "08P01" || told.code == "0A000",
            "{what}: {told:?}"
        );
        other.is_undisturbed().context(what)?;
    }
    Ok(())
}

#[test]
fn first_packets_that_want_what_there_is_not_are_told_so() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    for (parameters, code) in [
        (&[("database", "postgres")][..], "28000"),
        (&[("user", ""), ("database", "postgres")], "28000"),
        (&[("user", "postgres"), ("replication", "true")], "0A000"),
        (&[("user", "postgres"), ("database", "nowhere")], "3D000"),
        (&[("user", "nobody"), ("database", "postgres")], "28000"),
        (&[("user", "postgres"), ("work_mem", "a lot")], "22023"),
        (&[("user", "postgres"), ("no_such_setting", "1")], "42704"),
    ] {
        let mut stream = connected(site.proxy.port())?;
        stream.write_all(&startup(parameters))?;
        let told = rest(stream).and_then(|answer| told(&answer));
        let told = told.with_context(|| format!("{parameters:?}"))?;
        ensure!(told.code == code, "{parameters:?}: {told:?}");
        other.is_undisturbed()?;
    }
    Ok(())
}

#[test]
fn first_packets_that_never_end_hold_nobody_up() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let whole = superuser();
    let mut unfinished = Vec::new();
    for bytes in [
        &whole[..0],
        &whole[..3],
        &whole[..30],
        TLS_REQUEST,
        b"\0\0\x27\x10\0\x03\0\0user\0",
    ] {
        for _ in 0..20 {
            let mut stream = connected(site.proxy.port())?;
            stream.write_all(bytes)?;
            unfinished.push(stream);
        }
    }
    other.is_undisturbed()?;
    drop(unfinished);
    drop(other);
    wait::until("they are forgotten", SOON, || {
        let metrics = site.proxy.metrics();
        metrics.is_ok_and(|text| text.contains("\nlb_db_proxy_clients 0\n"))
    })
}

#[test]
fn encryption_is_declined_where_there_is_none() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut other = Bystander::start(site.proxy.port(), "")?;
    let mut stream = connected(site.proxy.port())?;
    for request in [GSS_REQUEST, TLS_REQUEST] {
        stream.write_all(request)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"N");
    }
    stream.write_all(&superuser())?;
    until(&mut stream, b'Z')?;
    // Who insists goes away, told by its own library.
    let mut psql = site.proxy.client("psql")?;
    psql.env("PGSSLMODE", "require")
        .args(["-XAtqc", "SELECT 1"]);
    let error = printed(&mut psql).expect_err("there is no TLS").to_string();
    assert!(error.contains("server does not support SSL"), "{error}");
    // Who shakes hands whatever the answer is told that this is no message.
    let mut stream = connected(site.proxy.port())?;
    stream.write_all(&[TLS_REQUEST, TLS_HELLO].concat())?;
    let answer = rest(stream)?;
    assert_eq!(answer.first(), Some(&b'N'));
    assert_eq!(told(&answer[1..])?.code, "08P01");
    other.is_undisturbed()
}

#[test]
fn handshakes_that_fail_end_alone() -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "")?;
    let (certificate, key) = certificate(&run)?;
    let settings = format!(
        "auth = \"trust\"\npool = {{ size = 1 }}\ntls = {{ certificate = \"{}\", key = \"{}\" }}",
        certificate.display(),
        key.display()
    );
    let proxy = DbProxy::start(&run, &server, &settings)?;
    let mut other = Bystander::start(proxy.port(), "")?;
    // In one packet with the request: bytes that an attacker on the way could put before the handshake.
    let stuffed = [TLS_REQUEST, &superuser(), b"Q\0\0\0\x0dSELECT 1\0"].concat();
    let garbage = [TLS_REQUEST, &[0xff; 100]].concat();
    let broken_off = [TLS_REQUEST, TLS_HELLO].concat();
    for bytes in [stuffed, garbage, broken_off] {
        let mut stream = connected(proxy.port())?;
        stream.write_all(&bytes)?;
        stream.shutdown(Shutdown::Write)?;
        let answer = rest(stream)?;
        assert_eq!(answer.first(), Some(&b'S'));
        // At most an alert of TLS: nobody is logged in by what was not encrypted.
        let is_alert = answer.len() == 1 || answer[1] == 0x15;
        assert!(is_alert, "{bytes:?}: {answer:?}");
        other.is_undisturbed()?;
    }
    Ok(())
}
