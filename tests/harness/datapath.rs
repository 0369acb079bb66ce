//! A data plane of a test's own, without an agent: maps filled by hand under a private bpffs, and
//! frames run through the program by BPF_PROG_TEST_RUN.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use aya::programs::TestRun as _;
use aya::{TestRunOptions, programs::Xdp};
use lb_common::backend::{Backend, BackendId, BackendState, Encapsulation, NextHop};
use lb_common::ladder::Slot;
use lb_common::pool::{NAME_BYTES, OnEmpty, Pool, PoolId};
use lb_common::port::Port;
use lb_common::service::{
    ICMP, ICMPV6, Service, ServiceKey, VIP_FILTER_ENTRIES, vip_filter, vip_filter_index,
};
use lb_common::settings::Settings;
use lb_userspace::agent::datapath::{BackendStates, Counters, Datapath, Options};
use lb_userspace::agent::plan::{Contents, MapWrite, plan};

use crate::bpffs::BpfFs;
use crate::mac::Mac;
use crate::packet::Frame;

/// Interface index of loopback in every namespace; test runs come in by it unless they say.
pub const LOOPBACK: u32 = 1;
/// XDP_PACKET_HEADROOM: what BPF_PROG_TEST_RUN leaves in front of a frame.
const HEADROOM: usize = 256;
/// Entries of `FLOWS`: what a test needs, not what a gateway does.
const FLOWS_MAX: u32 = 4096;
/// The room for what a program adds in front of a frame.
const GROWTH_MAX: usize = 256;

/// A loaded program with its maps.
pub struct Gateway {
    /// The data plane itself.
    pub datapath: Datapath,
    /// The memory-mapped backends.
    pub states: BackendStates,
    /// What the program counted.
    pub counters: Counters,
    /// What the maps should hold; [`Gateway::apply`] brings them there.
    pub desired: Contents,
    options: Options,
    // Declared last: the pins go after what is pinned.
    bpffs: BpfFs,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The program's return value.
    pub verdict: Verdict,
    /// The frame as the program left it.
    pub frame: Frame,
}

/// The return values of XDP programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum Verdict {
    Aborted,
    Drop,
    Pass,
    Transmit,
    Redirect,
}

impl Verdict {
    fn from_number(number: u32) -> Result<Self> {
        Ok(match number {
            0 => Self::Aborted,
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            other => anyhow::bail!("XDP knows no return value {other}"),
        })
    }
}

impl Gateway {
    /// Loads the program; every map is empty.
    ///
    /// # Errors
    /// Without root, or if the kernel refuses the program.
    pub fn new() -> Result<Self> {
        Self::with(|options| options)
    }

    /// Loads the program with a clock that stands until [`Gateway::set_time`] moves it.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn with_clock() -> Result<Self> {
        Self::with(|options| Options {
            clock_in_map: true,
            ..options
        })
    }

    /// Loads the program with other options than most tests want.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn with(change: impl FnOnce(Options) -> Options) -> Result<Self> {
        let bpffs = BpfFs::new()?;
        let options = change(Options {
            flows_max: FLOWS_MAX,
            ..Options::at(bpffs.path())
        });
        let (datapath, states, counters) = open(&options)?;
        let desired = Contents {
            vips: vec![0; VIP_FILTER_ENTRIES as usize],
            ..Contents::default()
        };
        Ok(Self {
            datapath,
            states,
            counters,
            desired,
            options,
            bpffs,
        })
    }

    /// Sets the time that the program goes by, monotonic ns: only [`Gateway::with_clock`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_time(&self, now: u64) -> Result<()> {
        self.datapath.clock()?.set(now);
        Ok(())
    }

    /// Says that an agent was alive at `now`, or, with 0, that there never was one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn beat(&self, now: u64) -> Result<()> {
        self.datapath.clock()?.beat(now);
        Ok(())
    }

    /// Closes everything and opens it again over the same pins, as an agent that restarts does.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn reopened(self) -> Result<Self> {
        self.reopened_with(|options| options)
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn reopened_with(self, change: impl FnOnce(Options) -> Options) -> Result<Self> {
        let Self {
            desired,
            options,
            bpffs,
            datapath,
            ..
        } = self;
        // It holds the lock of the pins.
        drop(datapath);
        let options = change(options);
        let (datapath, states, counters) = open(&options)?;
        Ok(Self {
            datapath,
            states,
            counters,
            desired,
            options,
            bpffs,
        })
    }

    /// Sets the outer sources of tunnels.
    pub fn settings(&mut self, settings: Settings) {
        self.desired.settings = settings;
    }

    /// Makes an interface a port at once; plans leave ports alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn port(&mut self, index: u16, interface_index: u32, mac: Mac, mtu: u32) -> Result<()> {
        let port = Port {
            interface_index,
            mtu,
            mac: mac.0,
            pad: [0; 2],
            tags: [0; 2],
        };
        self.desired.ports.insert(index, port);
        Ok(self.datapath.apply(&MapWrite::Port { index, port })?)
    }

    /// Adds a pool with this table.
    pub fn pool(&mut self, id: u32, on_empty: OnEmpty, table: Vec<Slot>) -> PoolId {
        let mut name = [0; NAME_BYTES];
        let text = format!("pool-{id}");
        name[..text.len()].copy_from_slice(text.as_bytes());
        let pool = Pool {
            slots: table.len() as u32,
            on_empty: on_empty as u8,
            name,
            ..Pool::FREE
        };
        self.desired.pools.insert(PoolId(id), pool);
        self.desired.tables.insert(PoolId(id), Arc::from(table));
        PoolId(id)
    }

    /// Adds a backend. It is down and its next hop unknown until [`Gateway::up`].
    pub fn backend(
        &mut self,
        id: u16,
        pool: PoolId,
        address: impl crate::packet::Address,
        encapsulation: Encapsulation,
    ) -> BackendId {
        let backend = Backend {
            address: address.address().into(),
            pool: pool.0,
            encapsulation: encapsulation as u8,
            ..Backend::FREE
        };
        self.desired.backends.insert(BackendId(id), backend);
        BackendId(id)
    }

    /// Adds a service, and its VIP's own entry, and gives back the index of its counters. Port 0 is
    /// every port.
    pub fn service(&mut self, vip: IpAddr, port: u16, protocol: u8, pool: PoolId) -> u32 {
        let icmp = if vip.is_ipv4() { ICMP } else { ICMPV6 };
        let filter = &mut self.desired.vips[vip_filter_index(&vip.into()) as usize];
        *filter |= vip_filter::VIP | vip_filter::of_protocol(protocol);
        if port == 0 {
            *filter |= vip_filter::ANY_PORT;
        }
        self.entry(vip, 0, icmp, pool);
        self.entry(vip, port, protocol, pool)
    }

    fn entry(&mut self, vip: IpAddr, port: u16, protocol: u8, pool: PoolId) -> u32 {
        let key = ServiceKey {
            address: vip.into(),
            port: port.to_be_bytes(),
            protocol,
            pad: 0,
        };
        let counters = self.desired.services.len() as u32;
        let service = Service {
            pool: pool.0 as u16,
            slots: self.desired.pools[&pool].slots,
            counters,
            previous_pool: 0,
            detours: 0,
            options: 0,
            mss: 0,
        };
        self.desired.services.entry(key).or_insert(service).counters
    }

    /// Carries out the plan from what the maps hold to `desired`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(&mut self) -> Result<()> {
        for write in plan(&self.desired, &self.datapath.actual()?) {
            self.datapath.apply(&write)?;
        }
        Ok(())
    }

    /// Gives a backend a next hop and brings it up.
    pub fn up(&self, id: BackendId, mac: Mac, port: u16) {
        self.states.set_next_hop(id, NextHop::new(mac.0, port));
        self.states.set_state(id, BackendState::UP);
    }

    /// Runs a frame that came in by loopback.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run_from(LOOPBACK, frame)
    }

    /// Runs a frame that came in by an interface of the caller's namespace.
    ///
    /// # Errors
    /// The kernel's, if there is no such interface.
    pub fn run_from(&mut self, interface_index: u32, frame: &[u8]) -> Result<Outcome> {
        let context = context(interface_index, 0, frame.len());
        run(self.datapath.program()?, frame, &context)
    }

    /// Runs a frame that came in by loopback with little room in front: `headroom` bytes, a
    /// multiple of 4, of which the kernel keeps about 40 for itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_with_headroom(&mut self, headroom: usize, frame: &[u8]) -> Result<Outcome> {
        // Metadata lies between the headroom and the frame, and is taken from the headroom.
        let metadata = HEADROOM - headroom;
        let context = context(LOOPBACK, metadata, frame.len());
        let input = [vec![0; metadata].as_slice(), frame].concat();
        let mut outcome = run(self.datapath.program()?, &input, &context)?;
        outcome.frame.0.drain(..metadata);
        Ok(outcome)
    }
}

fn open(options: &Options) -> Result<(Datapath, BackendStates, Counters)> {
    let datapath = Datapath::open(options)?;
    let states = datapath.backend_states()?;
    let counters = datapath.counters()?;
    Ok((datapath, states, counters))
}

/// A `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(interface_index: u32, metadata: usize, length: usize) -> [u8; 24] {
    let mut context = [0; 24];
    context[..4].copy_from_slice(&(metadata as u32).to_ne_bytes());
    context[4..8].copy_from_slice(&((metadata + length) as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&interface_index.to_ne_bytes());
    context
}

fn run(program: &mut Xdp, frame: &[u8], context: &[u8]) -> Result<Outcome> {
    let mut output = vec![0; frame.len() + GROWTH_MAX];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ctx_in: Some(context),
            ..TestRunOptions::new()
        })
        .context("BPF_PROG_TEST_RUN")?;
    output.truncate(result.data_size_out as usize);
    Ok(Outcome {
        verdict: Verdict::from_number(result.return_value)?,
        frame: Frame(output),
    })
}
