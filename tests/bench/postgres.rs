//! Measures the database proxy with pgbench, beside no proxy, what Debian has, and any `--target`:
//! interleaved rounds on one server, transactions per second, percentiles, the proxy's CPU time
//! per transaction over its whole process tree, and its memory per idle client.

mod contestants;
mod pgbench;
pub(crate) mod process_tree;

use anyhow::{Context, Result, ensure};
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::contestants::Contestant;
use self::pgbench::{Load, Outcome};
use crate::report::Row;

/// Server connections that a proxy may make.
const POOL: u32 = 10;

/// What to measure, and for how long.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds; in each, everything runs once, one after the other
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each run of pgbench
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50, 500])]
    clients: Vec<u32>,
    /// pgbench's protocols
    #[arg(long, value_delimiter = ',', default_values_t = ["simple", "extended", "prepared"].map(str::to_owned))]
    protocols: Vec<String>,
    /// pgbench's workloads
    #[arg(long, value_delimiter = ',', default_values_t = ["select-only", "tpcb-like"].map(str::to_owned))]
    workloads: Vec<String>,
    /// Also measure what listens at this address, for user and database postgres
    #[arg(long = "target", value_name = "NAME=HOST:PORT")]
    targets: Vec<String>,
    /// Only contestants with these names (lb is always one)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Idle clients whose memory is measured; 0 for none
    #[arg(long, default_value_t = 10_000)]
    idle: u32,
    /// Clients of the run that shows how evenly they are served (p99/p50); 0 for none
    #[arg(long, default_value_t = 1000)]
    crowd: u32,
    /// What fits into five minutes: fewer and shorter rounds, and fewer loads
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    fn rounds(&self) -> u32 {
        if self.quick {
            self.rounds.min(QUICK_ROUNDS)
        } else {
            self.rounds
        }
    }

    /// Everything that is run, in its order.
    fn loads(&self) -> Vec<Load<'_>> {
        let seconds = if self.quick {
            self.seconds.min(QUICK_SECONDS)
        } else {
            self.seconds
        };
        let load = |workload, protocol, clients| Load {
            workload,
            protocol,
            clients,
            seconds,
        };
        let mut loads = Vec::new();
        for workload in &self.workloads {
            for protocol in &self.protocols {
                for &clients in &self.clients {
                    let is_quick = match workload.as_str() {
                        "select-only" => QUICK_CLIENTS.contains(&clients),
                        _ => clients == QUICK_CLIENTS[1] && protocol == "simple",
                    };
                    if is_quick || !self.quick {
                        loads.push(load(workload.as_str(), protocol.as_str(), clients));
                    }
                }
            }
        }
        if self.crowd > 0 {
            loads.push(load("select-only", "simple", self.crowd));
        }
        loads
    }
}

/// Rounds, seconds and clients of `--quick`.
const QUICK_ROUNDS: u32 = 3;
const QUICK_SECONDS: u32 = 2;
const QUICK_CLIENTS: [u32; 2] = [10, 50];
/// More connections than this the server does not take.
const DIRECT_CLIENTS_MAX: u32 = 600;

/// Runs every load against every contestant.
pub fn measure(arguments: &Arguments) -> Result<Vec<Row>> {
    // Each idle client is a descriptor here, and one in the proxy.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(
        &run,
        "bench",
        "max_connections = 700\nshared_buffers = 256MB",
    )?;
    pgbench::fill(&server)?;
    let contestants = contestants::start(&run, &server, arguments)?;
    let mut rows = Vec::new();
    for load in arguments.loads() {
        rows.extend(load_rows(&run, &contestants, &load, arguments.rounds())?);
    }
    if arguments.idle > 0 {
        rows.extend(idle_rows(&contestants, arguments.idle)?);
    }
    Ok(rows)
}

/// One load: all contestants in turn, round after round.
fn load_rows(
    run: &RunDirectory,
    contestants: &[Contestant],
    load: &Load<'_>,
    rounds: u32,
) -> Result<Vec<Row>> {
    let mut outcomes: Vec<Vec<Outcome>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        // Nobody always comes after the same one.
        for turn in 0..contestants.len() {
            let number = (turn + round as usize) % contestants.len();
            let (contestant, outcomes) = (&contestants[number], &mut outcomes[number]);
            if !contestant.is_pooling && load.clients > DIRECT_CLIENTS_MAX {
                continue;
            }
            match pgbench::run(run, contestant, load) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => eprintln!(
                    "{} {load}, round {round}: failed: {error:#}",
                    contestant.name
                ),
            }
        }
    }
    let mut rows = Vec::new();
    for (contestant, outcomes) in contestants.iter().zip(&outcomes) {
        // A contestant that failed once has failed: what it printed counts for nothing.
        if outcomes.len() < rounds as usize {
            continue;
        }
        for (kind, unit, value) in Outcome::KINDS {
            let mut values: Vec<_> = outcomes.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            let Some(&median) = values.get(values.len() / 2) else {
                continue;
            };
            // The best is the most for a rate, the least for everything else.
            let best = if kind == "tps" {
                values.last()
            } else {
                values.first()
            };
            rows.push(Row {
                target: contestant.name,
                name: format!("{} {} {kind}", load.workload, load.protocol).leak(),
                load_kind: "clients",
                load: u64::from(load.clients),
                unit,
                min: best.copied().unwrap_or(median),
                median,
            });
        }
    }
    Ok(rows)
}

/// What one idle client costs each proxy.
fn idle_rows(contestants: &[Contestant], clients: u32) -> Result<Vec<Row>> {
    ensure!(
        clients <= 10_000,
        "at most 10,000 idle clients: ports of this host end"
    );
    let mut rows = Vec::new();
    for contestant in contestants {
        // Without a pool an idle client holds a connection of the server.
        let clients = if contestant.is_pooling {
            clients
        } else {
            clients.min(300)
        };
        let Some(before) = contestant.memory_bytes() else {
            continue;
        };
        let idle = match pgbench::idle(contestant, clients) {
            Ok(idle) => idle,
            Err(error) => {
                eprintln!(
                    "{}: {clients} idle clients: failed: {error:#}",
                    contestant.name
                );
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
