//! Whatever a client sends, and however it leaves: it hurts nobody else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::Result;
use lb_tests::wait;

use crate::setup::{SOON, Site};

const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

fn raw(site: &Site) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", site.proxy.port()))?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// Logs in and reads up to the first ReadyForQuery.
fn logged_in(site: &Site) -> Result<TcpStream> {
    let mut stream = raw(site)?;
    stream.write_all(STARTUP)?;
    until_ready(&mut stream)?;
    Ok(stream)
}

fn until_ready(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut tags = Vec::new();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        tags.push(head[0]);
        if head[0] == b'Z' {
            return Ok(tags);
        }
    }
}

/// Everything up to the end of the connection.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut rest);
    rest
}

#[test]
fn garbage_instead_of_a_first_packet_is_refused() -> Result<()> {
    let site = Site::new("")?;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..],
        b"\0\0\0\0",
        b"\xff\xff\xff\xff\0\x03\0\0",
        b"\0\0\0\x08\0\x02\0\0",
        b"\0\0\0\x0d\0\x03\0\0user\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc",
    ] {
        let mut stream = raw(&site)?;
        stream.write_all(bytes)?;
        stream.shutdown(Shutdown::Write)?;
        let answer = rest(stream);
        assert!(answer.is_empty() || answer[0] == b'E', "{answer:?}");
    }
    assert_eq!(site.psql("SELECT 1")?, "1");
    Ok(())
}

#[test]
fn tls_and_gss_are_declined_where_there_is_none() -> Result<()> {
    let site = Site::new("")?;
    let mut stream = raw(&site)?;
    for request in [b"\0\0\0\x08\x04\xd2\x16\x30", b"\0\0\0\x08\x04\xd2\x16\x2f"] {
        stream.write_all(request)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"N");
    }
    stream.write_all(STARTUP)?;
    until_ready(&mut stream)?;
    Ok(())
}

#[test]
fn garbage_after_the_login_ends_that_client_only() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    for bytes in [
        &b"\xff\0\0\0\x04"[..],
        b"Q\0\0\0\0",
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x03SELECT 1\0",
        b"P\0\0\0\x08abcd",
        b"B\0\0\0\x06ab",
        b"D\0\0\0\x06S\xff",
        b"C\0\0\0\x07Xa\0",
        b"p\0\0\0\x08abcd",
    ] {
        let mut stream = logged_in(&site)?;
        stream.write_all(bytes)?;
        let answer = rest(stream);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("08P01"), "{bytes:?}: {text:?}");
        assert_eq!(site.psql("SELECT 1")?, "1");
    }
    Ok(())
}

#[test]
fn a_connection_that_ends_at_any_byte_leaves_nothing() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut conversation = b"P\0\0\0\x1cs1\0SELECT $1::int\0\0\x01\0\0\0\x17B\0\0\0\x11\0s1\0\0\0\0\x01\0\0\0\x017\0\0".to_vec();
    conversation
        .extend_from_slice(b"E\0\0\0\x09\0\0\0\0\0Q\0\0\0\x0aBEGIN\0Q\0\0\0\x11INSERT INTO t");
    for end in 0..conversation.len() {
        let mut stream = logged_in(&site)?;
        stream.write_all(&conversation[..end])?;
        drop(stream);
    }
    assert_eq!(site.psql("SELECT 1")?, "1");
    wait::until("no transaction is left open", SOON, || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
        site.server.sql(open).is_ok_and(|count| count == "0")
    })
}

#[test]
fn a_message_that_never_ends_holds_no_server() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut stream = logged_in(&site)?;
    stream.write_all(b"Q\0\0\xff\xffSELECT")?;
    assert_eq!(site.psql("SELECT 1")?, "1");
    Ok(())
}

#[test]
fn a_client_that_closes_its_half_gets_its_answer() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    let mut stream = logged_in(&site)?;
    stream.write_all(b"Q\0\0\0\x0dSELECT 1\0X\0\0\0\x04")?;
    until_ready(&mut stream)?;
    assert!(rest(stream).is_empty());
    Ok(())
}

#[test]
fn a_client_that_stops_reading_does_not_stop_others() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    let mut stream = logged_in(&site)?;
    let query = b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)\0";
    stream.write_all(b"Q")?;
    stream.write_all(&u32::try_from(query.len() + 4)?.to_be_bytes())?;
    stream.write_all(query)?;
    for _ in 0..20 {
        assert_eq!(site.psql("SELECT 1")?, "1");
    }
    // It reads after all, and has missed nothing.
    let tags = until_ready(&mut stream)?;
    assert_eq!(tags.iter().filter(|&&tag| tag == b'D').count(), 100_000);
    Ok(())
}

#[test]
fn a_server_that_dies_inside_the_login_is_tried_again() -> Result<()> {
    use lb_tests::db_proxy::DbProxy;
    use std::net::TcpListener;
    let site = Site::new("")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let head = format!("server = \"127.0.0.1\"\nserver_port = {port}\n");
    let settings = "auth = \"trust\"\npool = { queue_timeout = \"700ms\" }";
    let proxy = DbProxy::start_before(&site.run, head, settings)?;
    // It asks for SCRAM, and closes in the middle of it.
    let dies = std::thread::spawn(move || -> Result<u32> {
        let mut tries = 0;
        listener.set_nonblocking(true)?;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::yield_now();
                continue;
            };
            tries += 1;
            stream.write_all(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0")?;
        }
        Ok(tries)
    });
    let mut psql = proxy.client("psql")?;
    psql.args(["-XAtq", "-c", "SELECT 1"]);
    let error = crate::setup::printed(&mut psql).expect_err("there is no server");
    let error = error.to_string();
    assert!(error.contains("FATAL"), "{error}");
    assert!(dies.join().expect("it does not panic")? >= 1);
    Ok(())
}
