//! Bad input at every boundary: between any two messages of a client, at bytes of a server's login, and
//! in first packets. Others notice nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;
use lb_userspace::wire::postgres::write;

use crate::setup::{SOON, Site, printed};

const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
/// A tag that nobody has, with a length that is valid.
const GARBAGE: &[u8] = b"\xff\0\0\0\x08junk";

/// Messages that leave the session in another state after each.
fn conversation() -> Vec<Vec<u8>> {
    let query = |sql: &[u8]| {
        let mut bytes = Vec::new();
        write::query(&mut bytes, sql);
        bytes
    };
    let message = |tag, body: &[u8]| {
        let mut bytes = Vec::new();
        write::message(&mut bytes, tag, |out| out.extend_from_slice(body));
        bytes
    };
    vec![
        message(b'P', b"s1\0SELECT $1::int\0\0\x01\0\0\0\x17"),
        message(b'D', b"Ss1\0"),
        message(b'B', b"p1\0s1\0\0\0\0\x01\0\0\0\x017\0\0"),
        message(b'D', b"Pp1\0"),
        message(b'E', b"p1\0\0\0\0\0"),
        message(b'H', b""),
        message(b'C', b"Ss1\0"),
        message(b'S', b""),
        query(b"BEGIN"),
        query(b"INSERT INTO t VALUES (1)"),
        query(b"SELECT 1 / 0"),
        query(b"ROLLBACK"),
        query(b"SET work_mem = '5MB'"),
        query(b"COPY t FROM STDIN"),
        message(b'd', b"1\n"),
        message(b'c', b""),
    ]
}

#[test]
fn garbage_between_any_two_messages_ends_that_client_only() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    site.psql("CREATE TABLE t (a int)")?;
    let conversation = conversation();
    for count in 0..=conversation.len() {
        let mut stream = TcpStream::connect(("127.0.0.1", site.proxy.port()))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(STARTUP)?;
        stream.write_all(&conversation[..count].concat())?;
        stream.write_all(GARBAGE)?;
        let mut answer = Vec::new();
        // A reset is an end as well; a timeout is none.
        if let Err(error) = stream.read_to_end(&mut answer) {
            ensure!(
                error.kind() == std::io::ErrorKind::ConnectionReset,
                "after {count}: {error}"
            );
        }
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.contains("08P01"), "after {count} messages: {text:?}");
        ensure!(
            site.psql("SHOW work_mem")? == "4MB",
            "after {count} messages"
        );
    }
    ensure!(site.psql("SELECT count(*) <= 1 FROM t")? == "t");
    Ok(())
}

#[test]
fn an_unknown_database_is_told_and_costs_nobody_else_anything() -> Result<()> {
    let site = Site::new("pool = { size = 1, queue_timeout = \"500ms\" }")?;
    let client = site.psql("SELECT 1")?;
    let mut psql = site.proxy.client("psql")?;
    psql.args(["-XAtq", "-d", "nowhere", "-c", "SELECT 1"]);
    let error = printed(&mut psql)
        .expect_err("there is no such database")
        .to_string();
    assert!(
        error.contains("FATAL") && error.contains("nowhere"),
        "{error}"
    );
    assert_eq!(site.psql("SELECT 1")?, client);
    Ok(())
}

#[test]
fn first_packets_that_are_too_long_or_never_end_hold_nobody_up() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut unfinished = Vec::new();
    for bytes in [
        &STARTUP[..3],
        &STARTUP[..30],
        b"\0\0\x27\x10\0\x03\0\0user\0",
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(("127.0.0.1", site.proxy.port()))?;
            stream.write_all(bytes)?;
            unfinished.push(stream);
        }
    }
    let mut long = TcpStream::connect(("127.0.0.1", site.proxy.port()))?;
    long.set_read_timeout(Some(SOON))?;
    // One byte more than PostgreSQL takes, and the rest of it.
    let mut packet = b"\0\0\x27\x11\0\x03\0\0".to_vec();
    packet.resize(10_001, b'x');
    let _ = long.write_all(&packet);
    let mut answer = Vec::new();
    if let Err(error) = long.read_to_end(&mut answer) {
        ensure!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "{error}"
        );
    }
    assert!(answer.is_empty() || answer[0] == b'E', "{answer:?}");
    assert_eq!(site.psql("SELECT 1")?, "1");
    drop(unfinished);
    wait::until("they are forgotten", SOON, || {
        let metrics = site.proxy.metrics();
        metrics.is_ok_and(|text| text.contains("\nlb_db_proxy_clients 0\n"))
    })
}

/// A way to a server whose connections for alice end after so many bytes of the server's, one after the
/// other; what comes after them, and others' connections, are whole.
fn cutting(socket: PathBuf, cuts: &'static [usize]) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        let taken = Arc::new(AtomicUsize::new(0));
        for client in listener.incoming().flatten() {
            let Ok(server) = UnixStream::connect(&socket) else {
                return;
            };
            let taken = Arc::clone(&taken);
            thread::spawn(move || {
                let mut first = [0; 64];
                let count = client.peek(&mut first)?;
                let is_alice = first[..count].windows(5).any(|name| name == b"alice");
                let cut = is_alice.then(|| cuts.get(taken.fetch_add(1, Ordering::Relaxed)));
                relay(client, server, cut.flatten().copied())
            });
        }
    });
    Ok(port)
}

fn relay(client: TcpStream, server: UnixStream, cut: Option<usize>) -> std::io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let most = cut.map_or(u64::MAX, |cut| cut as u64);
    std::io::copy(&mut server.take(most), &mut &client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// Within AuthenticationSASL, between it and the next, within SASLContinue, within SASLFinal, after it.
const CUTS: [usize; 12] = [0, 1, 5, 9, 23, 24, 25, 60, 108, 120, 160, 172];

#[test]
fn a_server_that_dies_anywhere_inside_scram_is_tried_again() -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "password_encryption = 'scram-sha-256'")?;
    server.sql("CREATE ROLE alice LOGIN PASSWORD 'secret'")?;
    server.admit("local all postgres trust\nlocal all all scram-sha-256")?;
    let socket = server
        .socket_directory()
        .join(format!(".s.PGSQL.{}", server.port()));
    let port = cutting(socket, &CUTS)?;
    let users = run.join("users.txt");
    std::fs::write(&users, "\"alice\" \"secret\"\n")?;
    let head = format!("server = \"127.0.0.1\"\nserver_port = {port}\n");
    let settings = format!(
        "users_file = \"{}\"\npool = {{ size = 1, queue_timeout = \"30s\" }}",
        users.display()
    );
    let proxy = DbProxy::start_before(&run, head, &settings)?;
    let mut psql = proxy.client("psql")?;
    psql.envs([
        ("PGUSER", "alice"),
        ("PGPASSWORD", "secret"),
        ("PGCONNECT_TIMEOUT", "60"),
    ]);
    psql.args(["-XAtq", "-c", "SELECT current_user"]);
    assert_eq!(
        printed(&mut psql).context("after all these deaths")?,
        "alice"
    );
    Ok(())
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_wanted() -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "")?;
    let socket = server
        .socket_directory()
        .join(format!(".s.PGSQL.{}", server.port()));
    let port = cutting(socket, &[])?;
    for (tls, works) in [("prefer", true), ("require", false)] {
        let head =
            format!("server = \"127.0.0.1\"\nserver_port = {port}\nserver_tls = \"{tls}\"\n");
        let settings = "auth = \"trust\"\npool = { queue_timeout = \"700ms\" }";
        let proxy = DbProxy::start_before(&run, head, settings)?;
        let mut psql = proxy.client("psql")?;
        psql.args(["-XAtq", "-c", "SELECT 1"]);
        let outcome = printed(&mut psql);
        match outcome {
            Ok(answer) => ensure!(works && answer == "1", "{tls}: {answer}"),
            Err(error) => ensure!(
                !works && error.to_string().contains("FATAL"),
                "{tls}: {error}"
            ),
        }
    }
    Ok(())
}
