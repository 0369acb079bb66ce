//! Histories of clients on two logic servers through every kind of failure and return, in both modes:
//! the one that never answers old, and the one that always answers.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use lb_tests::history::{Findings, Key, Operation, Rules, Running, Workload, check};
use lb_tests::redis::Reply;
use lb_tests::scale::{is_long, seed};
use lb_tests::wait;

use crate::lag::Lags;
use crate::scene::{Fault, Return, SOON, Scene};

/// Operations, at least, and rounds, at least: with `--long` each kind of fault with each kind of
/// return.
fn extent() -> (usize, usize) {
    if is_long() {
        (10_000_000, 24)
    } else {
        (2_000, 2)
    }
}

/// Load before a fault, and between the verdict and the return.
fn act() -> Duration {
    Duration::from_millis(if is_long() { 8_000 } else { 500 })
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::CutOffFromSentinels,
    Fault::Freeze,
    Fault::CutOffFromOne,
    Fault::CutOff,
    Fault::Flap,
];

/// Operations that show that all is well again.
const AFTER: u64 = 500;
/// Until logic servers have heard of a verdict, in microseconds.
const SEEN: u64 = 1_000_000;

/// What a mode promises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `sync` and `strict`: no read is stale, no acknowledged write is lost.
    Strict,
    /// `async` and `serve`: no read is older than the lag shown, nothing is reordered.
    Serve,
}

#[test]
fn synchronous_and_strict_is_never_stale_and_loses_nothing() -> Result<()> {
    rounds(
        Mode::Strict,
        "writes = \"sync\"\nduring_failover = \"strict\"\nmax_failover_share = 1.0",
    )
}

#[test]
fn asynchronous_and_serving_is_never_older_than_shown_and_keeps_the_order() -> Result<()> {
    rounds(
        Mode::Serve,
        "writes = \"async\"\nduring_failover = \"serve\"\nmax_failover_share = 1.0",
    )
}

fn rounds(mode: Mode, settings: &str) -> Result<()> {
    let mut scene = Scene::new(settings)?;
    let seed = seed()?;
    println!("LB_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut all = Findings::default();
    let (operations, rounds) = extent();
    let first = rng.usize(0..FAULTS.len());
    let mut round = 0;
    while all.operations < operations || round < rounds {
        let fault = FAULTS[(first + round) % FAULTS.len()];
        let returns = if rng.bool() {
            Return::Empty
        } else {
            Return::OldData
        };
        let outcome = one_round(&mut scene, mode, fault, returns, round, rng.u64(..));
        let findings = outcome
            .with_context(|| format!("round {round}, {fault:?}, {returns:?}\n{}", scene.logs()))?;
        println!(
            "  round {round} {fault:?} {returns:?}: {} operations, {} unknown, {} refused, {} failed, {} late",
            findings.operations, findings.unknown, findings.refused, findings.failed, findings.late
        );
        ensure!(
            findings.is_clean(),
            "{fault:?}, {returns:?}: {findings:#?}\n{}",
            scene.logs()
        );
        all.add(findings);
        round += 1;
    }
    println!("{} operations, {} reads: clean", all.operations, all.reads);
    Ok(())
}

fn one_round(
    scene: &mut Scene,
    mode: Mode,
    fault: Fault,
    returns: Return,
    round: usize,
    seed: u64,
) -> Result<Findings> {
    let number = round % 3;
    // Each round begins with keys that nobody wrote; lb's own are in another database.
    for number in 0..3 {
        wait::until("its keys to be gone, also from its copy", SOON, || {
            flush(scene, number).unwrap_or(false)
        })?;
    }
    let mut workload = Workload::new(scene.targets(), seed);
    if is_long() {
        workload.batch = 32;
        workload.clients = 16;
    }
    let running = workload.start()?;
    let lags = Lags::watch(&scene.logics, running.began());
    let times = act_out(scene, &running, fault, returns, number)?;
    let lags = lags.stop();
    let owners = scene.owners()?;
    let target = &scene.targets()[1];
    let operations = running.stop_and_settle(target)?;
    Ok(match mode {
        Mode::Strict => {
            let rules = Rules {
                may_fail: true,
                ..Rules::default()
            };
            check(&operations, &rules)
        }
        Mode::Serve => {
            let lost = times.filter(|_| fault != Fault::CutOffFromOne);
            check_serving(&operations, &lags, &owners, number, lost)
        }
    })
}

/// Empties a server and its copy; whether both certainly are empty: on a busy machine Sentinel may promote
/// a copy for no reason of ours.
fn flush(scene: &Scene, number: usize) -> Result<bool> {
    let server = scene.current(number)?;
    let mut connection = server.connect()?;
    connection.command(&["FLUSHDB"])?;
    let copies = connection.command(&["WAIT", "1", "5000"])?;
    let is_current = scene.current(number)?.name() == server.name();
    Ok(is_current && copies == Reply::Integer(1))
}

/// When something happened, and when it was over, in microseconds of the history.
type Span = std::ops::Range<u64>;

/// A server is lost and comes back, under load; when its keys had nobody who was certainly theirs.
fn act_out(
    scene: &mut Scene,
    running: &Running,
    fault: Fault,
    returns: Return,
    number: usize,
) -> Result<Option<Span>> {
    thread::sleep(act());
    if fault == Fault::Kill && returns == Return::OldData {
        scene.current(number)?.command(&["SAVE"])?;
        thread::sleep(Duration::from_millis(200));
    }
    let began = running.now();
    let lost = scene.inject(number, fault)?;
    if fault == Fault::CutOffFromOne {
        // Nobody else sees anything: no verdict comes.
        thread::sleep(Duration::from_millis(1500));
    } else {
        scene.wait_for_verdict(number, &lost)?;
    }
    let end = running.now();
    thread::sleep(act());
    scene.repair(&lost, fault, returns)?;
    let done = running.done();
    wait::until("load after the return", SOON, || {
        running.done() > done + AFTER
    })?;
    if fault != Fault::CutOffFromOne {
        scene.wait_until_follows(&lost)?;
    }
    Ok(Some(began..end + SEEN))
}

/// `async` and `serve`: what a promotion may lose is what the copy did not have yet.
fn check_serving(
    operations: &[Operation],
    lags: &Lags,
    owners: &HashMap<Key, usize>,
    number: usize,
    span: Option<Span>,
) -> Findings {
    let older = |key: Key, start: u64| lags.shown(owners.get(&key).copied(), start);
    let lost = |key: Key, at: u64| {
        let is_concerned = owners.get(&key).is_none_or(|owner| *owner == number);
        let span = span.as_ref().filter(|_| is_concerned);
        span.is_some_and(|span| {
            let lag = lags.shown(Some(number), span.start);
            (span.start.saturating_sub(lag)..span.end).contains(&at)
        })
    };
    let rules = Rules {
        lag: Some(&older),
        may_be_lost: Some(&lost),
        may_fail: true,
        ..Rules::default()
    };
    check(operations, &rules)
}
