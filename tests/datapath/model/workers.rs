//! A program with maps of its own on every CPU, each with its share of the seeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use lb_model::generate::{Limits, Run};
use lb_model::rules::Rules;
use lb_tests::link::{self, End};
use lb_tests::namespace::Namespace;
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::fuzz::{self, Times};
use crate::kernel::{Kernel, TABLES};

/// Backends of a run: six for each pool.
pub const BACKENDS: u16 = 54;
/// Packets between two signs of life.
const PROGRESS: u64 = 50_000_000;

/// CPUs to work on, and a namespace with two interfaces.
pub struct Workers {
    here: Namespace,
    /// Holds the other end of the link.
    _there: Namespace,
    cpus: Vec<usize>,
    benches: Vec<Mutex<Option<Bench>>>,
}

impl Workers {
    /// One for each CPU that this process may use.
    ///
    /// # Errors
    /// Without root.
    pub fn new() -> Result<Self> {
        let here = Namespace::new("model")?;
        let there = Namespace::new("peer")?;
        link::connect(&End::new(&here, "eth0"), &End::new(&there, "eth0"))?;
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let cpus: Vec<usize> = (0..CpuSet::count())
            .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
            .collect();
        let benches = cpus.iter().map(|_| Mutex::new(None)).collect();
        Ok(Self {
            here,
            _there: there,
            cpus,
            benches,
        })
    }

    /// Compares as many packets, over the runs of the seeds from `seed` on; how many it were.
    ///
    /// # Errors
    /// The first difference, or the kernel's.
    pub fn run(&self, seed: u64, packets: u64, rules: Rules) -> Result<u64> {
        let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let began = Instant::now();
        let work = |bench: &mut Bench, times: &mut Times, limits: &Limits| -> Result<()> {
            while done.load(Ordering::Relaxed) < packets && !stop.load(Ordering::Relaxed) {
                let seed = seed.wrapping_add(next.fetch_add(1, Ordering::Relaxed));
                let taken = fuzz::run(bench, times, seed, limits)
                    .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                let before = done.fetch_add(taken, Ordering::Relaxed);
                if before / PROGRESS != (before + taken) / PROGRESS {
                    let each = began.elapsed() / ((before + taken) as u32).max(1);
                    eprintln!(
                        "{} million packets agree, {each:?} each",
                        (before + taken) / 1_000_000
                    );
                }
            }
            Ok(())
        };
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let spawn = |at: usize| scope.spawn(move || self.on_cpu(at, rules, &work));
            let work: Vec<_> = (0..self.cpus.len()).map(spawn).collect();
            work.into_iter()
                .map(|worker| {
                    worker
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        results.into_iter().collect::<Result<()>>()?;
        Ok(done.into_inner())
    }

    /// The run of one seed.
    ///
    /// # Errors
    /// As [`Workers::run`].
    pub fn repeat(&self, seed: u64) -> Result<()> {
        self.on_cpu(
            0,
            Rules::ALL,
            &|bench: &mut Bench, times: &mut Times, limits: &Limits| {
                fuzz::run(bench, times, seed, limits).map(drop)
            },
        )
    }

    fn on_cpu(
        &self,
        at: usize,
        rules: Rules,
        work: &(impl Fn(&mut Bench, &mut Times, &Limits) -> Result<()> + Sync),
    ) -> Result<()> {
        self.here.run(|| {
            let mut cpu = CpuSet::new();
            cpu.set(self.cpus[at])?;
            sched_setaffinity(Pid::from_raw(0), &cpu)?;
            let limits = Limits {
                tables: TABLES.to_vec(),
                backends: BACKENDS,
                interfaces: [if_nametoindex("lo")?, if_nametoindex("eth0")?],
            };
            let mut place = self.benches[at]
                .lock()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            let bench = match &mut *place {
                Some(bench) => bench,
                empty => {
                    let kernel = Kernel::load().context("load the program")?;
                    let (_, world) = Run::new(0, &limits);
                    empty.insert(Bench::new(kernel, rules, world))
                }
            };
            bench.set_rules(rules);
            // Far from the times of any run before: fingerprints stay in the program.
            let mut times = Times(fastrand::u64(1 << 47..1 << 62));
            work(bench, &mut times, &limits)
        })
    }
}
