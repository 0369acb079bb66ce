//! What no client of good will sends: a clear error to it, no effect on others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::logic::{Logic, Options};
use lb_tests::redis::{Connection, Place, Reply, Tier};
use lb_tests::wait;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::SOON;

fn start(resp: &str) -> Result<(Tier, Logic)> {
    let tier = Tier::builder().primaries(2).build()?;
    let options = Options {
        resp: resp.to_owned(),
        ..Options::default()
    };
    let tables = tier.config("");
    let logic = Logic::start_with(tier.run(), &Place::here(), "logic-1", &tables, &options)?;
    Ok((tier, logic))
}

/// Everything that comes back until the other end closes or has said what `until` knows.
fn answer_to(address: std::net::SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    // It may be closed before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // A reset after the answer is a way to close.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn garbage_is_answered_as_by_redis_and_closed() -> Result<()> {
    let (tier, logic) = start("")?;
    let mut other = logic.connect()?;
    let long = vec![b'a'; 70_000];
    let deep = b"*1\r\n".repeat(10_000);
    let cases: [&[u8]; 10] = [
        b"*abc\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n$abc\r\n",
        b"*1\r\n$9999999999999\r\n",
        b"*2147483648\r\n",
        b"SET a \"b\r\n",
        b"SET a 'b'c\r\n",
        &long,
        &deep,
    ];
    for bytes in cases {
        let said = answer_to(logic.resp(), bytes)?;
        let expected = answer_to(tier.primaries[0].address(), bytes)?;
        let shown = bytes[..bytes.len().min(30)].escape_ascii().to_string();
        assert_eq!(said, expected, "{shown}");
        ensure!(said.starts_with("-ERR Protocol error"), "{shown}: {said}");
        assert_eq!(other.command(&["PING"])?, Reply::Simple("PONG".into()));
    }
    Ok(())
}

#[test]
fn what_is_sent_before_garbage_is_answered() -> Result<()> {
    let (_tier, logic) = start("")?;
    let said = answer_to(logic.resp(), b"SET a 1\r\nGET a\r\n*1\r\n:1\r\n")?;
    ensure!(
        said.starts_with("+OK\r\n$1\r\n1\r\n-ERR Protocol error"),
        "{said}"
    );
    Ok(())
}

#[test]
fn inline_commands_are_commands() -> Result<()> {
    let (_tier, logic) = start("")?;
    let mut connection = logic.connect()?;
    connection.send(b"\r\nSET \"a key\" 'a value'\r\nGET \"a\\x20key\"\r\nPING\r\n")?;
    assert_eq!(connection.answer()?, Reply::Simple("OK".into()));
    assert_eq!(connection.answer()?.text(), "a value");
    assert_eq!(connection.answer()?, Reply::Simple("PONG".into()));
    Ok(())
}

#[test]
fn a_command_in_single_bytes_is_a_command() -> Result<()> {
    let (_tier, logic) = start("")?;
    let mut connection = logic.connect()?;
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nx\r\ny\r\n" {
        // Bytes after a complete command begin the next one.
        connection.send(&[*byte])?;
    }
    let first = connection.answer()?;
    ensure!(
        first.is_error() || first == Reply::Simple("OK".into()),
        "{first:?}"
    );
    assert_eq!(logic.command(&["PING"])?, Reply::Simple("PONG".into()));
    Ok(())
}

#[test]
fn deep_replies_pass() -> Result<()> {
    let (tier, logic) = start("")?;
    let script = "local t = {1} for i = 1, 500 do t = {t} end return t";
    let words = ["EVAL", script, "1", "k"];
    assert_eq!(logic.command(&words)?, tier.primaries[0].command(&words)?);
    Ok(())
}

#[test]
fn a_client_that_never_reads_is_closed_and_others_go_on() -> Result<()> {
    let (_tier, logic) = start(", output_bytes_max = 1048576")?;
    let mut other = logic.connect()?;
    other.command(&["SET", "big", &"x".repeat(100_000)])?;
    let mut stream = TcpStream::connect(logic.resp())?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    for _ in 0..2_000 {
        // What cannot be written is not read any more: as good as closed.
        if stream
            .write_all(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
            .is_err()
        {
            break;
        }
    }
    wait::until("the client to be closed or held back", SOON, || {
        let closed = logic.metric("lb_logic_resp_clients_too_slow_total", "");
        closed.is_ok_and(|closed| closed.unwrap_or(0.0) >= 1.0)
    })?;
    for _ in 0..100 {
        assert_eq!(other.command(&["PING"])?, Reply::Simple("PONG".into()));
    }
    assert_eq!(other.command(&["STRLEN", "big"])?, Reply::Integer(100_000));
    Ok(())
}

#[test]
fn ten_thousand_idle_clients_disturb_nobody() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (_tier, logic) = start(", max_clients = 20000")?;
    let mut idle = Vec::new();
    for _ in 0..10_000 {
        idle.push(TcpStream::connect(logic.resp())?);
    }
    for stream in &mut idle {
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"PING\r\n")?;
        let mut pong = [0; 7];
        stream.read_exact(&mut pong)?;
        assert_eq!(&pong, b"+PONG\r\n");
    }
    assert_eq!(
        logic.command(&["SET", "a", "1"])?,
        Reply::Simple("OK".into())
    );
    Ok(())
}

#[test]
fn one_client_too_many_is_told() -> Result<()> {
    let (_tier, logic) = start(", max_clients = 3")?;
    let mut clients = Vec::new();
    wait::until("the probe of the start to be gone", SOON, || {
        clients = (0..3).filter_map(|_| logic.connect().ok()).collect();
        clients.iter_mut().all(|client: &mut Connection| {
            client.command(&["PING"]).is_ok_and(|pong| !pong.is_error())
        })
    })?;
    let said = answer_to(logic.resp(), b"PING\r\n")?;
    ensure!(
        said.starts_with("-ERR max number of clients reached"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_taken() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let users = tier.run().join("users.acl");
    let text = "user default on >secret ~* &* +@all\nuser reader on >word ~a* &* +@read +ping\n";
    std::fs::write(&users, text)?;
    let options = Options {
        resp: format!(", users_file = \"{}\"", users.display()),
        ..Options::default()
    };
    let tables = tier.config("");
    let logic = Logic::start_with(tier.run(), &Place::here(), "logic-1", &tables, &options)?;
    let mut client = logic.connect()?;
    ensure!(client.command(&["GET", "a"])?.text().starts_with("NOAUTH"));
    ensure!(
        client
            .command(&["AUTH", "wrong"])?
            .text()
            .starts_with("WRONGPASS")
    );
    ensure!(client.command(&["GET", "a"])?.text().starts_with("NOAUTH"));
    assert_eq!(
        client.command(&["AUTH", "secret"])?,
        Reply::Simple("OK".into())
    );
    assert_eq!(
        client.command(&["SET", "a", "1"])?,
        Reply::Simple("OK".into())
    );
    let mut reader = logic.connect()?;
    assert_eq!(
        reader.command(&["AUTH", "reader", "word"])?,
        Reply::Simple("OK".into())
    );
    assert_eq!(reader.command(&["GET", "a"])?.text(), "1");
    ensure!(
        reader
            .command(&["SET", "a", "2"])?
            .text()
            .starts_with("NOPERM")
    );
    ensure!(reader.command(&["GET", "b"])?.text().starts_with("NOPERM"));
    Ok(())
}
