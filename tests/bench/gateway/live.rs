//! Real frames: sent out of a veth by the kernel's own packet generator (BPF_PROG_TEST_RUN with live
//! frames), received at the other end by the attached program, sent back, and counted.
//!
//! ```text
//!   sender ns                          gateway ns
//!   lb_bench_send ──redirect──► veth ──────► veth: the program under test
//!   lb_bench_count ◄──────────  veth ◄──XDP_TX──┘
//! ```
//!
//! Sending, forwarding and counting share one core, as one thread sends and its soft interrupts run
//! where it does: what a core can forward alone is more than is reported. The floor says how much of
//! it is the harness's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use lb_tests::link::{End, connect};
use lb_tests::namespace::Namespace;
use nix::net::if_::if_nametoindex;

use super::Arguments;
use super::packets::{self, Template};
use super::setup::Contestants;
use super::wrapper::Wrapper;
use crate::report::Row;

/// Frames of one call into the kernel: long enough to time, short enough to stop in time.
const FRAMES: u32 = 200_000;
/// Time for each round.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds at most, whatever `--rounds` says.
const ROUNDS_MAX: u32 = 20;
/// What is sent, and of how many flows.
const SENT: [(&str, u32); 3] = [
    ("tcp4-data", 1),
    ("tcp4-data", 100_000),
    ("tcp4-syn", 100_000),
];
const SENDER: &str = "sender";
const RECEIVER: &str = "gateway";

/// Sends every kind of frame to lb and to the floor.
pub fn measure(arguments: &Arguments) -> Result<Vec<Row>> {
    let (sender, gateway) = (Namespace::new(SENDER)?, Namespace::new(RECEIVER)?);
    connect(&End::new(&sender, SENDER), &End::new(&gateway, RECEIVER))?;
    let (out, interface) = (index(&sender, SENDER)?, index(&gateway, RECEIVER)?);
    let mut contestants = Contestants::behind(interface)?;
    let mut wrapper = Wrapper::load()?;
    contestants.fill_floor(&mut wrapper)?;
    let _counter = attach(&sender, SENDER, wrapper.xdp("lb_bench_count")?)?;
    let mut rows = Vec::new();
    for (name, flows) in SENT
        .into_iter()
        .filter(|(name, _)| name.contains(&arguments.only))
    {
        let template = packets::template(name);
        for target in ["lb", "floor"] {
            let _link = match target {
                "lb" => attach(&gateway, RECEIVER, contestants.xdp()?)?,
                _ => attach(&gateway, RECEIVER, wrapper.xdp("lb_bench_floor")?)?,
            };
            let mut rates = Vec::new();
            for _ in 0..arguments.rounds.min(ROUNDS_MAX) {
                rates.push(rate(&sender, &mut wrapper, &template, flows, out)?);
            }
            rates.sort_by(f64::total_cmp);
            rows.push(Row {
                target,
                name: template.name,
                load_kind: "flows",
                load: u64::from(flows),
                unit: "kpps",
                // The slowest round is the least that a core did.
                min: rates[0],
                median: rates[rates.len() / 2],
            });
        }
    }
    Ok(rows)
}

/// Thousands of frames per second that went to the program and came back, in one round.
fn rate(
    sender: &Namespace,
    wrapper: &mut Wrapper,
    template: &Template,
    flows: u32,
    device: u32,
) -> Result<f64> {
    let before = wrapper.returned()?;
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < ROUND {
        sender.run(|| wrapper.send(template, flows, device, FRAMES))?;
        sent += u64::from(FRAMES);
    }
    let took = began.elapsed();
    let returned = wrapper.returned()? - before;
    ensure!(
        returned > sent / 2,
        "{returned} of {sent} frames came back: the program did not forward them"
    );
    Ok(returned as f64 / took.as_secs_f64() / 1e3)
}

fn index(namespace: &Namespace, device: &str) -> Result<u32> {
    Ok(namespace.run(|| if_nametoindex(device))?)
}

fn attach(namespace: &Namespace, device: &str, program: &mut Xdp) -> Result<XdpLink> {
    let link = namespace
        .run(|| program.attach(device, XdpMode::Driver))
        .with_context(|| format!("attach to {device} in {}", namespace.name()))?;
    Ok(program.take_link(link)?)
}
