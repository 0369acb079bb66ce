//! Everything that reads PostgreSQL's protocol, in this process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use lb_tests::scale;
use lb_userspace::wire::postgres::error::PgError;
use lb_userspace::wire::postgres::frontend::{self, Object};
use lb_userspace::wire::postgres::link::{FromLogic, FromProxy};
use lb_userspace::wire::postgres::scram::{Client, Secret, Server, Verifier};
use lb_userspace::wire::postgres::startup::{self, First};
use lb_userspace::wire::postgres::{frame, md5, sql, write};

use super::{budget, dialect, shown};

/// Inputs between two looks at the clock.
const BATCH: usize = 256;

/// One reader: valid bytes to begin with, and what must hold of any.
struct Reader {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    check: fn(&[u8]),
}

#[test]
fn codecs_hold_whatever_they_read() -> Result<()> {
    let seed = scale::seed()?;
    let mut random = Rng::with_seed(seed);
    let readers = readers();
    let mut inputs = 0u64;
    let budget = budget(Duration::from_secs(3), Duration::from_secs(600));
    while budget.is_left() {
        for _ in 0..BATCH {
            let reader = random.choice(&readers).expect("there are readers");
            let input = dialect::POSTGRES.mutated(&mut random, &reader.seeds);
            check(reader, &input, seed);
            inputs += 1;
        }
    }
    println!("{inputs} inputs without a finding (LB_TEST_SEED={seed})");
    Ok(())
}

#[test]
fn codecs_hold_for_what_is_valid() {
    for reader in readers() {
        for seed in &reader.seeds {
            check(&reader, seed, 0);
        }
    }
}

fn check(reader: &Reader, input: &[u8], seed: u64) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (reader.check)(input))) {
        eprintln!("{} (LB_TEST_SEED={seed}): {}", reader.name, shown(input));
        resume_unwind(panic);
    }
}

fn readers() -> Vec<Reader> {
    let texts = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect();
    let scram = scram_messages();
    vec![
        Reader {
            name: "frames",
            seeds: conversations(),
            check: frames,
        },
        Reader {
            name: "client messages",
            seeds: conversations(),
            check: client_messages,
        },
        Reader {
            name: "first packets",
            seeds: first_packets(),
            check: first_packet,
        },
        Reader {
            name: "errors",
            seeds: errors(),
            check: error,
        },
        Reader {
            name: "SQL",
            seeds: texts(&SQL),
            check: look_at_sql,
        },
        Reader {
            name: "SCRAM, to a server",
            seeds: scram.clone(),
            check: scram_server,
        },
        Reader {
            name: "SCRAM, to a client",
            seeds: scram,
            check: scram_client,
        },
        Reader {
            name: "verifiers",
            seeds: verifiers(),
            check: verifier,
        },
        Reader {
            name: "link messages",
            seeds: link_messages(),
            check: link,
        },
    ]
}

const SQL: [&[u8]; 14] = [
    b"SELECT 1",
    b"SET search_path TO a, \"b\"\"c\", 'd''e'",
    b"SET LOCAL work_mem = '6MB'; COMMIT",
    b"set session time zone interval '+1' hour to minute",
    b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    b"RESET ALL; RESET /* a /* nested */ one */ work_mem",
    b"-- a comment\nDEALLOCATE PREPARE \"a\"\"b\";",
    b"CREATE LOCAL TEMPORARY TABLE t AS SELECT pg_temp.f($1)",
    b"SELECT set_config('a', $tag$ $$ $tag$, true), pg_advisory_lock(7)",
    b"DECLARE c CURSOR WITH HOLD FOR SELECT U&'d\\0061t\\+000061'",
    b"SELECT E'\\'', B'01', X'ff', 1e10, $1::int, a.b->>'c'",
    b"COMMIT PREPARED 'x'",
    b"end work and chain",
    b"LISTEN \"news\"; UNLISTEN *; DISCARD ALL",
];

/// Client messages one after the other, each kind at least once.
fn conversations() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut add = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        fill(&mut bytes);
        all.push(bytes);
    };
    add(&|out| write::query(out, b"SELECT 1"));
    add(&|out| write::parse(out, b"s1", b"SELECT $1::int\0\0\x01\0\0\0\x17"));
    add(&|out| write::parse(out, b"", b"SELECT 1\0\0\0"));
    add(&|out| {
        write::message(out, b'B', |out| {
            out.extend_from_slice(b"p1\0s1\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\0");
        });
    });
    add(&|out| write::statement(out, b'D', b"s1"));
    add(&|out| write::statement(out, b'C', b"s1"));
    add(&|out| write::message(out, b'D', |out| out.extend_from_slice(b"Pp1\0")));
    add(&|out| write::message(out, b'E', |out| out.extend_from_slice(b"p1\0\0\0\0\0")));
    add(&|out| out.extend_from_slice(write::SYNC));
    add(&|out| write::password(out, b"secret\0"));
    add(&|out| write::sasl_initial(out, "SCRAM-SHA-256", b"n,,n=,r=abc"));
    let joined = all.concat();
    all.push(joined);
    all
}

fn first_packets() -> Vec<Vec<u8>> {
    let startup = startup::Startup {
        minor: 2,
        parameters: [
            ("user", "alice"),
            ("database", "orders"),
            ("_pq_.lb_link", "watch"),
            ("options", "-c a=b"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    };
    let mut packet = Vec::new();
    startup.write(&mut packet);
    let cancel = startup::cancel_request(7, b"0123456789abcdef");
    [packet, cancel, startup::tls_request().to_vec()]
        .map(|packet| packet[4..].to_vec())
        .to_vec()
}

fn errors() -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    PgError::fatal("57P01", "going down")
        .hint("come again")
        .write(&mut written);
    vec![
        written[5..].to_vec(),
        b"SERROR\0VERROR\0C42P01\0Mno such table\0P15\0Fparse_relation.c\0L1381\0RparserOpenTable\0\0".to_vec(),
    ]
}

fn scram_messages() -> Vec<Vec<u8>> {
    [
        "n,,n=,r=abcdef",
        "y,,n=alice,r=abcdef",
        "p=tls-server-end-point,,n=,r=abcdef",
        "c=biws,r=abcdefxyz,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "r=abcdefxyz,s=c2FsdA==,i=2",
        "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "e=invalid-proof",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn verifiers() -> Vec<Vec<u8>> {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let scram = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
    vec![
        scram.into_bytes(),
        md5::stored("alice", "secret").into_bytes(),
    ]
}

fn link_messages() -> Vec<Vec<u8>> {
    // Of every kind; a body that is too long is valid, so zeros make one of each.
    b"HBPFA"
        .iter()
        .map(|&kind| [&[kind][..], &[0; 200]].concat())
        .collect()
}

fn frames(bytes: &[u8]) {
    let mut at = 0;
    while let Ok(Some(header)) = frame::header(&bytes[at..]) {
        assert!(
            header.total >= frame::HEADER_BYTES && header.total <= frame::MESSAGE_BYTES_MAX + 1
        );
        assert_eq!(header.tag, bytes[at]);
        at = at.saturating_add(header.total);
        if at > bytes.len() {
            break;
        }
    }
    if let Some((text, rest)) = frame::text(bytes) {
        assert!(!text.contains(&0) && text.len() + 1 + rest.len() == bytes.len());
    }
}

fn client_messages(bytes: &[u8]) {
    let body = bytes.get(frame::HEADER_BYTES..).unwrap_or_default();
    if let Some(parse) = frontend::parse(body) {
        let mut written = Vec::new();
        write::parse(&mut written, parse.name, parse.definition);
        assert_eq!(
            frontend::parse(&written[frame::HEADER_BYTES..]),
            Some(parse)
        );
        assert_eq!(written[frame::HEADER_BYTES..], *body);
        assert!(parse.definition.starts_with(parse.query));
    }
    if let Some(bind) = frontend::bind(body) {
        assert_eq!(
            bind.names_bytes,
            bind.portal.len() + bind.statement.len() + 2
        );
        assert!(bind.names_bytes <= body.len());
    }
    if let Some(Object::Statement(name)) = frontend::object(body) {
        let mut written = Vec::new();
        write::statement(&mut written, b'D', name);
        assert_eq!(
            frontend::object(&written[frame::HEADER_BYTES..]),
            Some(Object::Statement(name))
        );
    }
}

fn first_packet(body: &[u8]) {
    match startup::first(body) {
        Ok(First::Startup(startup)) => {
            let mut written = Vec::new();
            startup.write(&mut written);
            assert_eq!(written[4..], *body);
            assert_eq!(startup::first(&written[4..]), Ok(First::Startup(startup)));
        }
        Ok(First::Cancel { process, secret }) => {
            assert_eq!(startup::cancel_request(process, &secret)[4..], *body);
        }
        Ok(First::Tls | First::Gss) => assert_eq!(body.len(), 4),
        Err(error) => drop(error.to_string()),
    }
    if let Some(length) = body.first_chunk()
        && let Ok(bytes) = startup::body_bytes(*length)
    {
        assert!((4..startup::STARTUP_BYTES_MAX).contains(&bytes));
    }
}

fn error(body: &[u8]) {
    let error = PgError::read(body);
    let mut written = Vec::new();
    error.write(&mut written);
    assert_eq!(
        frame::header(&written)
            .ok()
            .flatten()
            .map(|header| header.total),
        Some(written.len())
    );
    assert_eq!(PgError::read(&written[frame::HEADER_BYTES..]), error);
}

fn look_at_sql(text: &[u8]) {
    let (_, _) = (sql::trace(text), sql::set(text));
    let (_, _) = (sql::mentions_reset_all(text), sql::commits(text));
    if let Some(name) = sql::reset(text) {
        assert!(!name.is_empty());
    }
    if let Some(name) = sql::deallocated(text) {
        assert!(name.len() <= text.len());
    }
}

fn scram_server(message: &[u8]) {
    let verifier = || Verifier::new("secret", b"salt", 2);
    for (binding, could_bind) in [(None, false), (None, true), (Some(&b"hash"[..]), true)] {
        let first = Server::first(verifier(), message, binding, could_bind, "xyz");
        if let Ok((server, answer)) = first {
            assert!(answer.contains("xyz,s=c2FsdA==,i=2"));
            assert!(server.last(message).is_err(), "a first message is no proof");
        }
        let (server, _) =
            Server::first(verifier(), b"n,,n=,r=abcdef", None, false, "xyz").expect("it is valid");
        assert!(
            server.last(message).is_err(),
            "only who knows the password can prove it"
        );
    }
}

fn scram_client(message: &[u8]) {
    // Rounds are what takes time: millions of them are tested elsewhere.
    let many = |field: &[u8]| field.starts_with(b"i=") && field.len() > 5;
    if message.split(|byte| *byte == b',').any(many) {
        return;
    }
    let client = || Client::new(Secret::Password("secret".into()), "abcdef", None);
    if let Ok((last, expected)) = client().last(message) {
        assert!(last.starts_with("c=biws,r=abcdef"));
        assert!(
            expected.check(message).is_err(),
            "a first message proves nothing"
        );
    }
    let (_, expected) = client()
        .last(b"r=abcdefxyz,s=c2FsdA==,i=2")
        .expect("it is valid");
    assert!(
        expected.check(message).is_err(),
        "only who has the verifier can prove it"
    );
}

fn verifier(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    if let Some(verifier) = Verifier::parse(&text) {
        assert!(verifier.iterations > 0);
    }
    if md5::is_stored(&text) {
        assert!(md5::answer(&text, *b"salt").starts_with("md5"));
    }
}

fn link(body: &[u8]) {
    let body_of = |written: &[u8]| written[frame::HEADER_BYTES..].to_vec();
    if let Ok(message) = FromProxy::read(body) {
        let mut written = Vec::new();
        message.write(&mut written);
        assert_eq!(FromProxy::read(&body_of(&written)), Ok(message));
    }
    if let Ok(message) = FromLogic::read(body) {
        let mut written = Vec::new();
        message.write(&mut written);
        assert_eq!(FromLogic::read(&body_of(&written)), Ok(message));
    }
}
