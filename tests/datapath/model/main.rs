//! The real program against the model of `tests/model`, packet by packet (root).
//!
//! `LB_FUZZ_PACKETS` says how many packets (10 million; with `LB_TEST_LONG` 1 billion),
//! `LB_FUZZ_SEED` repeats the one run that a failure told.

mod bench;
mod bpf;
mod fuzz;
mod kernel;
mod mirror;
mod real_agent;
mod workers;

use std::env;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use lb_model::rules::{Rule, Rules};

use crate::workers::Workers;

/// Packets of one run of the suite, and of the long one.
const PACKETS: u64 = 10_000_000;
const PACKETS_LONG: u64 = 1_000_000_000;
/// Packets within which the lack of any rule must show.
const PACKETS_TO_FIND: u64 = 2_000_000;

fn variable<T: FromStr>(name: &str) -> Result<Option<T>> {
    let Ok(text) = env::var(name) else {
        return Ok(None);
    };
    let number = text.parse().ok();
    Ok(Some(
        number.with_context(|| format!("{name}={text} is no number"))?,
    ))
}

#[test]
fn model_and_program_agree() -> Result<()> {
    let workers = Workers::new()?;
    if let Some(seed) = variable("LB_FUZZ_SEED")? {
        return workers.repeat(seed);
    }
    let by_default = if env::var_os("LB_TEST_LONG").is_some() {
        PACKETS_LONG
    } else {
        PACKETS
    };
    let packets = variable("LB_FUZZ_PACKETS")?.unwrap_or(by_default);
    workers
        .run(fastrand::u64(..), packets, Rules::ALL)
        .map(drop)
}

/// A fuzzer that does not see that a rule is missing does not test the rule.
#[test]
fn every_rule_that_the_model_lacks_is_noticed() -> Result<()> {
    let workers = Workers::new()?;
    let mut unnoticed = Vec::new();
    for rule in Rule::ALL {
        let (seed, began) = (fastrand::u64(..), std::time::Instant::now());
        if workers
            .run(seed, PACKETS_TO_FIND, Rules::without(*rule))
            .is_ok()
        {
            unnoticed.push(format!("{rule:?} (seed {seed})"));
        }
        eprintln!("{rule:?}: {:?}", began.elapsed());
    }
    if unnoticed.is_empty() {
        return Ok(());
    }
    bail!(
        "not noticed in {PACKETS_TO_FIND} packets: {}",
        unnoticed.join(", ")
    )
}
