//! Who may not come in is told why, as PostgreSQL tells it; logins that go wrong at any of their
//! messages end alone.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;

use super::raw::{connected, message, query, rest, startup, told, until};
use crate::bystander::Bystander;
use crate::setup::{SOON, connect, sqlstate};

const FIRST: &[u8] = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO";

/// A proxy that wants passwords, alice's and a superuser's, before a server that wants them too.
struct Locked {
    proxy: DbProxy,
    _server: Postgres,
    _run: RunDirectory,
}

impl Locked {
    fn new() -> Result<Self> {
        let run = RunDirectory::new()?;
        let server = Postgres::start_new(&run, "db-1", "password_encryption = 'scram-sha-256'")?;
        server.sql("CREATE ROLE alice LOGIN PASSWORD 'secret'")?;
        server.admit("local all postgres trust\nlocal all all scram-sha-256")?;
        let users = run.join("users.txt");
        fs::write(&users, "\"alice\" \"secret\"\n\"postgres\" \"secret\"\n")?;
        let settings = format!(
            "users_file = \"{}\"\npool = {{ size = 1 }}",
            users.display()
        );
        let proxy = DbProxy::start(&run, &server, &settings)?;
        Ok(Self {
            proxy,
            _server: server,
            _run: run,
        })
    }

    fn bystander(&self) -> Result<Bystander> {
        Bystander::start(self.proxy.port(), "user=alice password=secret")
    }

    /// A login that has come to the request for a password.
    fn asked(&self) -> Result<TcpStream> {
        let mut stream = connected(self.proxy.port())?;
        stream.write_all(&startup(&[("user", "alice"), ("database", "postgres")]))?;
        until(&mut stream, b'R')?;
        Ok(stream)
    }

    /// A login that has come to the server's half of the nonce.
    fn challenged(&self) -> Result<TcpStream> {
        let mut stream = self.asked()?;
        stream.write_all(&initial("SCRAM-SHA-256", FIRST))?;
        until(&mut stream, b'R')?;
        Ok(stream)
    }
}

/// SASLInitialResponse.
fn initial(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(first.len()).expect("it is short");
    let body = [mechanism.as_bytes(), b"\0", &length.to_be_bytes(), first].concat();
    message(b'p', &body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_come_in_is_told_why() -> Result<()> {
    let locked = Locked::new()?;
    let mut other = locked.bystander()?;
    let mut of_passwords = Vec::new();
    for (words, code) in [
        ("user=alice password=guess", "28P01"),
        ("user=alice password=''", "28P01"),
        ("user=nobody password=secret", "28P01"),
        ("user=nobody password=secret dbname=nowhere", "28P01"),
        ("user=alice password=secret dbname=nowhere", "3D000"),
    ] {
        let refused = match connect(locked.proxy.port(), words).await {
            Ok(_) => anyhow::bail!("{words} is let in"),
            Err(error) => error.downcast::<tokio_postgres::Error>()?,
        };
        let told = refused
            .as_db_error()
            .map(|error| error.message().to_owned());
        ensure!(
            sqlstate::<()>(Err(refused)).as_deref() == Some(code),
            "{words}: {told:?}"
        );
        if code == "28P01" {
            of_passwords.push(told.context("it is told")?.replace("nobody", "alice"));
        }
        other.is_undisturbed()?;
    }
    // Nobody learns who exists.
    of_passwords.dedup();
    assert_eq!(
        of_passwords,
        ["password authentication failed for user \"alice\""]
    );
    Ok(())
}

#[test]
fn garbage_at_any_message_of_a_login_ends_it() -> Result<()> {
    let locked = Locked::new()?;
    let mut other = locked.bystander()?;
    let huge = message(b'p', &[b'x'; 20_000]);
    let anywhere: [(&str, &[u8]); 6] = [
        ("no message", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("a message that nobody has", &message(0xff, b"junk")),
        ("a query", &query("SELECT 1")),
        ("a length of nothing", b"p\0\0\0\0"),
        ("a length of everything", b"p\x7f\xff\xff\xff"),
        ("a password of 20,000 bytes", &huge),
    ];
    let first: [(&str, &[u8]); 6] = [
        (
            "a password instead of a mechanism",
            &message(b'p', b"secret\0"),
        ),
        (
            "a mechanism that was not offered",
            &initial("SCRAM-SHA-256-PLUS", FIRST),
        ),
        ("an unknown mechanism", &initial("OAUTHBEARER", FIRST)),
        (
            "a mechanism that does not end",
            &message(b'p', b"SCRAM-SHA-256"),
        ),
        ("nothing of SCRAM", &initial("SCRAM-SHA-256", b"\0\xff")),
        (
            "a nonce with a comma",
            &initial("SCRAM-SHA-256", b"n,,n=,r=,,"),
        ),
    ];
    let last: [(&str, &[u8]); 3] = [
        ("nothing of SCRAM", &message(b'p', b"\0\xff")),
        (
            "a nonce of its own",
            &message(b'p', b"c=biws,r=mine,p=AAAA"),
        ),
        ("the first message again", &message(b'p', FIRST)),
    ];
    let first = anywhere.iter().chain(&first).map(|input| (false, input));
    let last = anywhere.iter().chain(&last).map(|input| (true, input));
    for (is_last, (what, bytes)) in first.chain(last) {
        let what = || format!("{what}, is last: {is_last}");
        let mut stream = if is_last {
            locked.challenged()?
        } else {
            locked.asked()?
        };
        // It may be refused before all of it is sent.
        let _ = stream.write_all(bytes);
        let told = rest(stream).and_then(|answer| told(&answer));
        let told = told.with_context(what)?;
        ensure!(
            told.code == "08P01" || told.code == "28P01",
            "{}: {told:?}",
            what()
        );
        other.is_undisturbed().with_context(what)?;
    }
    Ok(())
}

#[test]
fn logins_that_stop_anywhere_hold_nobody_up() -> Result<()> {
    let locked = Locked::new()?;
    let mut other = locked.bystander()?;
    let answer = initial("SCRAM-SHA-256", FIRST);
    let mut unfinished = Vec::new();
    for end in [0, 1, 5, answer.len() - 1] {
        for _ in 0..10 {
            for mut stream in [locked.asked()?, locked.challenged()?] {
                stream.write_all(&answer[..end])?;
                unfinished.push(stream);
            }
        }
    }
    other.is_undisturbed()?;
    // Some close their half, some all of it.
    for (number, stream) in unfinished.iter().enumerate() {
        if number % 2 == 0 {
            stream.shutdown(Shutdown::Write)?;
        }
    }
    let (half, whole): (Vec<_>, Vec<_>) = unfinished
        .into_iter()
        .enumerate()
        .partition(|(number, _)| number % 2 == 0);
    drop(whole);
    for (_, stream) in half {
        rest(stream)?;
    }
    other.is_undisturbed()?;
    drop(other);
    wait::until("they are forgotten", SOON, || {
        let metrics = locked.proxy.metrics();
        metrics.is_ok_and(|text| text.contains("\nlb_db_proxy_clients 0\n"))
    })
}
