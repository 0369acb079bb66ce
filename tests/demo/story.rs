//! What is done to the site, one thing after another.

use std::time::{Duration, Instant};

use anyhow::Result;
use lb_userspace::control::Intent;

use crate::measure::{Fault, Kind};
use crate::picture::Mark;
use crate::stage::Stage;

/// Undisturbed load before the first fault, and from each fault to the next.
const ACT: Duration = Duration::from_secs(2);
/// How long nobody restarts the killed agent.
pub const WITHOUT_AGENT: Duration = Duration::from_millis(1500);

/// What was done, and when.
#[derive(Debug)]
pub struct Story {
    /// When the load began.
    pub start: Instant,
    /// When the load ended; until then, when it began.
    pub end: Instant,
    /// The faults, in their order.
    pub faults: Vec<Fault>,
    /// What the picture marks.
    pub marks: Vec<Mark>,
}

impl Story {
    /// Begins: the clients start.
    pub fn begin(stage: &mut Stage) -> Story {
        let start = stage.start_load();
        stage.canary.take_worst();
        stage.console.restart_clock(start);
        Story {
            start,
            end: start,
            faults: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Plays all of it.
    ///
    /// # Errors
    /// If something does not happen that should, or the demo is interrupted; `faults` tells what
    /// was done until then.
    pub fn play(&mut self, stage: &mut Stage) -> Result<()> {
        stage.pass_until(self.start + ACT)?;
        self.kill(stage, "primary killed", "logic-1")?;
        self.start_again(stage, "logic-1")?;
        self.silence(stage, "logic-2")?;
        self.end_silence(stage, "logic-2")?;
        self.drain(stage, "logic-3")?;
        self.undrain(stage, "logic-3")?;
        self.restart_agent(stage)?;
        self.kill(stage, "primary killed, new agent", "logic-1")?;
        self.start_again(stage, "logic-1")
    }

    fn kill(&mut self, stage: &mut Stage, name: &'static str, backend: &str) -> Result<()> {
        let at = self.mark(stage, backend, "killed", "kill its web server (SIGKILL)");
        stage.kill(backend);
        self.lost(stage, name, backend, "down", at)
    }

    fn start_again(&mut self, stage: &mut Stage, backend: &str) -> Result<()> {
        let at = self.mark(stage, backend, "returned", "start its web server again");
        stage.serve(backend)?;
        self.returned(stage, "primary returned", backend, at)
    }

    fn silence(&mut self, stage: &mut Stage, backend: &str) -> Result<()> {
        let at = self.mark(
            stage,
            backend,
            "silenced",
            "its link drops everything from now on",
        );
        stage.site().backend(backend).silence()?;
        self.lost(stage, "primary host silenced", backend, "down", at)
    }

    fn end_silence(&mut self, stage: &mut Stage, backend: &str) -> Result<()> {
        let at = self.mark(stage, backend, "returned", "its link works again");
        stage.site().backend(backend).unsilence()?;
        self.returned(stage, "primary host returned", backend, at)
    }

    fn drain(&mut self, stage: &mut Stage, backend: &str) -> Result<()> {
        let at = self.mark(stage, backend, "drained", "lb drain: no new flows");
        stage.admin(backend, Intent::Drain)?;
        self.lost(stage, "primary drained", backend, "draining", at)
    }

    fn undrain(&mut self, stage: &mut Stage, backend: &str) -> Result<()> {
        let at = self.mark(stage, backend, "undrained", "lb undrain");
        stage.admin(backend, Intent::Undrain)?;
        self.returned(stage, "primary undrained", backend, at)
    }

    fn restart_agent(&mut self, stage: &mut Stage) -> Result<()> {
        let text = "kill lb agent (SIGKILL): the program and its maps stay in the kernel";
        let at = self.mark(stage, "agent", "killed", text);
        stage.kill_agent();
        stage.pass_until(at + WITHOUT_AGENT)?;
        self.mark(stage, "agent", "started", "start lb agent again");
        let serves = stage.start_agent()?;
        let fault = Fault {
            name: "agent killed and restarted",
            whom: "agent".into(),
            kind: Kind::AgentRestarted,
            at,
            stored: serves,
            stall: Duration::ZERO,
        };
        self.finish(stage, fault, at + WITHOUT_AGENT + ACT)
    }

    fn lost(
        &mut self,
        stage: &mut Stage,
        name: &'static str,
        backend: &str,
        state: &str,
        at: Instant,
    ) -> Result<()> {
        self.stored(stage, name, backend, Kind::Lost, state, at)
    }

    fn returned(
        &mut self,
        stage: &mut Stage,
        name: &'static str,
        backend: &str,
        at: Instant,
    ) -> Result<()> {
        self.stored(stage, name, backend, Kind::Returned, "up", at)
    }

    fn stored(
        &mut self,
        stage: &mut Stage,
        name: &'static str,
        backend: &str,
        kind: Kind,
        state: &str,
        at: Instant,
    ) -> Result<()> {
        let what = format!("{backend} is {state}");
        let stored = stage.wait_for(&what, at, |news| news.says(backend, state))?;
        let took = stored.saturating_duration_since(at).as_secs_f64() * 1e3;
        stage
            .console
            .happened(stored, &format!("    stored {took:.1} ms after the fault"));
        let fault = Fault {
            name,
            whom: backend.to_owned(),
            kind,
            at,
            stored,
            stall: Duration::ZERO,
        };
        self.finish(stage, fault, at + ACT)
    }

    /// Lets the rest of an act pass. A fault counts also if the demo is interrupted in it.
    fn finish(&mut self, stage: &mut Stage, mut fault: Fault, until: Instant) -> Result<()> {
        let passed = stage.pass_until(until);
        fault.stall = stage.canary.take_worst();
        self.faults.push(fault);
        passed
    }

    /// Says what will be done; the returned instant is right before it is.
    fn mark(&mut self, stage: &mut Stage, whom: &str, word: &str, text: &str) -> Instant {
        stage
            .console
            .step(Instant::now(), &format!("{whom}: {text}"));
        let at = Instant::now();
        self.marks.push(Mark {
            at: at.saturating_duration_since(self.start),
            label: [whom.to_owned(), word.to_owned()],
        });
        at
    }
}
