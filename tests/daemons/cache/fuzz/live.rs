//! A running `lb logic`, with clients that send anything, and before a server that answers anything.
//! Another client works all the time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use lb_tests::fuzz::to_the_end;
use lb_tests::logic::Logic;
use lb_tests::redis::{Connection, Place, Redis, Reply, Tier};
use lb_tests::{scale, wait};

use super::codecs::{answers_of_servers, commands_of_clients};
use super::{dialect, shown, until};
use crate::SOON;

/// Inputs between two looks at the other client.
const BATCH: u64 = 20;
const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(180);
/// What is kept of a server's answers at a time; each such piece may be changed.
const PIECE_BYTES: usize = 16 << 10;

#[test]
fn a_client_that_sends_anything_hurts_nobody_else() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let logic = tier.start_logic("logic-1", "")?;
    let mut other = logic.connect()?;
    let seed = scale::seed()?;
    let mut random = Rng::with_seed(seed);
    let seeds = commands_of_clients();
    let (mut inputs, end) = (0, until(SHORT, LONG));
    while Instant::now() < end {
        let input = dialect::RESP.mutated(&mut random, &seeds);
        let said = || format!("LB_TEST_SEED={seed}: {}", shown(&input));
        let mut stream = TcpStream::connect(logic.resp())?;
        stream.set_read_timeout(Some(SOON))?;
        // It may be done with us before we are.
        let _ = stream.write_all(&input);
        let _ = stream.shutdown(Shutdown::Write);
        to_the_end(&mut stream).with_context(said)?;
        inputs += 1;
        if inputs % BATCH == 0 {
            works(&mut other, "").with_context(said)?;
        }
    }
    wait::until("all of them to be forgotten", SOON, || {
        let clients = logic.metric("lb_logic_clients", "tier=\"resp\"");
        clients.is_ok_and(|clients| clients == Some(1.0))
    })?;
    println!("{inputs} inputs without a finding (LB_TEST_SEED={seed})");
    Ok(())
}

/// Writes and reads a key of each server; `tag` tells which server's.
fn works(client: &mut Connection, tag: &str) -> Result<()> {
    for number in 0..4 {
        let (key, value) = (format!("{tag}other:{number}"), format!("v{number}"));
        let reply = client.command(&["SET", &key, &value])?;
        ensure!(reply == Reply::Simple("OK".into()), "{key}: {reply:?}");
        let reply = client.command(&["GET", &key])?;
        ensure!(reply.text() == value, "{key}: {reply:?}");
    }
    Ok(())
}

#[test]
fn a_server_that_answers_anything_hurts_nobody_elses_keys() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let seed = scale::seed()?;
    let liar = Liar::before(&tier.primaries[0], seed)?;
    let config = tier.config("failover_timeout = \"200ms\"").replace(
        &tier.primaries[0].address().to_string(),
        &liar.address.to_string(),
    );
    let logic = Logic::start(tier.run(), &Place::here(), "logic-1", &config)?;
    let mut other = logic.connect()?;
    let sound = tag_of(&tier.primaries[1], &mut other)?;
    liar.is_lying.store(true, Ordering::Relaxed);
    let mut client = logic.connect()?;
    let (mut inputs, end) = (0_u64, until(SHORT, LONG));
    while Instant::now() < end {
        for number in 0..BATCH {
            client.queue(&["GET", &format!("key:{number}")]);
        }
        client.flush()?;
        for _ in 0..BATCH {
            // What a server answers is what its client is answered, as long as it ends like an answer;
            // ours reads no more of it than it needs.
            let Err(error) = client.answer() else {
                continue;
            };
            ensure!(!is_silence(&error), "LB_TEST_SEED={seed}: no answer at all");
            client = logic.connect()?;
            break;
        }
        inputs += BATCH;
        works(&mut other, &sound).with_context(|| format!("LB_TEST_SEED={seed}"))?;
    }
    let lies = liar.lies.load(Ordering::Relaxed);
    ensure!(lies > 0, "nothing was changed");
    liar.is_lying.store(false, Ordering::Relaxed);
    wait::until("the server to be used again", SOON, || {
        (0..8).all(|number| {
            let reply = other.command(&["SET", &format!("again:{number}"), "1"]);
            reply.is_ok_and(|reply| !reply.is_error())
        })
    })?;
    println!("{inputs} commands, {lies} lies, without a finding (LB_TEST_SEED={seed})");
    Ok(())
}

/// Whether nothing came, not even an end.
fn is_silence(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// A `{tag}` whose keys are a server's.
fn tag_of(server: &Redis, client: &mut Connection) -> Result<String> {
    let tags = (0..100).map(|number| format!("{{{number}}}"));
    for tag in tags {
        client.command(&["SET", &tag, "1"])?;
        if server.command(&["EXISTS", &tag])? == Reply::Integer(1) {
            return Ok(tag);
        }
    }
    anyhow::bail!("no key is that server's")
}

/// Stands before a server, and changes what it answers.
struct Liar {
    address: SocketAddr,
    is_lying: Arc<AtomicBool>,
    lies: Arc<AtomicU64>,
}

impl Liar {
    fn before(server: &Redis, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, behind) = (listener.local_addr()?, server.address());
        let (is_lying, lies) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (is, count) = (Arc::clone(&is_lying), Arc::clone(&lies));
        // Ends with the test's process: nobody is left who connects.
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let Ok(server) = TcpStream::connect(behind) else {
                    continue;
                };
                let random = Rng::with_seed(seed ^ number as u64);
                stand_between(client, server, random, Arc::clone(&is), Arc::clone(&count));
            }
        });
        Ok(Self {
            address,
            is_lying,
            lies,
        })
    }
}

fn stand_between(
    client: TcpStream,
    server: TcpStream,
    mut random: Rng,
    is_lying: Arc<AtomicBool>,
    lies: Arc<AtomicU64>,
) {
    let (Ok(mut asked), Ok(mut asks)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        let _ = std::io::copy(&mut asked, &mut asks);
        let _ = asks.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let seeds = answers_of_servers();
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = server.read(&mut piece) {
            let truth = piece[..count].to_vec();
            let said = if is_lying.load(Ordering::Relaxed) && random.u8(0..4) == 0 {
                lies.fetch_add(1, Ordering::Relaxed);
                let mut all = vec![truth];
                all.extend_from_slice(&seeds);
                dialect::RESP.mutated(&mut random, &all)
            } else {
                truth
            };
            if client.write_all(&said).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}
