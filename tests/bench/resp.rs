//! Measures the cache tier with redis-benchmark, beside no proxy, what Debian has, and any
//! `--target`: interleaved rounds on the same servers, operations per second, percentiles, the
//! proxy's CPU time per operation over its whole process tree, its memory per idle client, and an
//! `MGET` of many keys.

mod benchmark;
mod contestants;
mod mget;

use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use lb_tests::redis::Tier;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::benchmark::{Load, Outcome};
use self::contestants::Contestant;
use crate::report::Row;

/// Layer-one servers, each with a copy.
const SERVERS: usize = 4;

/// What to measure, and for how long.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds; in each, everything runs once, one after the other
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Operations of each kind and round, in thousands, without pipelining; four times as many with
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    thousands: u32,
    /// Numbers of commands that a client sends at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    pipelines: Vec<u32>,
    /// Also measure what listens at this address
    #[arg(long = "target", value_name = "NAME=HOST:PORT")]
    targets: Vec<String>,
    /// Only contestants with these names (lb is always one)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Idle clients whose memory is measured; 0 for none
    #[arg(long, default_value_t = 9_500)]
    idle: u32,
    /// Further lines of `[cache]` for lb
    #[arg(long, default_value = "")]
    cache: String,
}

/// Runs every load against every contestant.
pub fn measure(arguments: &Arguments) -> Result<Vec<Row>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let tier = Tier::builder().primaries(SERVERS).copies().build()?;
    let contestants = contestants::start(&tier, arguments)?;
    // Before any load, whose buffers idle clients would fill.
    let idle = match arguments.idle {
        0 => Vec::new(),
        clients => idle_rows(&contestants, clients)?,
    };
    let mut rows = Vec::new();
    for &pipeline in &arguments.pipelines {
        let times = if pipeline > 1 { 4 } else { 1 };
        let load = Load {
            pipeline,
            operations: arguments.thousands * 1000 * times,
        };
        rows.extend(load_rows(&contestants, &load, arguments.rounds)?);
    }
    rows.extend(mget::rows(&contestants, arguments.rounds)?);
    rows.extend(idle);
    Ok(rows)
}

/// One load: all contestants in turn, round after round.
fn load_rows(contestants: &[Contestant], load: &Load, rounds: u32) -> Result<Vec<Row>> {
    let mut outcomes: Vec<Vec<Outcome>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (contestant, outcomes) in contestants.iter().zip(&mut outcomes) {
            match benchmark::run(contestant, load) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => eprintln!("{}, round {round}: failed: {error:#}", contestant.name),
            }
        }
    }
    let mut rows = Vec::new();
    for (contestant, outcomes) in contestants.iter().zip(&outcomes) {
        let failed = rounds as usize - outcomes.len();
        rows.push(Row {
            target: contestant.name,
            name: "failed",
            load_kind: "pipeline",
            load: u64::from(load.pipeline),
            unit: "",
            min: failed as f64,
            median: failed as f64,
        });
        // A contestant that failed once has failed.
        if failed > 0 {
            continue;
        }
        for (name, unit, value) in Outcome::KINDS {
            let mut values: Vec<f64> = outcomes.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            let (Some(&median), Some(&least)) = (values.get(values.len() / 2), values.first())
            else {
                continue;
            };
            // The best is the most for a rate, the least for everything else.
            let most = values.last().copied().unwrap_or(median);
            rows.push(Row {
                target: contestant.name,
                name,
                load_kind: "pipeline",
                load: u64::from(load.pipeline),
                unit,
                min: if unit == "1/s" { most } else { least },
                median,
            });
        }
    }
    Ok(rows)
}

/// What one idle client costs each proxy.
fn idle_rows(contestants: &[Contestant], clients: u32) -> Result<Vec<Row>> {
    ensure!(
        clients <= 20_000,
        "at most 20,000 idle clients: ports of this host end"
    );
    let mut rows = Vec::new();
    for contestant in contestants {
        let Some(before) = contestant.memory_bytes() else {
            continue;
        };
        let idle = match connect(contestant, clients) {
            Ok(idle) => idle,
            Err(error) => {
                eprintln!("{}: {clients} idle clients: {error:#}", contestant.name);
                continue;
            }
        };
        let after = contestant.memory_bytes().context("the proxy ended")?;
        drop(idle);
        let kib = after.saturating_sub(before) as f64 / 1024.0 / f64::from(clients);
        rows.push(Row {
            target: contestant.name,
            name: "idle memory",
            load_kind: "clients",
            load: u64::from(clients),
            unit: "KiB",
            min: kib,
            median: kib,
        });
    }
    Ok(rows)
}

/// So many clients, each of which has asked once.
fn connect(contestant: &Contestant, clients: u32) -> Result<Vec<TcpStream>> {
    use std::io::{Read, Write};
    let mut idle = Vec::new();
    for _ in 0..clients {
        let mut stream = TcpStream::connect(contestant.address)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
        stream.write_all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")?;
        let mut answer = [0; 64];
        ensure!(stream.read(&mut answer)? > 0, "closed");
        idle.push(stream);
    }
    Ok(idle)
}
