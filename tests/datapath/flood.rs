//! SYNs from everywhere while a service changes: what its live flows lose by it, what memory it
//! takes, and what it writes when nothing changes any more.
//!
//! `LB_TEST_LONG=1` sends ten million.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use lb_common::backend::{BackendId, Encapsulation};
use lb_common::counters::FlowCount;
use lb_common::ladder::{RUNGS, Slot};
use lb_common::pool::OnEmpty;
use lb_tests::datapath::{Gateway, Outcome};
use lb_tests::duties::Duties;
use lb_tests::packet::{self, ACK, Frame, SYN};
use lb_tests::scale;
use lb_userspace::agent::datapath::Options;
use lb_userspace::agent::flows::{Listed, Rules};

use crate::setup::{POOL, WEB_V4, backend_of, fill_one_pool};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000 * SECOND;
const RULES: Rules = Rules {
    window_ns: 300 * SECOND,
    udp_window_ns: 30 * SECOND,
    idle_ns: 3600 * SECOND,
    lost_for_ns: 60 * SECOND,
    embryo_ns: 60 * SECOND,
    resets: true,
};
const LIVE: u32 = 10_000;
const SYNS: u64 = 400_000;
const SYNS_LONG: u64 = 10_000_000;
/// Live flows speak and records are swept so many times during the flood.
const ROUNDS: u64 = 20;
/// Entries of `FLOWS`: room for the live flows. `FLOWS_NEW` has a quarter of it, far fewer than
/// there are SYNs.
const FLOWS_MAX: u32 = 1 << 16;
const BACKENDS: u16 = 8;
const SLOTS: u16 = 251;
const DOWN: BackendId = BackendId(0);
const DRAINING: BackendId = BackendId(1);

/// Where addresses, source port and sequence number stand in an IPv4 TCP frame without options.
const SOURCE: usize = 26;
const PORT: usize = 34;
const SEQUENCE: usize = 38;

struct Stage {
    duties: Duties,
    live: Vec<(Frame, BackendId)>,
    random: Rng,
    flood: Frame,
}

impl Stage {
    fn new(seed: u64) -> Result<Self> {
        let mut gateway = Gateway::with(|options| Options {
            clock_in_map: true,
            flows_max: FLOWS_MAX,
            ..options
        })?;
        let mut random = Rng::with_seed(seed);
        let addresses: Vec<String> = (0..BACKENDS).map(|id| format!("10.0.1.{id}")).collect();
        let backends: Vec<_> = addresses
            .iter()
            .map(|address| (address.as_str(), Encapsulation::Ethernet))
            .collect();
        let table = (0..SLOTS).map(|_| ladder(&mut random)).collect();
        fill_one_pool(&mut gateway, OnEmpty::Reset, &backends, table)?;
        Ok(Self {
            duties: Duties::first_start(gateway, POOL, RULES, START)?,
            live: Vec::new(),
            random,
            flood: tcp(Ipv4Addr::UNSPECIFIED, 1, SYN),
        })
    }

    /// Opens the live flows, each from an address of its own.
    fn open(&mut self) -> Result<()> {
        for number in 0..LIVE {
            let from = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number);
            let syn = self.run(&tcp(from, 40_000, SYN))?;
            let data = tcp(from, 40_000, ACK);
            let owner = backend_of(&syn).context("every backend is up")?;
            ensure!(backend_of(&self.run(&data)?) == Some(owner), "{from}");
            self.live.push((data, BackendId(owner)));
        }
        Ok(())
    }

    fn run(&mut self, frame: &Frame) -> Result<Outcome> {
        self.duties.gateway.run(frame)
    }

    /// Every live flow sends a packet. Gives how many did not go where the flow lives.
    fn speak(&mut self) -> Result<usize> {
        let mut lost = 0;
        for (data, owner) in &self.live {
            let outcome = self.duties.gateway.run(data)?;
            lost += usize::from(backend_of(&outcome) != Some(owner.0));
        }
        Ok(lost)
    }

    /// SYNs from random addresses outside of the live flows' network.
    fn flood(&mut self, syns: u64) -> Result<()> {
        for _ in 0..syns {
            let random = self.random.u64(..).to_be_bytes();
            let frame = &mut self.flood.0;
            frame[SOURCE..SOURCE + 4].copy_from_slice(&random[..4]);
            frame[SOURCE] |= 0x80;
            frame[PORT..PORT + 2].copy_from_slice(&random[4..6]);
            frame[SEQUENCE..SEQUENCE + 2].copy_from_slice(&random[6..]);
            self.duties.gateway.run(&self.flood)?;
        }
        Ok(())
    }

    fn count(&self, what: FlowCount) -> Result<u64> {
        Ok(self.duties.gateway.counters.flow_count(what)?)
    }

    /// The records of `FLOWS`, or of `FLOWS_NEW`, in an order of their own.
    fn records(&self, is_new: bool) -> Result<Vec<Listed>> {
        let mut records = self.duties.maps.all()?;
        records.retain(|it| it.is_new == is_new);
        records.sort_by_key(|it| (it.key.source.words, it.key.ports));
        Ok(records)
    }

    /// Lets time pass as for a live system: flows speak, records are swept.
    fn pass(&mut self, seconds: u64) -> Result<()> {
        const STEP: u64 = 20;
        for _ in 0..seconds.div_ceil(STEP) {
            self.duties.pass(STEP * SECOND)?;
            ensure!(self.speak()? == 0, "a live flow moved while nobody flooded");
            self.duties.sweep()?;
        }
        Ok(())
    }
}

/// Four different backends.
fn ladder(random: &mut Rng) -> Slot {
    let mut ids: Vec<u16> = (0..BACKENDS).collect();
    random.shuffle(&mut ids);
    let mut rungs = [BackendId::NONE; RUNGS];
    for (rung, id) in rungs.iter_mut().zip(ids) {
        *rung = BackendId(id);
    }
    Slot::new(rungs)
}

fn tcp(from: Ipv4Addr, port: u16, flags: u8) -> Frame {
    let sequence = if flags == SYN { 1000 } else { 1001 };
    packet::tcp(format!("{from}:{port}").as_str(), WEB_V4)
        .flags(flags)
        .sequence(sequence)
        .build()
}

#[test]
fn a_flood_of_syns_costs_no_live_flow_and_writes_nothing_once_nothing_changes() -> Result<()> {
    let seed = scale::seed()?;
    let syns = if scale::is_long() { SYNS_LONG } else { SYNS };
    let mut stage = Stage::new(seed)?;
    stage.open()?;
    assert_eq!(stage.duties.maps.all()?, [], "every slot is stable");

    stage.duties.fail(DOWN);
    stage.live.retain(|(_, owner)| *owner != DOWN);
    stage.duties.drain(DRAINING);
    // G1's condition: the first two packets in the window.
    assert_eq!((stage.speak()?, stage.speak()?), (0, 0), "seed {seed}");
    let kept = stage.records(false)?.len();
    assert!(kept > LIVE as usize / 20, "the draining backend's: {kept}");

    let began = Instant::now();
    let (mut lost, mut new_most) = (0, 0);
    for _ in 0..ROUNDS {
        stage.flood(syns / ROUNDS)?;
        new_most = new_most.max(stage.records(true)?.len());
        stage.duties.pass(SECOND)?;
        lost += stage.speak()?;
        stage.duties.sweep()?;
    }
    let took = began.elapsed();
    let sizes = stage.duties.maps.sizes();
    let recorded = stage.count(FlowCount::Recorded)?;
    println!("flood in a transition, seed {seed} (LB_TEST_SEED)");
    println!("  SYNs                  {syns} in {took:.1?}");
    println!("  live flows            {}, lost {lost}", stage.live.len());
    println!(
        "  FLOWS                 {kept} of {}, as before",
        sizes.kept
    );
    println!(
        "  FLOWS_NEW             {new_most} of {} at most",
        sizes.new
    );
    println!("  records written       {recorded}");
    assert_eq!(lost, 0, "seed {seed}");
    assert_eq!(stage.records(false)?.len(), kept, "seed {seed}");
    assert!(new_most <= sizes.new as usize, "{new_most}");
    assert!(recorded > syns / u64::from(BACKENDS), "the flood was seen");

    // One stays down, as what nobody repairs; the other is back, and its flows are home.
    stage.duties.undrain(DRAINING);
    stage.pass(2 * RULES.window_ns / SECOND)?;
    stage.pass(2 * RULES.embryo_ns / SECOND)?;
    let counts = stage.duties.gateway.counters.flow_counts()?;
    let before = (stage.records(false)?, stage.records(true)?);
    let table = stage
        .duties
        .gateway
        .datapath
        .table(POOL, u32::from(SLOTS))?;
    let began = Instant::now();
    stage.flood(syns / 10)?;
    println!(
        "  once settled          {} more in {:.1?}",
        syns / 10,
        began.elapsed()
    );
    assert_eq!(stage.duties.gateway.counters.flow_counts()?, counts);
    assert!(before == (stage.records(false)?, stage.records(true)?));
    let after = stage
        .duties
        .gateway
        .datapath
        .table(POOL, u32::from(SLOTS))?;
    assert!(table == after, "no flag of a slot moved");
    assert_eq!(stage.speak()?, 0, "seed {seed}");
    Ok(())
}
