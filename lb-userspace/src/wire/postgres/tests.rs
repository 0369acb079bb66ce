//! Facts about the protocol, and properties of whatever bytes may come.

use proptest::prelude::*;

use super::frame::{self, Header};
use super::scram::{self, Client, ScramError, Secret, Server, Verifier};
use super::sql::{self, Set, Trace};
use super::startup::{self, First, Startup, StartupError};
use super::{error::PgError, frontend, md5, write};

#[test]
fn a_header_is_read_when_it_is_there_and_not_before() {
    let mut query = Vec::new();
    write::query(&mut query, b"SELECT 1");
    for bytes in 0..frame::HEADER_BYTES {
        assert_eq!(frame::header(&query[..bytes]), Ok(None));
    }
    let total = query.len();
    assert_eq!(frame::header(&query), Ok(Some(Header { tag: b'Q', total })));
}

#[test]
fn impossible_lengths_are_refused() {
    for length in [0u32, 3, 0x4000_0000, u32::MAX] {
        let mut bytes = vec![b'Q'];
        bytes.extend_from_slice(&length.to_be_bytes());
        assert!(frame::header(&bytes).is_err(), "{length}");
    }
}

#[test]
fn first_packets_say_what_a_client_wants() {
    assert_eq!(startup::first(&startup::tls_request()[4..]), Ok(First::Tls));
    let cancel = startup::cancel_request(7, b"secret");
    let expected = First::Cancel {
        process: 7,
        secret: b"secret".to_vec(),
    };
    assert_eq!(startup::first(&cancel[4..]), Ok(expected));
    for (body, error) in [
        (&b"\0\x03\0\0user\0a\0"[..], StartupError::Layout),
        (b"\0\x03\0\0user\0a\0\0x", StartupError::Layout),
        (b"\0\x03\0\0user\0\xff\0\0", StartupError::Encoding),
        (b"\0\x02\0\0", StartupError::Version { version: 0x2_0000 }),
        (b"\0\x03", StartupError::Length),
    ] {
        assert_eq!(startup::first(body), Err(error));
    }
}

#[test]
fn names_are_found_in_extended_messages() {
    let definition = b"SELECT $1\0\0\x01\0\0\0\x17";
    let mut parse = Vec::new();
    write::parse(&mut parse, b"s1", definition);
    let read = frontend::parse(&parse[5..]).expect("it is one");
    assert_eq!((read.name, read.definition), (&b"s1"[..], &definition[..]));
    assert_eq!(read.query, b"SELECT $1");
    let bind = frontend::bind(b"p\0s1\0\0\0").expect("it is one");
    assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s1"[..]));
    assert_eq!(bind.names_bytes, 5);
    assert_eq!(frontend::bind(b"p\0s1"), None);
    assert_eq!(frontend::object(b"Xs1\0"), None);
}

#[test]
fn md5_answers_as_libpq_does() {
    // select 'md5' || md5('secret' || 'alice'), and the same again with the salt 01020304.
    let stored = md5::stored("alice", "secret");
    assert!(md5::is_stored(&stored));
    assert_eq!(stored.len(), 35);
    assert_ne!(
        md5::answer(&stored, [1, 2, 3, 4]),
        md5::answer(&stored, [4, 3, 2, 1])
    );
}

/// RFC 7677, section 3: the user is named there, which PostgreSQL leaves empty.
#[test]
fn scram_agrees_with_the_rfc() {
    let salt = [
        0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa,
        0x81,
    ];
    let verifier = Verifier::new("pencil", &salt, 4096);
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let (server, answer) =
        Server::first(verifier, first, None, false, nonce).expect("it is a first message");
    assert_eq!(
        answer,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (_, answer) = server.last(last).expect("the proof is right");
    assert_eq!(answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn the_key_of_one_login_opens_another_server_with_the_same_verifier() {
    let verifier = Verifier::new("secret", b"salt", 16);
    let password = Secret::Password("secret".to_owned());
    let key = exchange(password, &verifier, None).expect("the password is right");
    let secret = Secret::Key(key, verifier.clone());
    assert!(exchange(secret.clone(), &verifier, Some(b"certificate")).is_ok());
    let other = Verifier::new("secret", b"pepper", 16);
    assert_eq!(exchange(secret, &other, None), Err(ScramError::Verifier));
    let wrong = Secret::Password("guess".to_owned());
    assert_eq!(exchange(wrong, &verifier, None), Err(ScramError::Proof));
}

fn exchange(
    secret: Secret,
    verifier: &Verifier,
    binding: Option<&[u8]>,
) -> Result<scram::ClientKey, ScramError> {
    let client = Client::new(secret, "client", binding);
    let first = client.first();
    let (server, answer) = Server::first(
        verifier.clone(),
        first.as_bytes(),
        binding,
        binding.is_some(),
        "server",
    )?;
    let (last, expected) = client.last(answer.as_bytes())?;
    let (key, answer) = server.last(last.as_bytes())?;
    expected.check(answer.as_bytes())?;
    Ok(key)
}

#[test]
fn statements_that_leave_something_are_known() {
    for (sql, expected) in [
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
            Trace::Nothing,
        ),
        ("select pg_advisory_lock(1)", Trace::Pinned),
        ("select pg_try_advisory_lock(1)", Trace::Pinned),
        ("select pg_advisory_xact_lock(1)", Trace::Nothing),
        ("CREATE TEMP TABLE t (a int)", Trace::Pinned),
        ("create temporary view v as select 1", Trace::Pinned),
        ("SELECT 1 INTO TEMP t", Trace::Pinned),
        ("SELECT temperature, template FROM t", Trace::Nothing),
        ("CREATE TABLE pg_temp.t (a int)", Trace::Pinned),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Trace::Pinned),
        ("select set_config('a.b', 'c', false)", Trace::Pinned),
        ("select set_config('a.b', 'c', true)", Trace::Nothing),
        ("/* hint */ -- more\n SET x = 1", Trace::Setting),
        ("discard all", Trace::Setting),
        ("", Trace::Nothing),
    ] {
        assert_eq!(sql::trace(sql.as_bytes()), expected, "{sql}");
    }
}

#[test]
fn settings_are_known_by_their_names() {
    let session = |name: &str| Set::Session(name.to_owned());
    for (sql, expected) in [
        ("SET search_path TO a, b;", session("search_path")),
        ("set session DateStyle = 'ISO'", session("datestyle")),
        ("SET TIME ZONE 'UTC'", session("timezone")),
        ("SET NAMES 'utf8'", session("client_encoding")),
        ("SET my.own = 1", session("my.own")),
        ("SET \"DateStyle\" TO 'ISO';", session("datestyle")),
        ("SET SESSION \"my\".\"own\" TO 'x'", session("my.own")),
        ("SET \"x\" TO DEFAULT", Set::Default("x".to_owned())),
        ("SET \"x\"\"y\" TO 'x'", Set::Unknown),
        ("SET LOCAL x = 1", Set::Local),
        ("SET x TO DEFAULT;", Set::Default("x".to_owned())),
        ("set session x=default", Set::Default("x".to_owned())),
        ("SET x TO 'default'", session("x")),
        ("SET defaults = 1", session("defaults")),
        ("SET TIME ZONE LOCAL", Set::Default("timezone".to_owned())),
        ("SET NAMES", Set::Default("client_encoding".to_owned())),
        ("SET LOCAL x = DEFAULT", Set::LocalDefault("x".to_owned())),
        ("SET TRANSACTION READ ONLY", Set::Local),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            session("session characteristics"),
        ),
        ("SET SESSION AUTHORIZATION bob", Set::Unknown),
        ("SET a = 1; SET b = 2", Set::Unknown),
    ] {
        assert_eq!(sql::set(sql.as_bytes()), expected, "{sql}");
    }
}

#[test]
fn statements_that_may_reset_are_known() {
    for (sql, expected) in [
        ("RESET x", true),
        ("DISCARD ALL", true),
        ("SET x TO DEFAULT", true),
        ("SET LOCAL TIME ZONE LOCAL", true),
        ("SET x = 'RESET'", false),
        ("SET LOCAL x = 1", false),
    ] {
        assert_eq!(sql::may_reset(sql.as_bytes()), expected, "{sql}");
    }
}

#[test]
fn more_rounds_than_are_bearable_are_not_computed() {
    let password = || Secret::Password("secret".to_owned());
    let answer = |rounds: u32| format!("r=nonce1,s=c2FsdA==,i={rounds}");
    let last = |rounds| {
        let client = Client::new(password(), "nonce", None);
        client.last(answer(rounds).as_bytes()).map(drop)
    };
    let most = scram::ITERATIONS_MAX;
    assert_eq!(last(most), Ok(()));
    assert_eq!(last(most + 1), Err(ScramError::Iterations(most + 1)));
    assert_eq!(last(0), Err(ScramError::Malformed));
}

#[test]
fn deallocate_of_one_statement_is_recognised() {
    for (sql, name) in [
        ("DEALLOCATE s1", Some("s1")),
        (" deallocate prepare \"S 1\" ;", Some("S 1")),
        ("DEALLOCATE s1; SELECT 1", None),
        ("SELECT 1", None),
    ] {
        let expected = name.map(|name| name.as_bytes().to_vec());
        assert_eq!(sql::deallocated(sql.as_bytes()), expected, "{sql}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame::header(&bytes);
        let _ = frontend::parse(&bytes);
        let _ = frontend::bind(&bytes);
        let _ = frontend::object(&bytes);
        let _ = startup::first(&bytes);
        let _ = PgError::read(&bytes);
        let _ = sql::trace(&bytes);
        let _ = sql::set(&bytes);
        let _ = sql::reset(&bytes);
        let _ = sql::deallocated(&bytes);
        let verifier = Verifier::new("", b"", 1);
        if let Ok((server, _)) = Server::first(verifier, &bytes, None, false, "n") {
            let _ = server.last(&bytes);
        }
        let client = Client::new(Secret::Password(String::new()), "n", None);
        let _ = client.last(&bytes);
    }

    #[test]
    fn a_startup_packet_is_read_as_it_was_written(
        parameters in proptest::collection::vec(("[a-z_.]{1,20}", "[ -~]{0,40}"), 0..10),
    ) {
        let startup = Startup { minor: 0, parameters };
        let mut packet = Vec::new();
        startup.write(&mut packet);
        let length = packet[..4].try_into().expect("four bytes");
        prop_assert_eq!(startup::body_bytes(length).ok(), Some(packet.len() - 4).filter(|&n| n >= 4));
        prop_assert_eq!(startup::first(&packet[4..]), Ok(First::Startup(startup)));
    }

    #[test]
    fn an_error_is_read_as_it_was_written(message in "[ -~]{0,80}", hint in "[ -~]{1,80}") {
        let error = PgError::error("42601", message).hint(hint);
        let mut bytes = Vec::new();
        error.write(&mut bytes);
        prop_assert_eq!(PgError::read(&bytes[5..]), error);
    }

    #[test]
    fn a_scram_login_works_with_every_password(password in "[ -~]{0,30}", salt in any::<[u8; 16]>()) {
        let verifier = Verifier::new(&password, &salt, 2);
        prop_assert!(exchange(Secret::Password(password), &verifier, None).is_ok());
    }
}
