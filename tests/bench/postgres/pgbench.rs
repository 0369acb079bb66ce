//! Runs of pgbench, and what they tell.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::postgres::{Postgres, tool};
use lb_tests::run_directory::RunDirectory;

use super::apart::Apart;
use super::contestants::Contestant;

/// pgbench's scale: the tables stay in memory.
const SCALE: &str = "10";

/// What is run.
pub(super) struct Load<'l> {
    pub workload: &'l str,
    pub protocol: &'l str,
    pub clients: u32,
    pub seconds: u32,
    pub apart: Option<Apart>,
}

impl fmt::Display for Load<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.workload, self.protocol)?;
        match self.apart {
            Some(_) => f.write_str(" apart"),
            None => Ok(()),
        }
    }
}

/// What a run told.
pub(super) struct Outcome {
    tps: f64,
    /// Of the proxy, per transaction.
    cpu_us: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

type Value = fn(&Outcome) -> Option<f64>;

impl Outcome {
    /// Names, units and values.
    pub const KINDS: [(&'static str, &'static str, Value); 6] = [
        ("tps", "1/s", |outcome| Some(outcome.tps)),
        ("cpu", "us", |outcome| outcome.cpu_us),
        ("p50", "us", |outcome| Some(outcome.p50_us)),
        ("p99", "us", |outcome| Some(outcome.p99_us)),
        ("p99.9", "us", |outcome| Some(outcome.p999_us)),
        ("p99/p50", "", |outcome| {
            Some(outcome.p99_us / outcome.p50_us)
        }),
    ];
}

fn program(host: &str, port: u16, apart: Option<Apart>) -> Result<Command> {
    let mut command = tool("pgbench")?;
    if let Some(apart) = apart {
        command = apart.command(Path::new(command.get_program()));
    }
    command.envs([("PGHOST", host), ("PGPORT", &port.to_string())]);
    command.envs([
        ("PGUSER", "postgres"),
        ("PGDATABASE", "postgres"),
        ("PGSSLMODE", "disable"),
    ]);
    Ok(command)
}

/// Makes pgbench's tables.
pub(super) fn fill(server: &Postgres) -> Result<()> {
    let host = server.socket_directory().display().to_string();
    let output = program(&host, server.port(), None)?
        .args(["-i", "-q", "-s", SCALE])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Runs one load against one contestant. A pgbench that does not exit with 0 has failed, whatever
/// it printed: it goes on with the clients that are left.
pub(super) fn run(run: &RunDirectory, contestant: &Contestant, load: &Load<'_>) -> Result<Outcome> {
    let prefix = run.join("pgbench");
    let mut command = program(&contestant.host, contestant.port, load.apart)?;
    command.args(["-n", "-b", load.workload, "-M", load.protocol]);
    // pgbench prepares its statements while other clients of the same thread wait for it, with
    // transactions open: with fewer servers than clients all of them would wait for each other.
    let waits_for_itself = load.protocol == "prepared" && load.workload != "select-only";
    let threads = if waits_for_itself {
        load.clients
    } else {
        load.clients.min(2)
    };
    command.args(["-j", &threads.to_string()]);
    command.args([
        "-c",
        &load.clients.to_string(),
        "-T",
        &load.seconds.to_string(),
    ]);
    command
        .arg("--log")
        .arg(format!("--log-prefix={}", prefix.display()));
    let before = contestant.cpu_seconds();
    let output = command.output()?;
    let cpu = contestant
        .cpu_seconds()
        .zip(before)
        .map(|(after, before)| after - before);
    let logs = take_logs(run)?;
    let last = String::from_utf8_lossy(&output.stderr);
    let last = last.lines().last().unwrap_or_default();
    ensure!(
        output.status.success(),
        "pgbench ({}): {last}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps = tps.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let mut times: Vec<f64> = logs.lines().filter_map(latency_us).collect();
    ensure!(!times.is_empty(), "no transaction was done");
    times.sort_by(f64::total_cmp);
    let at = |thousandths: usize| times[(times.len() - 1) * thousandths / 1000];
    Ok(Outcome {
        tps: tps.context("pgbench says no tps")?,
        cpu_us: cpu.map(|seconds| seconds * 1e6 / times.len() as f64),
        p50_us: at(500),
        p99_us: at(990),
        p999_us: at(999),
    })
}

/// The third column of pgbench's log.
fn latency_us(line: &str) -> Option<f64> {
    line.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The logs of all of pgbench's threads, which go away.
fn take_logs(run: &RunDirectory) -> Result<String> {
    let mut logs = String::new();
    for entry in fs::read_dir(run.path())?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("pgbench.") {
            logs += &fs::read_to_string(entry.path())?;
            fs::remove_file(entry.path())?;
        }
    }
    Ok(logs)
}

/// Logs in so many clients, which then do nothing.
pub(super) fn idle(contestant: &Contestant, clients: u32) -> Result<Vec<TcpStream>> {
    const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let mut idle = Vec::new();
    for _ in 0..clients {
        let mut stream = TcpStream::connect((contestant.host.as_str(), contestant.port))?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
        stream.write_all(STARTUP)?;
        let mut answer = Vec::new();
        let mut some = [0; 1024];
        while !answer.ends_with(b"Z\0\0\0\x05I") {
            let count = stream.read(&mut some)?;
            ensure!(count > 0, "refused: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..count]);
        }
        idle.push(stream);
    }
    Ok(idle)
}
