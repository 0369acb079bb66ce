//! What happens to servers.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Postgres, READY_MAX};
use crate::process::Process;
use crate::wait;

/// How long a server may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

impl Postgres {
    /// Kills the server and everything that works for it (SIGKILL), as a host that loses power.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let children = self.children()?;
        self.process()?.kill();
        self.process = None;
        each(&children, Signal::SIGKILL);
        // They hold its shared memory until they are gone, and whoever starts on its data refuses.
        wait::until("its processes to be gone", STOP_MAX, || {
            children.iter().all(|&child| is_gone(child))
        })
    }

    /// Stops it in order; clients are thrown out (`fast`).
    ///
    /// # Errors
    /// If it is still there at the deadline.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.process()?;
        process.signal(Signal::SIGINT)?;
        process.wait(STOP_MAX)?;
        self.process = None;
        Ok(())
    }

    /// Stops it in order, and starts it again.
    ///
    /// # Errors
    /// If it does not stop or start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Starts it if it has ended by itself, as a service manager does; waits until it answers.
    ///
    /// # Errors
    /// If it neither recovers nor starts.
    pub fn revive(&mut self) -> Result<()> {
        wait::until("the server to answer or end", READY_MAX, || {
            self.sql("SELECT 1").is_ok() || self.process.as_mut().is_none_or(Process::has_ended)
        })?;
        if self.process()?.has_ended() {
            self.process = None;
            self.start()?;
        }
        Ok(())
    }

    /// Freezes the server and everything that works for it: its sockets stay open, nobody answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn freeze(&mut self) -> Result<()> {
        // The postmaster first, so that it makes no further child meanwhile.
        self.process()?.freeze()?;
        each(&self.children()?, Signal::SIGSTOP);
        Ok(())
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn thaw(&mut self) -> Result<()> {
        each(&self.children()?, Signal::SIGCONT);
        self.process()?.thaw()
    }

    /// Makes a standby a primary, and waits until it is one.
    ///
    /// # Errors
    /// If it does not become one.
    pub fn promote(&self) -> Result<()> {
        self.sql("SELECT pg_promote(wait => false)")?;
        wait::until("the standby to become a primary", READY_MAX, || {
            self.is_primary().unwrap_or(false)
        })
    }

    /// Whether it takes writes.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn is_primary(&self) -> Result<bool> {
        Ok(self.sql("SELECT pg_is_in_recovery()")? == "f")
    }

    /// Pids of the server's own children.
    fn children(&mut self) -> Result<Vec<Pid>> {
        let pid = self.process()?.pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let list = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let pids = list
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok());
        Ok(pids.map(Pid::from_raw).collect())
    }
}

/// Whether nothing is left of a process but, perhaps, its entry in the table.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, fields)| fields.as_bytes()[0]);
    matches!(state, None | Some(b'Z' | b'X'))
}

fn each(pids: &[Pid], signal: Signal) {
    for &pid in pids {
        // One that ended meanwhile is as good.
        let _ = kill(pid, signal);
    }
}
