//! A running proxy, with clients that send anything, and in front of a server that sends anything.
//! Another client works all the time, and the counts of the proxy return to what they were.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use lb_tests::db_proxy::DbProxy;
use lb_tests::fuzz::to_the_end;
use lb_tests::run_directory::RunDirectory;
use lb_tests::{scale, wait};
use lb_userspace::wire::postgres::write;

use super::{budget, dialect, shown};
use crate::setup::{SOON, Site};

const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
/// Inputs between two looks at the other client.
const BATCH: u64 = 20;
/// What a client sends at most takes the proxy this long to answer or to end, and much less.
const ANSWER_MAX: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(180);

/// Whole conversations after the login.
fn conversations() -> Vec<Vec<u8>> {
    let mut extended = Vec::new();
    write::parse(&mut extended, b"s1", b"SELECT $1::int\0\0\x01\0\0\0\x17");
    write::statement(&mut extended, b'D', b"s1");
    let bind = b"\0s1\0\0\0\0\x01\0\0\0\x017\0\0";
    write::message(&mut extended, b'B', |out| out.extend_from_slice(bind));
    write::message(&mut extended, b'E', |out| {
        out.extend_from_slice(b"\0\0\0\0\0");
    });
    write::statement(&mut extended, b'C', b"s1");
    extended.extend_from_slice(write::SYNC);
    let query = |sql: &[u8]| {
        let mut bytes = Vec::new();
        write::query(&mut bytes, sql);
        bytes
    };
    let copy = [
        query(b"COPY fuzzed FROM STDIN"),
        b"d\0\0\0\x061\nc\0\0\0\x04".to_vec(),
    ]
    .concat();
    let transaction = [query(b"BEGIN"), query(b"SELECT 1/0"), query(b"ROLLBACK")].concat();
    let settings = [
        query(b"SET work_mem = '5MB'"),
        query(b"SELECT 1; RESET ALL"),
    ]
    .concat();
    vec![query(b"SELECT 1"), extended, copy, transaction, settings]
}

#[test]
fn a_client_that_sends_anything_hurts_nobody_else() -> Result<()> {
    let site = Site::new("pool = { size = 2, queue_timeout = \"10s\" }")?;
    site.psql("CREATE TABLE fuzzed (a int)")?;
    let seed = scale::seed()?;
    let mut random = Rng::with_seed(seed);
    let seeds = conversations();
    let mut first = seeds.clone();
    first.push(STARTUP.to_vec());
    let (mut inputs, budget) = (0, budget(SHORT, LONG));
    while budget.is_left() {
        let is_logged_in = random.u8(0..4) > 0;
        let input =
            dialect::POSTGRES.mutated(&mut random, if is_logged_in { &seeds } else { &first });
        sends(&site, is_logged_in, &input)
            .with_context(|| format!("LB_TEST_SEED={seed}: {}", shown(&input)))?;
        inputs += 1;
        if inputs % BATCH == 0 {
            let answer = site
                .psql("SELECT 1")
                .with_context(|| format!("after {}", shown(&input)))?;
            ensure!(answer == "1", "another client got {answer:?}");
        }
    }
    wait::until("all of them to be forgotten", SOON, || {
        site.proxy
            .metrics()
            .is_ok_and(|text| text.contains("\nlb_db_proxy_clients 0\n"))
    })?;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
    wait::until("no transaction is left open", SOON, || {
        site.server.sql(open).is_ok_and(|count| count == "0")
    })?;
    println!("{inputs} inputs without a finding (LB_TEST_SEED={seed})");
    Ok(())
}

/// Sends one input, closes its half, and reads to the end, which must come.
fn sends(site: &Site, is_logged_in: bool, input: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", site.proxy.port()))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    if is_logged_in {
        stream.write_all(STARTUP)?;
    }
    // The proxy may be done with us before we are.
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    to_the_end(&mut stream)
}

/// What a server says, up to the end of a login and after a query.
fn server_messages() -> Vec<Vec<u8>> {
    let mut login = Vec::new();
    write::authentication(&mut login, 0, b"");
    write::parameter_status(&mut login, "server_version", "15.1");
    write::parameter_status(&mut login, "client_encoding", "UTF8");
    write::backend_key(&mut login, 7, b"four");
    write::ready(&mut login, b'I');
    let mut scram = Vec::new();
    write::authentication(&mut scram, 10, b"SCRAM-SHA-256\0\0");
    let mut answer = Vec::new();
    write::row_description(&mut answer, &["a"]);
    write::data_row(&mut answer, &["1".to_owned()]);
    write::command_complete(&mut answer, "SELECT 1");
    write::ready(&mut answer, b'I');
    let whole = [login.clone(), answer.clone()].concat();
    vec![login, scram, answer, whole]
}

#[test]
fn a_server_that_sends_anything_is_survived() -> Result<()> {
    let run = RunDirectory::new()?;
    let seed = scale::seed()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let head = format!(
        "server = \"127.0.0.1\"\nserver_port = {}\n",
        listener.local_addr()?.port()
    );
    let settings =
        "auth = \"trust\"\nadmins = [\"postgres\"]\npool = { size = 2, queue_timeout = \"300ms\" }";
    let proxy = DbProxy::start_before(&run, head, settings)?;
    let (is_over, connections) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let server = {
        let (is_over, connections) = (Arc::clone(&is_over), Arc::clone(&connections));
        thread::spawn(move || serve_anything(&listener, seed, &is_over, &connections))
    };
    let (mut inputs, budget) = (0, budget(SHORT, LONG));
    while budget.is_left() {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port()))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(STARTUP)?;
        let _ = stream.write_all(b"Q\0\0\0\x0dSELECT 1\0X\0\0\0\x04");
        to_the_end(&mut stream).with_context(|| format!("LB_TEST_SEED={seed}"))?;
        inputs += 1;
        if inputs % BATCH == 0 {
            let mut psql = proxy.client("psql")?;
            psql.args(["-XAtq", "-d", "lb", "-c", "SHOW VERSION"]);
            crate::setup::printed(&mut psql)
                .with_context(|| format!("the console, LB_TEST_SEED={seed}"))?;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    server.join().expect("it does not panic")?;
    let connections = connections.load(Ordering::Relaxed);
    ensure!(connections > 0, "the proxy never came");
    println!("{inputs} clients, {connections} connections to the server, without a finding");
    Ok(())
}

/// Answers every connection with something, and closes it soon.
fn serve_anything(
    listener: &TcpListener,
    seed: u64,
    is_over: &AtomicBool,
    connections: &AtomicU64,
) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    let seeds = server_messages();
    listener.set_nonblocking(true)?;
    while !is_over.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        connections.fetch_add(1, Ordering::Relaxed);
        let is_sound = random.bool();
        // Half of them log in first, and go wrong later.
        let _ = is_sound.then(|| stream.write_all(&seeds[0]));
        let _ = stream.write_all(&dialect::POSTGRES.mutated(&mut random, &seeds));
        if random.bool() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    Ok(())
}
