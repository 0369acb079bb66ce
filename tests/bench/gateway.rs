//! Times the gateway's program with BPF_PROG_TEST_RUN, through the wrapper of lb-ebpf's
//! `bench.rs`, in turn with the floor, and takes off what the wrapper itself costs.

mod live;
mod packets;
mod setup;
mod wrapper;

use anyhow::{Result, ensure};

use self::packets::{RECORDED, STABLE, Template, UNSTABLE};
use self::setup::Contestants;
use self::wrapper::Wrapper;
use crate::report::Row;

/// Flows that take turns.
const FLOWS: [u32; 3] = [1, 100_000, 1_000_000];
/// Flows of a flood: four times the room that there is for flows of one packet.
const FLOOD: u32 = 1_000_000;

/// How long to measure, and what.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds; in each, everything is timed once, one after the other
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Packets per timing
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// Only rows whose name contains this
    #[arg(long, default_value = "", hide_default_value = true)]
    only: String,
    /// Send real frames through a veth instead, and report packets per second and core
    #[arg(long)]
    live: bool,
}

/// Times every packet with every number of flows.
pub fn measure(arguments: &Arguments) -> Result<Vec<Row>> {
    if arguments.live {
        return live::measure(arguments);
    }
    let mut contestants = Contestants::new()?;
    let mut wrapper = Wrapper::load()?;
    contestants.fill_floor(&mut wrapper)?;
    let mut rows = Vec::new();
    let mut add = |contestants: &mut Contestants, name, flows| -> Result<()> {
        let template = packets::template(name);
        rows.extend(row(contestants, &mut wrapper, &template, flows, arguments)?);
        Ok(())
    };
    let is_wanted = |name: &&str| name.contains(&arguments.only);
    for name in STABLE.into_iter().filter(is_wanted) {
        for flows in FLOWS {
            add(&mut contestants, name, flows)?;
        }
    }
    let unstable: Vec<&str> = UNSTABLE.into_iter().filter(is_wanted).collect();
    if !unstable.is_empty() {
        contestants.unsettle()?;
        record(&mut contestants)?;
    }
    for name in unstable {
        let flows = if name == "syn-flood" { FLOOD } else { RECORDED };
        add(&mut contestants, name, flows)?;
    }
    Ok(rows)
}

/// Records flows: of each, two packets from the middle.
fn record(contestants: &mut Contestants) -> Result<()> {
    let mut wrapper = Wrapper::load()?;
    let program = contestants.program()?;
    wrapper.time(
        &program,
        &packets::template("tcp4-recorded"),
        RECORDED,
        2 * RECORDED,
    )?;
    let recorded = contestants.recorded()?;
    ensure!(
        recorded == RECORDED as usize,
        "{recorded} flows are recorded"
    );
    Ok(())
}

/// One name and number of flows, for lb and the floor.
fn row(
    contestants: &mut Contestants,
    wrapper: &mut Wrapper,
    template: &Template,
    flows: u32,
    arguments: &Arguments,
) -> Result<[Row; 2]> {
    let lb = contestants.program()?;
    let floor = wrapper.program("lb_bench_floor")?;
    let nothing = wrapper.program("lb_bench_nothing")?;
    for (target, program) in [("lb", &lb), ("floor", &floor)] {
        let verdict = wrapper.verdict(program, template)?;
        ensure!(
            verdict == template.verdict,
            "{target} returns {verdict} for {}, not {}",
            template.name,
            template.verdict
        );
    }

    // A flow is new once.
    let is_new = template.name == "tcp4-new";
    let packets = if is_new { flows } else { arguments.packets };
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds {
        if is_new {
            contestants.forget_new()?;
        }
        for (program, times) in [&nothing, &lb, &floor].into_iter().zip(&mut times) {
            times.push(wrapper.time(program, template, flows, packets)?);
        }
    }
    let [of_wrapper, of_lb, of_floor] = times.map(Spread::of);
    let net = |target, gross: Spread| Row {
        target,
        name: template.name,
        load_kind: "flows",
        load: u64::from(flows),
        unit: "ns",
        min: gross.min - of_wrapper.min,
        median: gross.median - of_wrapper.median,
    };
    Ok([net("lb", of_lb), net("floor", of_floor)])
}

/// The best and the middle of several timings, in ns.
struct Spread {
    min: f64,
    median: f64,
}

impl Spread {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self {
            min: times[0],
            median: times[times.len() / 2],
        }
    }
}
