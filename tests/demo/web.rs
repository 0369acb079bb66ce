//! What is done to the gateway's tier: web servers are killed, silenced, drained and returned, and
//! the agent is killed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_tests::load::Record;
use lb_userspace::control::{Answer, Intent, Request};

use crate::act::Act;
use crate::measure::{self, Fault, Kind};
use crate::picture::Chart;
use crate::stage::{self, Stage};
use crate::story::{ACT, Story};

/// How long nobody restarts the killed agent.
const WITHOUT_AGENT: Duration = Duration::from_millis(1500);
const TITLE: &str = "Requests per second by server, each on a new connection";

/// Plays all of it; adds what came of it, also if it is broken off.
///
/// # Errors
/// If something does not happen that should, or the demo is interrupted.
pub fn play(stage: &mut Stage, acts: &mut Vec<Act>) -> Result<()> {
    let start = stage.start_load();
    let mut story = Story::begin(stage, start);
    let played = story.play_web(stage);
    story.end();
    let requests = stage.stop_load().requests;
    stage.console.finish_rates();
    acts.push(act(stage, story, &requests));
    played
}

fn act(stage: &Stage, story: Story, requests: &[Record]) -> Act {
    let mut owner = |from| owner(stage, from);
    let cost = |fault: &Fault, until| measure::cost(fault, until, requests, &mut owner);
    let servers = stage.backends();
    let chart = Chart::of(TITLE, requests, &servers, story.span(), story.marks.clone());
    Act::new(story, servers, chart, notes(), cost)
}

/// Whose flow it is while all are up: the first rung of its ladder. Faults do not change ladders,
/// so that it can be asked afterwards.
fn owner(stage: &Stage, from: SocketAddr) -> Option<String> {
    let request = Request::Route {
        vip: stage.site().vip(),
        protocol: "tcp".into(),
        from,
    };
    match stage.ask(&request) {
        Ok(Answer::Route(route)) => route.ladder.into_iter().next().map(|rung| rung.backend),
        _ => None,
    }
}

/// Below the table.
fn notes() -> String {
    format!(
        "detection: until the new state is stored in the data plane; recovery: until the first \
         request\nthat succeeds on a flow of the server concerned, after the last that failed. A \
         client gives up\nafter {:?}. For the agent: until a new one serves, the {:?} that nobody \
         started it included;\npackets do not need it.",
        stage::TIMEOUT,
        WITHOUT_AGENT
    )
}

impl Story {
    fn play_web(&mut self, stage: &mut Stage) -> Result<()> {
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
            tier: "gateway",
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
            tier: "logic",
            name,
            whom: backend.to_owned(),
            kind,
            at,
            stored,
            stall: Duration::ZERO,
        };
        self.finish(stage, fault, at + ACT)
    }
}
