//! The load generator apart from what it measures, each with processors of its own.
//!
//! Where both share all processors, the spread of the times is that of the kernel's turns between them:
//! the faster a proxy is, the more pgbench itself is what transactions wait for. So p99/p50 says
//! something of a proxy only where pgbench does not compete with it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processor that the load generator has to itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Apart(usize);

impl Apart {
    /// Sets the first processor aside: this process, and what it starts from now on, keep to the others.
    ///
    /// # Errors
    /// Where there is one processor only.
    pub fn new() -> Result<Self> {
        let this = Pid::from_raw(0);
        let ours = sched_getaffinity(this).context("ask which processors there are")?;
        let mut all = (0..CpuSet::count()).filter(|&cpu| ours.is_set(cpu).unwrap_or(false));
        let first = all.next().context("there is a processor")?;
        let mut others = CpuSet::new();
        let mut count = 0;
        for cpu in all {
            others.set(cpu)?;
            count += 1;
        }
        anyhow::ensure!(
            count > 0,
            "--apart needs a second processor: pgbench gets the first one to itself"
        );
        sched_setaffinity(this, &others).context("keep to the other processors")?;
        println!(
            "pgbench has processor {first} to itself; PostgreSQL and the proxies have the other {count}"
        );
        Ok(Self(first))
    }

    /// A program that runs on the processor set aside.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.0.to_string()]).arg(program);
        command
    }
}
