//! Random schedules of promotions, partitions, pauses, restarts and late news, over several daemons
//! that each have a [`View`](super::super::View), and servers with proxies that keep the link's rules.
//!
//! What must hold is checked against what the simulated servers really hold. Each rule that is left
//! out (see [`Lacking`]) must be noticed, or the simulation does not test it. `LB_TEST_LONG=1` runs
//! millions of schedules; `LB_TEST_SEED` repeats one.

mod daemon;
mod schedule;
mod server;
mod world;

use self::schedule::Schedule;
use self::world::{Lacking, World};

const SCHEDULES: u64 = 10_000;
const SCHEDULES_LONG: u64 = 2_000_000;
/// Within so many schedules the lack of any rule must show.
const SCHEDULES_TO_FIND: u64 = 50_000;

fn run(schedule: &Schedule, lacking: Option<Lacking>) -> Result<world::Seen, String> {
    World::new(schedule.seed, lacking).run(schedule)
}

/// Leaves out whatever is not needed for a schedule to fail.
fn shrink(mut schedule: Schedule, lacking: Option<Lacking>) -> (Schedule, String) {
    let mut failure = run(&schedule, lacking).err().unwrap_or_default();
    loop {
        let smaller = (0..schedule.steps.len()).find_map(|at| {
            let mut fewer = schedule.clone();
            fewer.steps.remove(at);
            let failure = run(&fewer, lacking).err()?;
            Some((fewer, failure))
        });
        match smaller {
            Some((fewer, why)) => (schedule, failure) = (fewer, why),
            None => return (schedule, failure),
        }
    }
}

#[test]
fn no_schedule_breaks_a_promise() {
    let seed = std::env::var("LB_TEST_SEED").ok();
    let is_long = std::env::var("LB_TEST_LONG").is_ok_and(|value| value == "1");
    let seeds = match seed.map(|seed| seed.parse::<u64>().expect("LB_TEST_SEED is a number")) {
        Some(seed) => seed..seed + 1,
        None => {
            let first = fastrand::u64(..1 << 48);
            first..first + if is_long { SCHEDULES_LONG } else { SCHEDULES }
        }
    };
    println!("seeds {seeds:?}");
    let mut seen = world::Seen::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match run(&Schedule::random(seed), None) {
            Ok(more) => seen += more,
            Err(_) => {
                let (schedule, why) = shrink(Schedule::random(seed), None);
                panic!("LB_TEST_SEED={seed}: {why}\n{schedule:#?}");
            }
        }
    }
    println!("{count} schedules: {seen:?}");
    // A schedule in which nothing happens breaks nothing.
    if count > 1000 {
        assert!(seen.writes_done > count, "{seen:?}");
        assert!(seen.reads_by_standbys > count, "{seen:?}");
        assert!(
            seen.promotions > count / 4 && seen.in_doubt > count / 50,
            "{seen:?}"
        );
    }
}

#[test]
fn every_rule_that_is_left_out_is_noticed() {
    let first = fastrand::u64(..1 << 48);
    let mut unnoticed = Vec::new();
    for lacking in Lacking::ALL {
        let found = (first..first + SCHEDULES_TO_FIND)
            .find(|seed| run(&Schedule::random(*seed), Some(*lacking)).is_err());
        match found {
            Some(seed) => println!("{lacking:?}: after {} schedules", seed - first + 1),
            None => unnoticed.push(*lacking),
        }
    }
    assert!(
        unnoticed.is_empty(),
        "nobody notices from seed {first} on: {unnoticed:?}"
    );
}
