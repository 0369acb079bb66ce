//! The small site that the demo plays on, and waiting on it: while it waits, everything that
//! happens is shown.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_tests::agent::Agent;
use lb_tests::canary::Canary;
use lb_tests::load::{Load, Report, Running};
use lb_tests::site::{Families, Site};
use lb_tests::web::Web;
use lb_userspace::control::client::Client;
use lb_userspace::control::{Answer, Intent, Request, Status};

use crate::console::{Console, Rates};
use crate::interrupt::Interrupt;
use crate::news::{NEWS_WAITING_MAX, News, follow};

/// Clients at a time; each opens a new connection for every request.
pub const CLIENTS: u8 = 4;
/// Ports that the clients use. With the kernel's own range, and one address for all clients, a
/// port would come round again after a second, while a server that a flow was taken from in the
/// middle still repeats what it had to say to that port.
const PORTS: &str = "1024 65535";
/// What a client waits between two requests, so that two processors have some time left.
const PAUSE: Duration = Duration::from_millis(1);
/// When a client gives a request up. A lost SYN is sent again only after a second: a client that
/// waits for that is not told of a silent server any sooner.
pub const TIMEOUT: Duration = Duration::from_millis(250);
/// How long anything may take to show in the agent's events.
const SHOWS_MAX: Duration = Duration::from_secs(5);
/// How long anything may take to show at the data tiers: PostgreSQL starts and rewinds.
const DATA_SHOWS_MAX: Duration = Duration::from_secs(30);
/// How often logic servers are asked whether they know.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How often a waiting demo looks whether it was interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the rates are shown.
const RATES_EVERY: Duration = Duration::from_secs(1);
/// The check of the demo's pool.
const CHECK: &str = "{ kind = \"http\", port = 80, path = \"/readyz\", interval = \"50ms\", \
                     timeout = \"40ms\", rise = 2, fall = 2 }";

/// What clients at work see, for the line that is drawn each second.
pub trait Seen {
    /// Answers by server, and failures, over the second before `now`.
    fn rates(&self, now: Instant) -> Rates;
    /// The servers, in the order of the line.
    fn servers(&self) -> Vec<String>;
}

/// The site and everything that runs on it; all of it goes when this is dropped.
pub struct Stage {
    /// Where the demo tells what it does.
    pub console: Console,
    /// Notices when this machine itself stalls.
    pub canary: Canary,
    interrupt: Interrupt,
    news: Receiver<News>,
    teller: SyncSender<News>,
    next_rates: Instant,
    /// What the clients of a data tier see, while they are at work.
    seen: Option<Rc<dyn Seen>>,
    /// What the data tiers add to the agent's configuration.
    services: String,
    // In the order in which they end: clients first, hosts last.
    load: Vec<Running>,
    agent: Option<Agent>,
    servers: BTreeMap<String, Web>,
    site: Site,
}

impl Stage {
    /// Makes the hosts and starts the servers and the agent.
    ///
    /// # Errors
    /// If this machine refuses a namespace, or something does not start.
    pub fn build(interrupt: Interrupt) -> Result<Stage> {
        let mut console = Console::new();
        console.line("making the site: a client, a router, a gateway, three primaries, a standby");
        let site = Site::builder()
            .primaries(3)
            .standbys(1)
            .families(Families::V4)
            .build()?;
        let (teller, news) = sync_channel(NEWS_WAITING_MAX);
        let mut stage = Stage {
            console,
            canary: Canary::start(),
            interrupt,
            news,
            teller,
            next_rates: Instant::now(),
            seen: None,
            services: String::new(),
            load: Vec::new(),
            agent: None,
            servers: BTreeMap::new(),
            site,
        };
        stage.prepare_clients()?;
        for name in stage.backends() {
            stage.serve(&name)?;
        }
        stage.start_agent()?;
        Ok(stage)
    }

    /// The site.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Names of all backends, primaries first.
    pub fn backends(&self) -> Vec<String> {
        let backends = self.site.backends().iter();
        backends.map(|backend| backend.name().to_owned()).collect()
    }

    /// Starts the web server of a backend.
    ///
    /// # Errors
    /// If it does not start.
    pub fn serve(&mut self, backend: &str) -> Result<()> {
        self.interrupt.check()?;
        let server = self.site.backend(backend).serve()?;
        self.servers.insert(backend.to_owned(), server);
        Ok(())
    }

    /// Kills the web server of a backend (SIGKILL).
    pub fn kill(&mut self, backend: &str) {
        if let Some(server) = self.servers.get_mut(backend) {
            server.kill();
        }
    }

    /// The process id of a backend's web server.
    pub fn server_pid(&mut self, backend: &str) -> Option<u32> {
        self.servers
            .get_mut(backend)
            .map(|server| server.process().pid())
    }

    /// Starts `lb agent`, follows its events and waits until it serves and every check has passed;
    /// since when it serves. Its program may be in place already.
    ///
    /// # Errors
    /// If that does not come: with its log.
    pub fn start_agent(&mut self) -> Result<Instant> {
        self.interrupt.check()?;
        let start = Instant::now();
        let agent = self.site.gateway().start_agent(&self.config())?;
        // It ends with the agent, and nothing waits for it.
        drop(follow(agent.control_socket(), self.teller.clone())?);
        self.agent = Some(agent);
        let serves = self.wait_for("the agent serves", start, |news| {
            news.event.kind == "agent" && news.event.text.starts_with("serving")
        })?;
        // None shall count as up only because it was when an earlier agent ended.
        self.wait_until_all_are_up()?;
        Ok(serves)
    }

    fn config(&self) -> String {
        self.site.config().pool("check", CHECK).text() + &self.services
    }

    /// Adds pools and services to the agent's configuration, and waits until every check passes.
    ///
    /// # Errors
    /// If the agent refuses them, or a backend stays down.
    pub fn add_services(&mut self, services: &str) -> Result<()> {
        self.services.push_str(services);
        self.site.gateway().write_config(&self.config())?;
        self.ask(&Request::Reload { dry_run: false })?;
        self.wait_until_all_are_up()
    }

    /// Shows what these clients see from now on; `None`: nothing.
    pub fn show(&mut self, seen: Option<Rc<dyn Seen>>) {
        self.next_rates = Instant::now() + RATES_EVERY;
        self.seen = seen;
    }

    /// Kills the agent (SIGKILL).
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Tells the agent what the operator wants of a backend.
    ///
    /// # Errors
    /// If it refuses.
    pub fn admin(&self, backend: &str, intent: Intent) -> Result<()> {
        let request = Request::Admin {
            backend: backend.into(),
            pool: None,
            intent,
        };
        self.ask(&request).map(drop)
    }

    /// Asks the agent.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub fn ask(&self, request: &Request) -> Result<Answer> {
        let mut client = Client::connect(&self.site.gateway().control_socket())?;
        Ok(client.ask(request)?)
    }

    fn status(&self) -> Result<Status> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(*status),
            other => bail!("the agent answered {other:?} instead of its status"),
        }
    }

    fn wait_until_all_are_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + SHOWS_MAX;
        loop {
            let status = self.status()?;
            let mut backends = status.pools.iter().flat_map(|pool| &pool.backends);
            let not_yet = backends.find(|it| it.state != "up" || it.health != "up");
            let Some(backend) = not_yet else {
                return Ok(());
            };
            if Instant::now() > deadline {
                let log = self.agent.as_ref().map(Agent::log).unwrap_or_default();
                bail!(
                    "{} is {}: {}\n{log}",
                    backend.name,
                    backend.state,
                    backend.reason
                );
            }
            self.turn(Instant::now() + LOOK_EVERY)?;
        }
    }

    /// Gives each client an address of its own.
    fn prepare_clients(&self) -> Result<()> {
        let client = self.site.client();
        client.sysctl("ipv4/ip_local_port_range", PORTS)?;
        for number in 1..CLIENTS {
            let address = format!("{}/24", self.client_address(number));
            client.ip(&["address", "add", &address, "dev", "eth0"])?;
        }
        Ok(())
    }

    /// The first client has the host's own address, the others those after it.
    fn client_address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.site.client().v4().to_bits() + u32::from(number))
    }

    /// Starts the clients.
    pub fn start_load(&mut self) -> Instant {
        let start = Instant::now();
        self.next_rates = start + RATES_EVERY;
        let load = Load::http(self.site.vip()).pause(PAUSE).timeout(TIMEOUT);
        let one = |number| {
            let load = load.clone().from(self.client_address(number).into());
            load.start(self.site.client())
        };
        self.load = (0..CLIENTS).map(one).collect();
        start
    }

    /// Stops the clients; everything that they asked.
    pub fn stop_load(&mut self) -> Report {
        merged(self.load.drain(..).map(Running::stop))
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`crate::interrupt::Interrupted`].
    pub fn pass_until(&mut self, until: Instant) -> Result<()> {
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    /// Waits for news of something that happens after `since`; when it happened.
    ///
    /// # Errors
    /// If it does not come, or the demo is interrupted.
    pub fn wait_for(
        &mut self,
        what: &str,
        since: Instant,
        is_it: impl Fn(&News) -> bool,
    ) -> Result<Instant> {
        let deadline = since + SHOWS_MAX;
        while Instant::now() < deadline {
            if let Some(news) = self.turn(deadline)?
                && news.at >= since
                && is_it(&news)
            {
                return Ok(news.at);
            }
        }
        let log = self.agent.as_ref().map(Agent::log).unwrap_or_default();
        bail!("waited {SHOWS_MAX:?} in vain for: {what}\n{log}")
    }

    /// Waits until something is so; when it was seen first.
    ///
    /// # Errors
    /// If it does not become so, or the demo is interrupted.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) -> Result<Instant> {
        let deadline = Instant::now() + DATA_SHOWS_MAX;
        while Instant::now() < deadline {
            if is_so() {
                return Ok(Instant::now());
            }
            self.turn(Instant::now() + ASK_EVERY)?;
        }
        bail!("waited {DATA_SHOWS_MAX:?} in vain for: {what}")
    }

    /// Waits for one piece of news, shows it, and keeps the rates fresh.
    fn turn(&mut self, until: Instant) -> Result<Option<News>> {
        self.interrupt.check()?;
        let now = Instant::now();
        if now >= self.next_rates {
            self.show_rates(now);
        }
        let wait = until.saturating_duration_since(now).min(LOOK_EVERY);
        match self.news.recv_timeout(wait) {
            Ok(news) => {
                self.console
                    .happened(news.at, &format!("lb: {}", news.event.text));
                Ok(Some(news))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(RecvTimeoutError::Disconnected).context("the stage itself holds a sender")
            }
        }
    }

    fn show_rates(&mut self, now: Instant) {
        if let Some(seen) = &self.seen {
            self.console.rates(now, &seen.rates(now), &seen.servers());
        } else if !self.load.is_empty() {
            let so_far = merged(self.load.iter().map(Running::so_far));
            let rates = Rates::of_second_before(now, &so_far.requests);
            self.console.rates(now, &rates, &self.backends());
        }
        while self.next_rates <= now {
            self.next_rates += RATES_EVERY;
        }
    }
}

/// All requests, in the order of their beginning.
fn merged(reports: impl Iterator<Item = Report>) -> Report {
    let mut requests: Vec<_> = reports.flat_map(|report| report.requests).collect();
    requests.sort_by_key(|request| request.start);
    Report { requests }
}
