//! The wrapper: which program it calls, with which packet, and how long that takes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunAttrs, Xdp};
use aya::{Ebpf, EbpfLoader, Pod, TestRunOptions};
use nix::time::{ClockId, clock_gettime};

use self::rotation::Rotation;
use super::packets::Template;

#[path = "../../../lb-ebpf/src/bench/rotation.rs"]
mod rotation;

pub use self::rotation::VIPS;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_BENCH_OBJECT"));

/// Frames that the kernel hands on together: what a network card's driver polls at once.
const BATCH: u32 = 64;

/// The one element of the map `ROTATION`.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Element(Rotation);

// SAFETY: `repr(C)` over integers, without padding between or behind them.
unsafe impl Pod for Element {}

/// The loaded object: wrapper, floor, and the program that does nothing.
pub struct Wrapper {
    ebpf: Ebpf,
    rotation: Array<MapData, Element>,
    program: ProgramArray<MapData>,
    returned: PerCpuArray<MapData, u64>,
}

impl Wrapper {
    /// Loads the object.
    pub fn load() -> Result<Self> {
        ensure!(
            !OBJECT.is_empty(),
            "built with LB_SKIP_BPF=1: there is no program to time"
        );
        let mut ebpf = EbpfLoader::new().load(OBJECT).context("load lb-bench")?;
        for name in [
            "lb_bench_v4",
            "lb_bench_v6",
            "lb_bench_floor",
            "lb_bench_nothing",
            "lb_bench_send",
            "lb_bench_count",
        ] {
            let program = xdp(&mut ebpf, name)?;
            program.load().with_context(|| format!("load {name}"))?;
        }
        let rotation = ebpf.take_map("ROTATION").context("no map ROTATION")?;
        let program = ebpf.take_map("PROGRAM").context("no map PROGRAM")?;
        let returned = ebpf.take_map("RETURNED").context("no map RETURNED")?;
        Ok(Self {
            returned: returned.try_into()?,
            rotation: rotation.try_into()?,
            program: program.try_into()?,
            ebpf,
        })
    }

    /// A map of the floor.
    pub fn map<M: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> Result<M> {
        let map = self.ebpf.take_map(name);
        Ok(map.with_context(|| format!("no map {name}"))?.try_into()?)
    }

    /// A program of the object.
    pub fn program(&mut self, name: &str) -> Result<ProgramFd> {
        Ok(xdp(&mut self.ebpf, name)?.fd()?.try_clone()?)
    }

    /// A program of the object, to be attached.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, name)
    }

    /// Sends frames of so many flows out of a device of the caller's namespace.
    pub fn send(
        &mut self,
        template: &Template,
        flows: u32,
        device: u32,
        frames: u32,
    ) -> Result<()> {
        let rotation = Rotation {
            device,
            ..rotation_of(template, flows)
        };
        self.rotation.set(0, Element(rotation), 0)?;
        let sender = xdp(&mut self.ebpf, "lb_bench_send")?;
        sender.test_run(TestRunOptions {
            data_in: Some(&template.frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        })?;
        Ok(())
    }

    /// Frames that came back so far.
    pub fn returned(&self) -> Result<u64> {
        Ok(self.returned.get(&0, 0)?.iter().sum())
    }

    /// What `program` returns for flow 0.
    pub fn verdict(&mut self, program: &ProgramFd, template: &Template) -> Result<u32> {
        Ok(self.run(program, template, 1, 1)?.0)
    }

    /// How long wrapper and `program` take for one packet, in ns: the mean of `packets` in a row.
    pub fn time(
        &mut self,
        program: &ProgramFd,
        template: &Template,
        flows: u32,
        packets: u32,
    ) -> Result<f64> {
        let (_, time) = self.run(program, template, flows, packets)?;
        Ok(time.as_nanos() as f64 / f64::from(packets))
    }

    /// The time is what the kernel charges this thread: the result of BPF_PROG_TEST_RUN is cut to
    /// whole nanoseconds. What the call costs beside its loop is lost among a million packets.
    fn run(
        &mut self,
        program: &ProgramFd,
        template: &Template,
        flows: u32,
        packets: u32,
    ) -> Result<(u32, Duration)> {
        self.program.set(0, program, 0)?;
        let rotation = Element(rotation_of(template, flows));
        self.rotation.set(0, rotation, 0)?;
        let wrapper = if template.is_ipv6 {
            "lb_bench_v6"
        } else {
            "lb_bench_v4"
        };
        let wrapper = xdp(&mut self.ebpf, wrapper)?;
        let before = thread_time()?;
        let result = wrapper.test_run(TestRunOptions {
            data_in: Some(&template.frame),
            repeat: packets,
            ..TestRunOptions::new()
        })?;
        Ok((result.return_value, thread_time()? - before))
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name);
    Ok(program
        .with_context(|| format!("no program {name}"))?
        .try_into()?)
}

fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn rotation_of(template: &Template, flows: u32) -> Rotation {
    let word = |at: usize| {
        let bytes = template.frame[at..].first_chunk();
        u64::from_ne_bytes(*bytes.expect("every template has both headers"))
    };
    let (source_at, destination_at, ports_at) = if template.is_ipv6 {
        (30, 46, 54)
    } else {
        (26, 26, 34)
    };
    Rotation {
        length: template.frame.len() as u32,
        flows,
        next: 0,
        ports: word(ports_at) as u32,
        source: word(source_at),
        destination: word(destination_at),
        device: 0,
        pad: 0,
    }
}
