//! Measures the database proxy with pgbench, beside no proxy, what Debian has, and any `--target`:
//! interleaved rounds on one server, transactions per second, percentiles, the proxy's CPU time
//! per transaction over its whole process tree, and its memory per idle client.

mod apart;
mod contestants;
mod pgbench;
pub(crate) mod process_tree;

use anyhow::{Context, Result, ensure};
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::apart::Apart;
use self::contestants::Contestant;
use self::pgbench::{Load, Outcome};
use crate::report::{FAILED, Row};

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
    /// pgbench gets the first processor to itself, PostgreSQL and the proxies get the others (a --target
    /// stays where it is): for p99/p50, which is the kernel's otherwise
    #[arg(long)]
    apart: bool,
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
    fn loads(&self, apart: Option<Apart>) -> Vec<Load<'_>> {
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
            apart,
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
    // Before anything is started: whatever is, inherits it.
    let apart = arguments.apart.then(Apart::new).transpose()?;
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(
        &run,
        "bench",
        "max_connections = 700\nshared_buffers = 256MB",
    )?;
    pgbench::fill(&server)?;
    let contestants = contestants::start(&run, &server, arguments)?;
    let mut rows = Vec::new();
    for load in arguments.loads(apart) {
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
    let mut results: Vec<Results> = contestants.iter().map(|_| Results::default()).collect();
    for round in 0..rounds {
        // Nobody always comes after the same one.
        for turn in 0..contestants.len() {
            let number = (turn + round as usize) % contestants.len();
            let (contestant, results) = (&contestants[number], &mut results[number]);
            if !contestant.is_pooling && load.clients > DIRECT_CLIENTS_MAX {
                continue;
            }
            match pgbench::run(run, contestant, load) {
                Ok(outcome) => results.outcomes.push(outcome),
                Err(error) => {
                    results.failed += 1;
                    eprintln!(
                        "{} {load} {} clients, round {round}: failed: {error:#}",
                        contestant.name, load.clients
                    );
                }
            }
        }
    }
    let results = contestants.iter().zip(&results);
    Ok(results
        .flat_map(|(contestant, results)| results.rows(contestant, load))
        .collect())
}

/// What one contestant did under one load.
#[derive(Default)]
struct Results {
    outcomes: Vec<Outcome>,
    /// Rounds in which pgbench failed.
    failed: u32,
}

impl Results {
    fn rows(&self, contestant: &Contestant, load: &Load<'_>) -> Vec<Row> {
        let row = |kind: &str, unit, best, median| Row {
            target: contestant.name,
            name: format!("{load} {kind}").leak(),
            load_kind: "clients",
            load: u64::from(load.clients),
            unit,
            min: best,
            median,
        };
        if self.failed > 0 {
            // Who failed once has failed: what the other rounds printed counts for nothing.
            let failed = f64::from(self.failed);
            return vec![row(FAILED, "", failed, failed)];
        }
        let mut rows = Vec::new();
        for (kind, unit, value) in Outcome::KINDS {
            let mut values: Vec<_> = self.outcomes.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            // The best is the most for a rate, the least for everything else.
            let best = if kind == "tps" {
                values.last()
            } else {
                values.first()
            };
            if let (Some(&best), Some(&median)) = (best, values.get(values.len() / 2)) {
                rows.push(row(kind, unit, best, median));
            }
        }
        if !rows.is_empty() {
            rows.push(row(FAILED, "", 0.0, 0.0));
        }
        rows
    }
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
