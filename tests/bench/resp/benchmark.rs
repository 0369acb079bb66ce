//! Runs of redis-benchmark, and what they tell.

use anyhow::{Context, Result, ensure};
use lb_tests::redis::client;

use super::contestants::Contestant;

/// Clients of redis-benchmark.
const CLIENTS: &str = "50";
/// Different keys.
const KEYS: &str = "100000";
/// Bytes of a value.
const BYTES: &str = "64";

/// What is run: this many `SET`, then this many `GET`.
pub(super) struct Load {
    pub pipeline: u32,
    pub operations: u32,
}

/// What a run told.
pub(super) struct Outcome {
    set: Kind,
    get: Kind,
    /// Of the proxy, per operation.
    cpu_us: Option<f64>,
}

struct Kind {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    worst_us: f64,
}

type Value = fn(&Outcome) -> Option<f64>;

impl Outcome {
    /// Names, units and values.
    pub const KINDS: [(&'static str, &'static str, Value); 9] = [
        ("set rate", "1/s", |outcome| Some(outcome.set.rate)),
        ("get rate", "1/s", |outcome| Some(outcome.get.rate)),
        ("cpu", "us", |outcome| outcome.cpu_us),
        ("set p50", "us", |outcome| Some(outcome.set.p50_us)),
        ("set p99", "us", |outcome| Some(outcome.set.p99_us)),
        ("set worst", "us", |outcome| Some(outcome.set.worst_us)),
        ("get p50", "us", |outcome| Some(outcome.get.p50_us)),
        ("get p99", "us", |outcome| Some(outcome.get.p99_us)),
        ("get worst", "us", |outcome| Some(outcome.get.worst_us)),
    ];
}

/// Runs one load against one contestant.
pub(super) fn run(contestant: &Contestant, load: &Load) -> Result<Outcome> {
    let mut command = client("redis-benchmark", contestant.address)?;
    command.args([
        "-t", "set,get", "-c", CLIENTS, "-r", KEYS, "-d", BYTES, "--csv",
    ]);
    let (operations, pipeline) = (load.operations.to_string(), load.pipeline.to_string());
    command.args(["-n", &operations, "-P", &pipeline]);
    let before = contestant.cpu_seconds();
    let output = command.output()?;
    let after = contestant.cpu_seconds();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !said.contains("Error"),
        "redis-benchmark ({}): {}",
        output.status,
        said.lines().last().unwrap_or_default()
    );
    let cpu = after.zip(before).map(|(after, before)| after - before);
    Ok(Outcome {
        set: kind(&text, "SET")?,
        get: kind(&text, "GET")?,
        cpu_us: cpu.map(|seconds| seconds * 1e6 / 2.0 / f64::from(load.operations)),
    })
}

/// A line of its CSV: test, rate, then milliseconds: average, least, median, 95 %, 99 %, most.
fn kind(text: &str, name: &str) -> Result<Kind> {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("\"{name}\"")));
    let line = line.with_context(|| format!("no line for {name}: {text}"))?;
    let fields = line
        .split(',')
        .skip(1)
        .map(|field| field.trim_matches('"').parse::<f64>());
    let fields: Vec<f64> = fields.collect::<Result<_, _>>()?;
    let [rate, _, _, p50, _, p99, worst] = fields[..] else {
        anyhow::bail!("{line}: another redis-benchmark");
    };
    Ok(Kind {
        rate,
        p50_us: p50 * 1e3,
        p99_us: p99 * 1e3,
        worst_us: worst * 1e3,
    })
}
