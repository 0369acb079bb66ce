//! The one task that decides: what it knows of each backend, and what it makes of each message.
//!
//! A health verdict or a lost next hop becomes one store in the mapped backend array, before
//! anything else is done with it. A change of the configuration goes through [`change`]: prepared
//! here, built and written on another thread, while verdicts that take a backend out of service are
//! still stored at once.

mod answer;
mod backends;
mod change;
mod flows;
mod network;
mod route;
mod settle;
mod stability;
mod status;
mod sweep;
mod told;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use lb_common::backend::BackendId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::backends::{Backends, Record};
use self::change::Pending;
use self::flows::{Duties, FlowNews, wanted};
use self::network::Network;
use self::write::Applied;
use super::datapath::{BackendStates, Datapath, FlowSizes, Options};
use super::effective::{Effective, Health, decide};
use super::events::{Events, event, now};
use super::flows::Flows;
use super::identity::Assignment;
use super::intent::Intents;
use super::interface::LinkChange;
use super::neighbour::NextHopChange;
use super::plan::Contents;
use super::ports::Ports;
use super::stats::Stats;
use crate::config::Config;
use crate::control::Event;
use crate::health::{Budget, Report, Verdict};

/// Verdicts that may wait for the gateway; a checker whose report does not fit waits with it.
const REPORTS_WAITING_MAX: usize = 1024;

/// The agent's state. See the module's documentation.
pub struct Gateway {
    since: String,
    config: Config,
    config_since: String,
    config_error: Option<String>,
    datapath: Arc<Mutex<Datapath>>,
    states: Arc<BackendStates>,
    flows: Flows,
    duties: Duties,
    /// A pool that left the configuration is no longer asked by any service.
    is_tidying_wanted: bool,
    contents: Contents,
    /// Whether no agent had served here before.
    found_nothing: bool,
    assignment: Assignment,
    backends: Backends,
    intents: Intents,
    ports: Ports,
    network: Network,
    budget: Arc<Budget>,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
    stats: Stats,
    events: Events,
    progress: Progress,
    /// Verdicts that put a backend into service and came while a change was being written.
    postponed: Vec<Report>,
    /// SIGHUP came while a change was under way.
    is_reload_wanted: bool,
}

/// How far a change of the configuration is.
enum Progress {
    /// There is none.
    Idle,
    /// New backends are being checked for the first time.
    Waiting(Box<Pending>),
    /// It is being written.
    Writing(Box<Pending>, JoinHandle<Applied>),
}

/// A message to the gateway.
pub enum Happening {
    /// A verdict.
    Report(Report),
    /// A next hop.
    NextHop(NextHopChange),
    /// An interface.
    Link(LinkChange),
    /// New backends have had their time to pass a check.
    Deadline,
    /// A change was written, or could not be.
    Applied(Applied),
    /// Something about flows.
    Flows(FlowNews),
}

impl Gateway {
    /// Opens the data plane and reads what an earlier agent left there. Changes nothing that runs.
    ///
    /// # Errors
    /// What the host lacks, in one line.
    pub fn open(config: Config, log_packets: bool) -> anyhow::Result<Self> {
        let intents = Intents::load(&config.agent.state)?;
        let bytes = write::memory_bytes(&config, FlowSizes::of(config.agent.flows_max));
        tracing::info!(mebibytes = bytes >> 20, "kernel memory that the maps take");
        let mut datapath = Datapath::open(&Options {
            log_packets,
            flows_max: config.agent.flows_max,
            ..Options::at(&config.agent.pin)
        })?;
        // Before anything is read: from now on the program leaves all decisions to this agent.
        let heartbeat = datapath.heartbeat()?;
        if log_packets {
            datapath
                .forward_packet_log()
                .context("cannot read the program's log of packets")?;
        }
        let contents = datapath.actual()?;
        let states = Arc::new(datapath.backend_states()?);
        let duties = Duties::start(&datapath, heartbeat)?;
        if duties.sizes != FlowSizes::of(config.agent.flows_max) {
            tracing::warn!(
                flows_max = config.agent.flows_max,
                in_use = duties.sizes.kept,
                "the maps of flows keep the size that they were made with; lb detach and a new \
                 start make others"
            );
        }
        let stats = Stats::start(datapath.counters()?);
        let network = Network::start(intents.vips.clone())?;
        let (reporter, reports) = mpsc::channel(REPORTS_WAITING_MAX);
        let mut gateway = Self {
            since: now(),
            config_since: now(),
            config_error: None,
            datapath: Arc::new(Mutex::new(datapath)),
            states,
            ports: Ports::adopt(contents.ports.clone()),
            found_nothing: contents.pools.is_empty(),
            contents,
            assignment: Assignment::default(),
            backends: Backends::default(),
            intents,
            network,
            budget: Arc::new(Budget::new(config.agent.probes_per_second)),
            reports,
            reporter,
            stats,
            events: Events::default(),
            progress: Progress::Idle,
            postponed: Vec::new(),
            is_reload_wanted: false,
            flows: Flows::default(),
            duties,
            is_tidying_wanted: false,
            config,
        };
        gateway.adopt_flows()?;
        Ok(gateway)
    }

    /// Whether requests are taken now: not while a change is being written, which takes
    /// milliseconds.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        !matches!(self.progress, Progress::Writing(..))
    }

    /// Waits for the next message. Cancel-safe.
    pub async fn next(&mut self) -> Happening {
        let is_sweeping = self.duties.is_sweeping();
        match &mut self.progress {
            Progress::Writing(_, writing) => tokio::select! {
                biased;
                Some(report) = self.reports.recv() => Happening::Report(report),
                applied = writing => Happening::Applied(applied.unwrap_or_else(Applied::panicked)),
            },
            Progress::Waiting(pending) => tokio::select! {
                biased;
                Some(report) = self.reports.recv() => Happening::Report(report),
                happening = self.network.next() => happening,
                happening = self.duties.next(&self.flows) => happening,
                () = tokio::time::sleep_until(pending.deadline.into()),
                    if !is_sweeping => Happening::Deadline,
            },
            Progress::Idle => tokio::select! {
                biased;
                Some(report) = self.reports.recv() => Happening::Report(report),
                happening = self.network.next() => happening,
                happening = self.duties.next(&self.flows) => happening,
            },
        }
    }

    /// Acts on a message.
    ///
    /// # Errors
    /// Only while the agent starts: what it was told to do cannot be done.
    pub async fn handle(&mut self, happening: Happening) -> anyhow::Result<()> {
        match happening {
            Happening::Report(report) => self.verdict(report),
            Happening::NextHop(change) => self.next_hop(change).await,
            Happening::Link(change) => self.link(change).await,
            Happening::Flows(news) => self.flow_news(news),
            Happening::Deadline => self.write_change(),
            Happening::Applied(applied) => {
                self.finish_change(applied).await?;
                if std::mem::take(&mut self.is_reload_wanted) {
                    self.reload_by_signal();
                }
                return Ok(());
            }
        }
        self.write_change_if_ready();
        Ok(())
    }

    /// A checker changed its mind.
    fn verdict(&mut self, report: Report) {
        let puts_into_service = matches!(report.verdict, Verdict::Up);
        if puts_into_service && matches!(self.progress, Progress::Writing(..)) {
            self.postponed.push(report);
            return;
        }
        // A checker that was just replaced may still have reported.
        let Some(id) = self.backends.by_key(report.id) else {
            return;
        };
        let health = match &report.verdict {
            Verdict::Up => Health::Up,
            Verdict::Down { reason } => Health::Down {
                reason: reason.clone(),
            },
        };
        let decided = Decided {
            began: report.began,
            ended: report.ended,
        };
        self.update(id, Some(decided), |record| record.set_health(health));
    }

    /// Changes what is known of a backend and stores what follows from it.
    fn update(
        &mut self,
        id: BackendId,
        decided: Option<Decided>,
        change: impl FnOnce(&mut Record),
    ) {
        let Some(record) = self.backends.get_mut(id) else {
            return;
        };
        change(record);
        let mut effective = decide(record.admin, &record.health, &record.path);
        if record.is_published {
            let wanted = wanted(&effective, record.admin, record.is_removed);
            let state = self.store_wanted(id, wanted);
            effective.follow(state, wanted);
        }
        let Some(record) = self.backends.get_mut(id) else {
            return;
        };
        if effective == record.effective {
            return;
        }
        let stored = Instant::now();
        let is_news = effective.word() != record.effective.word();
        let happened = is_news.then(|| state_event(record, &effective, decided, stored));
        record.set_effective(effective);
        if let Some(happened) = happened {
            self.events.record(happened);
        }
    }

    fn datapath(&self) -> MutexGuard<'_, Datapath> {
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The probe that decided a verdict.
#[derive(Clone, Copy)]
struct Decided {
    began: Instant,
    ended: Instant,
}

fn state_event(
    record: &Record,
    effective: &Effective,
    decided: Option<Decided>,
    stored: Instant,
) -> Event {
    let micros = |from: Instant| stored.saturating_duration_since(from).as_micros() as u64;
    let word = effective.word();
    Event {
        pool: Some(record.pool.clone()),
        backend: Some(record.config.name.clone()),
        state: Some(word.into()),
        detection_us: decided.map(|decided| micros(decided.began)),
        store_us: decided.map(|decided| micros(decided.ended)),
        ..event(
            "state",
            format!(
                "{}/{} is {word}: {}",
                record.pool, record.config.name, effective.reason
            ),
        )
    }
}

/// How long new backends have to pass their first checks before a change goes on without them.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(5);
