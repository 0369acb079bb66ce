//! A server of layer one is lost under load, with a copy, in `serve`: reads go on, writes wait for
//! the verdict and resume, nothing acknowledged is lost but what the copy had not yet.
//!
//! Times are printed, not asserted. Readers of their own ask one thing at a time: how long they wait
//! is the stall.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::distribution::Distribution;
use lb_tests::history::{Key, Operation, Outcome, Rules, What, Workload, check};
use lb_tests::scale::{is_long, seed};
use lb_tests::wait;

use crate::scene::{Fault, Return, SOON, Scene, of_server};

/// Load before the fault, and after the verdict.
const ACT: Duration = Duration::from_millis(1200);
/// Reads that begin so long after a fault are past it.
const FAULT_MAX: u64 = 2_000_000;
/// Within this, hits are as before.
const HITS_AFTER: u64 = 1_000_000;

fn rounds() -> usize {
    if is_long() { 30 } else { 1 }
}

/// When what happened, in microseconds of the history.
struct Times {
    fault: u64,
    verdict: u64,
}

/// What a round showed.
#[derive(Default)]
struct Shown {
    stalls: Vec<f64>,
    resumed: Vec<f64>,
    hits: Vec<f64>,
}

#[test]
fn reads_go_on_and_writes_resume_when_a_server_is_killed() -> Result<()> {
    rounds_of(Fault::Kill)
}

#[test]
fn reads_go_on_and_writes_resume_when_a_server_is_frozen() -> Result<()> {
    rounds_of(Fault::Freeze)
}

#[test]
fn reads_go_on_and_writes_resume_when_a_server_is_cut_off() -> Result<()> {
    rounds_of(Fault::CutOff)
}

fn rounds_of(fault: Fault) -> Result<()> {
    let mut scene =
        Scene::new("writes = \"async\"\nduring_failover = \"serve\"\nmax_failover_share = 1.0")?;
    let seed = seed()?;
    println!("{fault:?}, LB_TEST_SEED={seed}");
    let mut shown = Shown::default();
    for round in 0..rounds() {
        let number = round % 3;
        let seed = seed.wrapping_add(round as u64);
        let outcome = one_round(&mut scene, fault, number, seed, &mut shown);
        outcome.with_context(|| format!("round {round}\n{}", scene.logs()))?;
    }
    let ms = |values: Vec<f64>| Distribution::new(values, "ms");
    println!(
        "  reads of its keys, from just before the fault   {}",
        ms(shown.stalls)
    );
    println!(
        "  writes resumed after the verdict                {}",
        ms(shown.resumed)
    );
    println!(
        "  hits after 1 s, of before                       {:?}",
        shown.hits
    );
    Ok(())
}

fn one_round(
    scene: &mut Scene,
    fault: Fault,
    number: usize,
    seed: u64,
    shown: &mut Shown,
) -> Result<()> {
    let mut workload = Workload::new(scene.targets(), seed);
    workload.readers = 4;
    workload.clients += 4;
    workload.pause = Duration::from_millis(1);
    let running = workload.start()?;
    let owners = scene.owners()?;
    thread::sleep(ACT);
    let lag = lag_shown(scene)?;
    let at = running.now();
    let lost = scene.inject(number, fault)?;
    scene.wait_for_verdict(number, &lost)?;
    let verdict = running.now();
    let began = Instant::now();
    let done = running.done();
    wait::until("load after the verdict", SOON, || {
        began.elapsed() > ACT && running.done() > done + 1000
    })?;
    let operations = running.stop();
    scene.repair(&lost, fault, Return::Empty)?;
    scene.wait_until_follows(&lost)?;
    let times = Times { fault: at, verdict };
    judge(&operations, &owners, number, &times, lag, shown)
}

/// The most that any logic server shows of any copy's lag, in microseconds.
fn lag_shown(scene: &Scene) -> Result<u64> {
    let mut most = 0.0_f64;
    for logic in &scene.logics {
        for number in 1..=3 {
            let label = format!("server=\"cache-{number}\"");
            let lag = logic.metric("lb_logic_cache_lag_seconds", &label)?;
            most = most.max(lag.unwrap_or(0.0));
        }
    }
    Ok((most * 1e6) as u64)
}

fn judge(
    operations: &[Operation],
    owners: &HashMap<Key, usize>,
    number: usize,
    times: &Times,
    lag: u64,
    shown: &mut Shown,
) -> Result<()> {
    // What is asked between the fault and the verdict may be as old as the copy.
    let older = |key: Key, start: u64| {
        let is_concerned = owners.get(&key) == Some(&number) && start + lag + 1 > times.fault;
        if is_concerned && start < times.verdict + 1_000_000 {
            lag
        } else {
            0
        }
    };
    let lost = |key: Key, at: u64| {
        owners.get(&key) == Some(&number)
            && (times.fault.saturating_sub(lag)..times.verdict + 1_000_000).contains(&at)
    };
    let rules = Rules {
        lag: Some(&older),
        may_be_lost: Some(&lost),
        ..Rules::default()
    };
    let findings = check(operations, &rules);
    ensure!(
        findings.is_clean(),
        "lag shown {lag} us, fault at {}, verdict at {}: {findings:#?}",
        times.fault,
        times.verdict
    );
    let reads = of_server(operations, owners, number)
        .filter(|operation| {
            operation.end >= times.fault && operation.start <= times.fault + FAULT_MAX
        })
        .filter(|operation| matches!(operation.what, What::Read { .. }) && is_reader(operation));
    shown
        .stalls
        .extend(reads.map(|operation| (operation.end - operation.start) as f64 / 1e3));
    let resumed = of_server(operations, owners, number)
        .filter(|operation| {
            let acknowledged = Outcome::Acknowledged;
            operation.end >= times.verdict
                && matches!(operation.what, What::Wrote { outcome, .. } if outcome == acknowledged)
        })
        .map(|operation| operation.end)
        .min();
    let resumed = resumed.map(|end| (end - times.verdict) as f64 / 1e3);
    ensure!(
        resumed.is_some(),
        "no write was acknowledged after the verdict: {findings:#?}"
    );
    shown.resumed.extend(resumed);
    let ratio = |from: u64, to: u64| {
        let reads = operations
            .iter()
            .filter(|operation| (from..to).contains(&operation.start));
        let saw: Vec<bool> = reads
            .filter_map(|operation| match operation.what {
                What::Read { saw, .. } => Some(saw > 0),
                What::Failed { .. } => Some(false),
                _ => None,
            })
            .collect();
        saw.iter().filter(|hit| **hit).count() as f64 / saw.len().max(1) as f64
    };
    let before = ratio(0, times.fault);
    let after = ratio(times.fault + HITS_AFTER, u64::MAX);
    ensure!(
        after >= 0.95 * before,
        "hits: {before} before, {after} after"
    );
    shown.hits.push(after / before);
    Ok(())
}

/// The clients after the first eight only read.
fn is_reader(operation: &Operation) -> bool {
    (8..12).contains(&operation.client)
}
