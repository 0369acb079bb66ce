//! What is done, to whom, in which order; and what of it takes a server away from its flows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use lb_tests::agent::Agent;
use lb_tests::site::{ConfigText, Site, TALK_PORT};
use lb_tests::wait;
use lb_tests::web::Web;
use lb_userspace::control::Intent;

use super::Size;
use crate::support::{SOON, admin, backend, backend_is, reload, weigh};

/// So many servers take new flows at any time: clients must have somewhere to go.
const IN_SERVICE_MIN: usize = 2;
/// Weights that a re-weighting picks from.
const WEIGHTS: std::ops::Range<u32> = 20..400;

/// Something that ends a server's flows, rightly.
#[derive(Clone, Debug)]
pub struct Fault {
    pub backend: String,
    pub kind: Kind,
    pub began: Instant,
    /// `None` while it lasts.
    pub ended: Option<Instant>,
}

/// How a server was taken from its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its process was killed.
    Killed,
    /// Its host was cut off.
    CutOff,
    /// It said that it is not ready.
    NotReady,
    /// The operator took it out.
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Begin(Kind),
    End(Kind),
    Flap,
    Drain,
    Undrain,
    Weigh,
    Remove,
    Add,
    KillAgent,
    StartAgent,
}

/// One of everything; what begins and what ends are as likely, so that faults overlap.
const ACTIONS: [Action; 16] = [
    Action::Begin(Kind::Killed),
    Action::End(Kind::Killed),
    Action::Begin(Kind::CutOff),
    Action::End(Kind::CutOff),
    Action::Begin(Kind::NotReady),
    Action::End(Kind::NotReady),
    Action::Begin(Kind::Disabled),
    Action::End(Kind::Disabled),
    Action::Flap,
    Action::Drain,
    Action::Undrain,
    Action::Weigh,
    Action::Remove,
    Action::Add,
    Action::KillAgent,
    Action::StartAgent,
];

/// Actions in a row that find no agent running.
const ACTS_WITHOUT_AGENT_MAX: u32 = 3;

/// What was done to a server, as far as it is not taken back.
#[derive(Debug, Default)]
struct Server {
    /// `None` while it is killed.
    web: Option<Web>,
    faults: Vec<Kind>,
    is_drained: bool,
    is_removed: bool,
}

impl Server {
    fn has(&self, kind: Kind) -> bool {
        self.faults.contains(&kind)
    }

    fn is_in_service(&self) -> bool {
        self.faults.is_empty() && !self.is_drained && !self.is_removed
    }
}

/// A site, its agent, and what happens to them.
pub struct Schedule {
    // `None` while it is dead. It goes first, then the servers.
    agent: Option<Agent>,
    acts_without_agent: u32,
    servers: BTreeMap<String, Server>,
    site: Site,
    size: Size,
    random: Rng,
    faults: Vec<Fault>,
    /// When no agent was alive.
    silences: Vec<(Instant, Option<Instant>)>,
    began: Instant,
    story: String,
    logs: String,
}

impl Schedule {
    pub fn start(site: Site, size: Size, seed: u64) -> Result<Schedule> {
        let mut servers = BTreeMap::new();
        for backend in site.backends() {
            let web = Some(backend.serve_talks()?);
            let server = Server {
                web,
                ..Server::default()
            };
            servers.insert(backend.name().to_owned(), server);
        }
        let mut schedule = Schedule {
            agent: None,
            acts_without_agent: 0,
            servers,
            site,
            size,
            random: Rng::with_seed(seed),
            faults: Vec::new(),
            silences: Vec::new(),
            began: Instant::now(),
            story: String::new(),
            logs: String::new(),
        };
        schedule.start_agent()?;
        schedule.all_are_up()?;
        Ok(schedule)
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// When no agent was there to notice anything.
    pub fn silences(&self) -> &[(Instant, Option<Instant>)] {
        &self.silences
    }

    /// What was done so far, a line each.
    pub fn story(&self) -> String {
        self.story.clone()
    }

    pub fn agent_log(&self) -> String {
        let last = self.agent.as_ref().map(Agent::log).unwrap_or_default();
        self.logs.clone() + &last
    }

    /// Waits a random time, then does something random. A server is killed first, so that every
    /// schedule has flows that die; and the agent is not away for longer than a few actions, or a
    /// short schedule would be all without it.
    pub fn act(&mut self) -> Result<()> {
        thread::sleep(self.size.between.mul_f64(2.0 * self.random.f64()));
        let mut actions = ACTIONS;
        self.random.shuffle(&mut actions);
        if self.faults.is_empty() {
            actions[0] = Action::Begin(Kind::Killed);
        } else if self.agent.is_none() {
            self.acts_without_agent += 1;
            if self.acts_without_agent > ACTS_WITHOUT_AGENT_MAX {
                actions[0] = Action::StartAgent;
            }
        } else {
            self.acts_without_agent = 0;
        }
        for action in actions {
            let mut able: Vec<String> = self.able(action);
            if able.is_empty() {
                continue;
            }
            let name = able.swap_remove(self.random.usize(..able.len()));
            match action {
                Action::KillAgent | Action::StartAgent => self.tell(&format!("{action:?}")),
                _ => self.tell(&format!("{action:?} {name}")),
            }
            return self.carry_out(action, &name);
        }
        Ok(())
    }

    /// Takes everything back, and waits until every backend is up.
    pub fn heal(&mut self) -> Result<()> {
        self.tell("everything is taken back");
        if self.agent.is_none() {
            self.start_agent()?;
        }
        let names: Vec<String> = self.servers.keys().cloned().collect();
        for name in names {
            // Operators first: a backend that is not in the configuration takes no orders.
            for action in ACTIONS {
                let is_end = matches!(action, Action::End(_) | Action::Undrain | Action::Add);
                if is_end && self.able(action).contains(&name) {
                    self.carry_out(action, &name)?;
                }
            }
        }
        self.all_are_up()
    }

    /// To whom this can be done now.
    fn able(&self, action: Action) -> Vec<String> {
        let in_service = self
            .servers
            .values()
            .filter(|it| it.is_in_service())
            .count();
        let may_take_out = |it: &Server| !it.is_in_service() || in_service > IN_SERVICE_MIN;
        let has_agent = self.agent.is_some();
        let is_able = |it: &Server| match action {
            Action::Begin(Kind::Disabled) => {
                has_agent && !it.is_removed && !it.has(Kind::Disabled) && may_take_out(it)
            }
            Action::End(Kind::Disabled) => has_agent && it.has(Kind::Disabled),
            // Its switch for readiness must be reachable.
            Action::Begin(Kind::NotReady) | Action::Flap => {
                it.faults.is_empty() && may_take_out(it)
            }
            Action::End(Kind::NotReady) => {
                it.has(Kind::NotReady) && !it.has(Kind::CutOff) && it.web.is_some()
            }
            Action::Begin(kind) => !it.has(kind) && may_take_out(it),
            Action::End(kind) => it.has(kind),
            Action::Drain => has_agent && !it.is_removed && !it.is_drained && may_take_out(it),
            Action::Undrain => has_agent && it.is_drained,
            Action::Weigh => has_agent && !it.is_removed,
            Action::Remove => {
                has_agent
                    && !it.is_removed
                    && !it.is_drained
                    && !it.has(Kind::Disabled)
                    && may_take_out(it)
            }
            Action::Add => has_agent && it.is_removed,
            Action::KillAgent => has_agent,
            Action::StartAgent => !has_agent,
        };
        let able = self.servers.iter().filter(|(_, it)| is_able(it));
        able.map(|(name, _)| name.clone()).collect()
    }

    fn carry_out(&mut self, action: Action, name: &str) -> Result<()> {
        match action {
            Action::Begin(kind) => self.begin(kind, name),
            Action::End(kind) => self.end(kind, name),
            Action::Flap => {
                let lasts = self
                    .size
                    .check
                    .notices_within()
                    .mul_f64(2.0 * self.random.f64());
                self.begin(Kind::NotReady, name)?;
                thread::sleep(lasts);
                self.end(Kind::NotReady, name)
            }
            Action::Drain => self.drain(name, true),
            Action::Undrain => self.drain(name, false),
            Action::Weigh => {
                let weight = self.random.u32(WEIGHTS);
                weigh(self.agent()?, name, Some(weight)).map(drop)
            }
            Action::Remove => self.configure(name, true),
            Action::Add => self.configure(name, false),
            Action::KillAgent => {
                if let Some(mut agent) = self.agent.take() {
                    self.silences.push((Instant::now(), None));
                    agent.process().kill();
                    self.logs += &agent.log();
                }
                Ok(())
            }
            Action::StartAgent => self.start_agent(),
        }
    }

    fn begin(&mut self, kind: Kind, name: &str) -> Result<()> {
        self.faults.push(Fault {
            backend: name.to_owned(),
            kind,
            began: Instant::now(),
            ended: None,
        });
        match kind {
            Kind::Killed => drop(self.server(name)?.web.take()),
            Kind::CutOff => self.site.backend(name).silence()?,
            Kind::NotReady => self.site.backend(name).set_ready(false)?,
            Kind::Disabled => admin(self.agent()?, name, Intent::Disable).map(drop)?,
        }
        self.server(name)?.faults.push(kind);
        Ok(())
    }

    fn end(&mut self, kind: Kind, name: &str) -> Result<()> {
        match kind {
            Kind::Killed => {
                let web = self.site.backend(name).serve_talks()?;
                self.server(name)?.web = Some(web);
                // A server that starts is ready.
                self.over(Kind::NotReady, name)?;
            }
            Kind::CutOff => self.site.backend(name).unsilence()?,
            Kind::NotReady => self.site.backend(name).set_ready(true)?,
            Kind::Disabled => admin(self.agent()?, name, Intent::Enable).map(drop)?,
        }
        self.over(kind, name)
    }

    fn over(&mut self, kind: Kind, name: &str) -> Result<()> {
        let its = |fault: &&mut Fault| fault.backend == name && fault.kind == kind;
        let last = self.faults.iter_mut().rev().find(its);
        if let Some(fault) = last
            && fault.ended.is_none()
        {
            fault.ended = Some(Instant::now());
        }
        self.server(name)?.faults.retain(|it| *it != kind);
        Ok(())
    }

    fn drain(&mut self, name: &str, is_drained: bool) -> Result<()> {
        let intent = if is_drained {
            Intent::Drain
        } else {
            Intent::Undrain
        };
        admin(self.agent()?, name, intent)?;
        self.server(name)?.is_drained = is_drained;
        Ok(())
    }

    fn configure(&mut self, name: &str, is_removed: bool) -> Result<()> {
        self.server(name)?.is_removed = is_removed;
        let config = self.config().text();
        self.site.gateway().write_config(&config)?;
        reload(self.agent()?, false).map(drop)
    }

    fn start_agent(&mut self) -> Result<()> {
        let agent = self.site.gateway().start_agent(&self.config().text())?;
        self.agent = Some(agent);
        if let Some((_, end)) = self.silences.last_mut() {
            end.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn config(&self) -> ConfigText {
        let Size { window, check, .. } = self.size;
        let (window, interval) = (window.as_millis(), check.interval.as_millis());
        let removed = self.servers.iter().filter(|(_, it)| it.is_removed);
        removed.fold(
            self.site
                .config()
                .port(&TALK_PORT.to_string())
                .pool(
                    "flows",
                    &format!("{{ window = \"{window}ms\", udp_window = \"{window}ms\", idle = \"10m\" }}"),
                )
                .pool(
                    "check",
                    &format!(
                        "{{ kind = \"http\", port = 80, path = \"/readyz\", interval = \"{interval}ms\", \
                         timeout = \"{interval}ms\", rise = 2, fall = {} }}",
                        check.fall
                    ),
                ),
            |config, (name, _)| config.without(name),
        )
    }

    fn all_are_up(&self) -> Result<()> {
        for name in self.servers.keys() {
            let agent = self.agent()?;
            wait::until(&format!("{name} takes flows"), SOON, || {
                backend(agent, name).is_ok_and(|it| it.health == "up" && it.admin == "none")
            })
            .with_context(|| format!("{:#?}\n{}", backend(agent, name), agent.log()))?;
            backend_is(agent, name, "up")?;
        }
        Ok(())
    }

    fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("an agent is alive")
    }

    fn server(&mut self, name: &str) -> Result<&mut Server> {
        self.servers.get_mut(name).context("a server of the site")
    }

    fn tell(&mut self, what: &str) {
        let at: Duration = self.began.elapsed();
        let _ = writeln!(self.story, "  {:>7.1} s  {what}", at.as_secs_f64());
    }
}
