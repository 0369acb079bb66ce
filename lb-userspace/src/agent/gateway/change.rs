//! Start, reload and a changed weight: one path from a configuration to the data plane.
//!
//! Prepare (indices, records, checks, next hops of what is new) → wait until what is new is known,
//! bounded → write on another thread → settle (records, VIPs, answer). A change that cannot be
//! written is taken back, and the configuration before it goes on serving.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lb_common::address::Address;
use lb_common::backend::{Backend, BackendId, NextHop};
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use super::backends::Record;
use super::{FIRST_ROUND_MAX, Gateway, Progress};
use crate::agent::changes;
use crate::agent::datapath::{AttachMode, Attachment, Datapath, DatapathError, remove_pins};
use crate::agent::desired::desired;
use crate::agent::effective::Path;
use crate::agent::events::{event, now};
use crate::agent::identity::{Assignment, assign};
use crate::agent::interface::Interface;
use crate::agent::plan::{Contents, MapWrite, plan};
use crate::agent::stats::Wanted;
use crate::config::{Config, Forward, XdpMode};
use crate::control::{Answer, Reload};

/// A change under way.
pub(super) struct Pending {
    config: Config,
    assignment: Assignment,
    /// When it is written even if new backends are still unknown.
    pub deadline: Instant,
    origin: Origin,
}

/// Who wants the change, and what is to be done when it is written.
pub(super) enum Origin {
    /// The agent starts.
    Start,
    /// A reload; by signal nobody waits for the answer.
    Reload(Option<mpsc::Sender<Answer>>),
    /// Another weight for a backend.
    Weight(mpsc::Sender<Answer>, BackendId),
}

/// What became of writing a change.
pub struct Applied {
    /// What the maps hold now.
    contents: Option<Contents>,
    /// Interfaces that the program was attached to.
    attached: Vec<(String, Attachment)>,
    error: Option<anyhow::Error>,
}

impl Applied {
    /// The writing thread ended by a bug.
    pub fn panicked(error: JoinError) -> Self {
        Self {
            contents: None,
            attached: Vec::new(),
            error: Some(error.into()),
        }
    }
}

impl Gateway {
    /// Begins to serve the configuration that the gateway was opened with.
    ///
    /// # Errors
    /// What is wrong with the host, in one line.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let begun = self.begin_to_serve().await;
        begun.or_else(|error| self.leave_no_trace(error))
    }

    async fn begin_to_serve(&mut self) -> anyhow::Result<()> {
        for name in &self.config.agent.interfaces {
            Interface::by_name(&self.network.netlink, name).await?;
        }
        self.refresh_interfaces().await;
        self.ports.keep_only(&self.network.interfaces);
        let config = self.config.clone();
        self.prepare(config, Origin::Start)?;
        self.write_change_if_ready();
        Ok(())
    }

    /// Removes what a failed start made, unless packets depend on what an earlier agent left.
    fn leave_no_trace(&self, error: anyhow::Error) -> anyhow::Result<()> {
        if self.found_nothing {
            remove_pins(&self.config.agent.pin)?;
        }
        Err(error)
    }

    /// Whether a configuration is in force.
    pub(super) fn is_serving(&self) -> bool {
        !self.assignment.pools.is_empty() || matches!(self.progress, Progress::Idle)
    }

    /// Reads the file again because of SIGHUP, after a change that is under way: a signal cannot be
    /// told to try again.
    pub fn reload_by_signal(&mut self) {
        if !matches!(self.progress, Progress::Idle) {
            self.is_reload_wanted = true;
            return;
        }
        // Whoever sent the signal reads of a refusal in the log and in `lb status`.
        let _ = self.begin_reload(None);
    }

    /// Reads the file again and begins to change to it.
    pub(super) fn reload(&mut self, answers: Option<mpsc::Sender<Answer>>) -> anyhow::Result<()> {
        anyhow::ensure!(
            matches!(self.progress, Progress::Idle),
            "another change is under way; try again in a moment"
        );
        self.begin_reload(answers)
    }

    fn begin_reload(&mut self, answers: Option<mpsc::Sender<Answer>>) -> anyhow::Result<()> {
        self.change_to_file(answers)
            .inspect_err(|error| self.refuse(error))
    }

    fn change_to_file(&mut self, answers: Option<mpsc::Sender<Answer>>) -> anyhow::Result<()> {
        let config = Config::load(&self.config.source)?;
        changes::reloadable(&self.config, &config).map_err(anyhow::Error::msg)?;
        self.prepare(config, Origin::Reload(answers))?;
        self.write_change_if_ready();
        Ok(())
    }

    /// What a reload would change; changes nothing.
    pub(super) fn dry_run(&self) -> anyhow::Result<Reload> {
        let config = Config::load(&self.config.source)?;
        changes::reloadable(&self.config, &config).map_err(anyhow::Error::msg)?;
        let assignment = assign(&config, &self.contents)?;
        let wanted = desired(&config, &assignment, |pool, name| {
            self.intents.of(pool, name).weight
        });
        Ok(Reload {
            applied: false,
            changes: changes::describe(&self.config, &config),
            moved: changes::moved(&self.contents, &wanted),
        })
    }

    /// Builds and writes the tables again, because a weight changed.
    pub(super) fn reweight(
        &mut self,
        answers: mpsc::Sender<Answer>,
        id: BackendId,
    ) -> anyhow::Result<()> {
        self.prepare(self.config.clone(), Origin::Weight(answers, id))?;
        self.write_change_if_ready();
        Ok(())
    }

    fn refuse(&mut self, error: &anyhow::Error) {
        let text = format!("reload refused: {error:#}");
        self.config_error = Some(text.clone());
        self.events.record(event("config", text));
    }

    fn prepare(&mut self, config: Config, origin: Origin) -> anyhow::Result<()> {
        let assignment = assign(&config, &self.contents)?;
        let mut wait = std::time::Duration::ZERO;
        for pool in &config.pools {
            let pool_id = assignment.pools[&pool.name];
            for backend in &pool.backends {
                let id = assignment.backends[&(pool_id, Address::from(backend.address))].id;
                if self.backends.contains(id) {
                    continue;
                }
                let left = self
                    .contents
                    .backends
                    .get(&id)
                    .filter(|it| it.encapsulation != 0)
                    .map(|left| self.without_lost_port(*left));
                let intent = self.intents.of(&pool.name, &backend.name);
                let check = pool.check.as_ref();
                self.backends.add(id, pool, backend, left.as_ref(), &intent);
                self.backends
                    .set_check(id, check, &self.budget, &self.reporter);
                if let Some(check) = check {
                    wait = wait.max(check.interval * check.rise.max(check.fall) + check.timeout);
                }
            }
        }
        self.watch_next_hops();
        let wait = (wait + crate::agent::neighbour::RESOLVE_TIMEOUT).min(FIRST_ROUND_MAX);
        let deadline = Instant::now() + wait;
        let pending = Pending {
            config,
            assignment,
            deadline,
            origin,
        };
        self.progress = Progress::Waiting(Box::new(pending));
        Ok(())
    }

    /// A backend as an earlier agent left it; its next hop is worth nothing if it leads out of an
    /// interface that was removed since.
    fn without_lost_port(&self, left: Backend) -> Backend {
        let next_hop = Some(left.next_hop).filter(|hop| self.ports.contains(hop.port()));
        Backend {
            next_hop: next_hop.unwrap_or(NextHop::UNRESOLVED),
            ..left
        }
    }

    /// Writes the change under way once everything new in it is known.
    pub(super) fn write_change_if_ready(&mut self) {
        let is_known = |record: &Record| {
            let is_served = record.is_published && !matches!(record.path, Path::Unknown);
            is_served || record.is_known()
        };
        if matches!(self.progress, Progress::Waiting(_)) && self.backends.iter().all(is_known) {
            self.write_change();
        }
    }

    /// Hands the change under way to a thread that builds the tables and writes the maps.
    pub(super) fn write_change(&mut self) {
        let pending = match std::mem::replace(&mut self.progress, Progress::Idle) {
            Progress::Waiting(pending) => pending,
            other => {
                self.progress = other;
                return;
            }
        };
        let job = Job {
            datapath: Arc::clone(&self.datapath),
            config: pending.config.clone(),
            assignment: pending.assignment.clone(),
            weights: self.intents.clone(),
            actual: self.contents.clone(),
            fresh: self.fresh_backends(),
            interfaces: pending.config.agent.interfaces.clone(),
            before: self.config.agent.interfaces.clone(),
        };
        let writing = spawn_blocking(move || job.run());
        self.progress = Progress::Writing(pending, writing);
    }

    /// New backends as they are written: those that passed are in service from the first packet.
    fn fresh_backends(&self) -> Vec<(BackendId, Backend)> {
        let fresh = |record: &Record| {
            let next_hop = match &record.path {
                Path::Known(hop) => self
                    .ports
                    .index_of(hop.interface_index)
                    .map_or(NextHop::UNRESOLVED, |port| NextHop::new(hop.mac.0, port)),
                _ => NextHop::UNRESOLVED,
            };
            (
                record.id,
                Backend {
                    state: record.effective.state,
                    next_hop,
                    ..Backend::FREE
                },
            )
        };
        self.backends
            .iter()
            .filter(|record| !record.is_published)
            .map(fresh)
            .collect()
    }

    /// The change was written, or taken back.
    ///
    /// # Errors
    /// While the agent starts: why it cannot serve.
    pub(super) async fn finish_change(&mut self, applied: Applied) -> anyhow::Result<()> {
        let Progress::Writing(pending, _) = std::mem::replace(&mut self.progress, Progress::Idle)
        else {
            return Ok(());
        };
        if let Some(contents) = applied.contents {
            self.contents = contents;
        }
        let lasting = applied.attached.iter().filter(|_| applied.error.is_none());
        for (interface, attachment) in lasting {
            let text = match attachment {
                Attachment::Updated => format!("took over the program on {interface}"),
                Attachment::Native => format!("attached to {interface}, native XDP"),
                Attachment::Generic => {
                    format!("attached to {interface}, generic XDP (its driver has no native one)")
                }
            };
            self.events.record(event("attach", text));
        }
        if let Some(error) = applied.error {
            return self.take_back(*pending, error);
        }
        self.settle(*pending).await
    }

    /// The maps hold what they held; so shall everything else.
    fn take_back(&mut self, pending: Pending, error: anyhow::Error) -> anyhow::Result<()> {
        for id in self.backends.ids() {
            if self
                .backends
                .get(id)
                .is_some_and(|record| !record.is_published)
            {
                self.backends.remove(id);
            }
        }
        self.watch_next_hops();
        self.replay_postponed();
        match pending.origin {
            Origin::Start => return self.leave_no_trace(error),
            Origin::Reload(answers) => {
                self.refuse(&error);
                reply(
                    answers,
                    Answer::Error(format!("{error:#}; the old configuration serves")),
                );
            }
            Origin::Weight(answers, _) => {
                reply(
                    Some(answers),
                    Answer::Error(format!("{error:#}; the old weight counts")),
                );
            }
        }
        Ok(())
    }

    /// The maps hold the new configuration: everything else follows.
    async fn settle(&mut self, pending: Pending) -> anyhow::Result<()> {
        let Pending {
            config,
            assignment,
            origin,
            ..
        } = pending;
        let described = changes::describe(&self.config, &config);
        let before = std::mem::replace(&mut self.config, config);
        self.assignment = assignment;
        self.adopt_records();
        self.watch_next_hops();
        self.replay_postponed();
        self.refresh_interfaces().await;
        if let Err(error) = self.place_vips().await {
            // Packets that reach this host are served all the same; `lb status` shows the VIP as
            // missing, and the next change tries again.
            self.events
                .record(event("vip", format!("cannot place the VIPs: {error:#}")));
        }
        match origin {
            Origin::Start => {
                crate::runtime::notify_ready();
                let text = format!("serving {}", self.config.source.display());
                self.events.record(event("agent", text));
            }
            Origin::Reload(answers) => {
                self.config_since = now();
                self.config_error = None;
                let moved = self.moved_since(&before);
                let text = match described.len() {
                    0 => "reloaded, nothing changed".to_owned(),
                    changes => format!("reloaded, {changes} changes"),
                };
                self.events.record(event("config", text));
                let reload = Reload {
                    applied: true,
                    changes: described,
                    moved,
                };
                reply(answers, Answer::Reload(reload));
            }
            Origin::Weight(answers, id) => {
                let status = self.backend_status(id);
                reply(
                    Some(answers),
                    status.map_or_else(
                        || Answer::Error("the backend is gone".into()),
                        |status| Answer::Backend(Box::new(status)),
                    ),
                );
            }
        }
        Ok(())
    }

    /// Brings the records in line with the configuration in force: names, roles, weights, checks;
    /// those that left go, and the share of every one is counted anew.
    fn adopt_records(&mut self) {
        let mut kept = std::collections::BTreeSet::new();
        for pool in self.config.pools.clone() {
            let pool_id = self.assignment.pools[&pool.name];
            let table = self
                .contents
                .tables
                .get(&pool_id)
                .cloned()
                .unwrap_or_default();
            let mut owned = std::collections::BTreeMap::<BackendId, u32>::new();
            for slot in table.iter() {
                *owned.entry(slot.rung(0)).or_default() += 1;
            }
            for backend in &pool.backends {
                let id = self.assignment.backends[&(pool_id, Address::from(backend.address))].id;
                kept.insert(id);
                let intent = self.intents.of(&pool.name, &backend.name);
                self.backends
                    .set_check(id, pool.check.as_ref(), &self.budget, &self.reporter);
                let slots = owned.get(&id).copied().unwrap_or(0);
                let share = f64::from(slots) / table.len().max(1) as f64;
                self.update(id, None, |record| {
                    record.pool.clone_from(&pool.name);
                    record.is_on_link = pool.forward == Forward::L2;
                    record.config = backend.clone();
                    record.share = share;
                    record.set_intent(&intent);
                });
                self.publish(id);
            }
        }
        for id in self.backends.ids() {
            if !kept.contains(&id) {
                self.backends.remove(id);
            }
        }
        self.stats.want(Wanted {
            backends: self.backends.ids(),
            services: self.assignment.counters.values().copied().collect(),
        });
    }

    /// From now on the backend's state and next hop are stored as they change; what changed while
    /// its element was being written is stored now.
    fn publish(&mut self, id: BackendId) {
        let Some(record) = self.backends.get_mut(id) else {
            return;
        };
        let is_new = !record.is_published;
        record.is_published = true;
        if let (true, Path::Known(hop)) = (is_new, &record.path)
            && let Some(port) = self.ports.index_of(hop.interface_index)
        {
            self.states.set_next_hop(id, NextHop::new(hop.mac.0, port));
        }
        let state = record.effective.state;
        if self.states.state(id) != state {
            self.states.set_state(id, state);
        }
    }

    fn replay_postponed(&mut self) {
        for report in std::mem::take(&mut self.postponed) {
            self.verdict(report);
        }
    }

    /// Slots that a change moved. The old tables are gone by now; they are built again, which is
    /// cheaper than keeping them.
    fn moved_since(&self, before: &Config) -> Vec<crate::control::Moved> {
        let weight = |pool: &str, name: &str| self.intents.of(pool, name).weight;
        let Ok(assignment) = assign(before, &self.contents) else {
            return Vec::new();
        };
        changes::moved(&desired(before, &assignment, weight), &self.contents)
    }
}

fn reply(answers: Option<mpsc::Sender<Answer>>, answer: Answer) {
    if let Some(answers) = answers {
        // A client that went away does not want it any more.
        let _ = answers.try_send(answer);
    }
}

/// What the writing thread needs.
struct Job {
    datapath: Arc<Mutex<Datapath>>,
    config: Config,
    assignment: Assignment,
    weights: crate::agent::intent::Intents,
    actual: Contents,
    fresh: Vec<(BackendId, Backend)>,
    interfaces: Vec<String>,
    before: Vec<String>,
}

impl Job {
    fn run(self) -> Applied {
        let mut wanted = desired(&self.config, &self.assignment, |pool, name| {
            self.weights.of(pool, name).weight
        });
        for (id, fresh) in &self.fresh {
            if let Some(backend) = wanted.backends.get_mut(id) {
                backend.state = fresh.state;
                backend.next_hop = fresh.next_hop;
            }
        }
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attached = Vec::new();
        let error = write(&mut datapath, &plan(&wanted, &self.actual))
            .map_err(anyhow::Error::from)
            .and_then(|()| self.attach(&mut datapath, &mut attached))
            .err();
        if error.is_some() {
            self.restore(&mut datapath, &attached);
        }
        match datapath.actual() {
            Ok(contents) => Applied {
                contents: Some(contents),
                attached,
                error,
            },
            Err(unread) => {
                let error = error.unwrap_or_else(|| unread.into());
                Applied {
                    contents: None,
                    attached,
                    error: Some(error),
                }
            }
        }
    }

    /// Attaches to the configuration's interfaces, then leaves those that it no longer names.
    fn attach(
        &self,
        datapath: &mut Datapath,
        attached: &mut Vec<(String, Attachment)>,
    ) -> anyhow::Result<()> {
        let linked = datapath.pins().linked_interfaces();
        let is_running = datapath.is_taken_over();
        for interface in &self.interfaces {
            if is_running && linked.contains(interface) && self.before.contains(interface) {
                continue;
            }
            let index = nix::net::if_::if_nametoindex(interface.as_str()).map_err(|_| {
                anyhow::anyhow!(
                    "there is no network interface {interface} on this host: `ip link` lists those \
                     there are"
                )
            })?;
            let mode = attach_mode(self.config.agent.xdp_mode);
            attached.push((interface.clone(), datapath.attach(interface, index, mode)?));
        }
        for interface in linked.iter().filter(|name| !self.interfaces.contains(name)) {
            datapath.detach(interface)?;
        }
        datapath.set_taken_over();
        Ok(())
    }

    /// Writes back what was there before a write failed, and leaves the interfaces that were new.
    fn restore(&self, datapath: &mut Datapath, attached: &[(String, Attachment)]) {
        let is_new = |attachment: &Attachment| *attachment != Attachment::Updated;
        for (interface, _) in attached.iter().filter(|(_, how)| is_new(how)) {
            if let Err(error) = datapath.detach(interface) {
                tracing::error!(%error, "cannot take the program off {interface} again");
            }
        }
        let restored = datapath
            .actual()
            .and_then(|actual| write(datapath, &plan(&self.actual, &actual)));
        if let Err(error) = restored {
            tracing::error!(%error, "cannot write back the tables as they were");
        }
    }
}

fn write(datapath: &mut Datapath, writes: &[MapWrite]) -> Result<(), DatapathError> {
    writes.iter().try_for_each(|write| datapath.apply(write))
}

pub(super) fn attach_mode(mode: XdpMode) -> AttachMode {
    match mode {
        XdpMode::Auto => AttachMode::Auto,
        XdpMode::Native => AttachMode::Native,
        XdpMode::Generic => AttachMode::Generic,
    }
}

/// Kernel memory that the maps take under this configuration, bytes.
pub(super) fn memory_bytes(config: &Config) -> u64 {
    crate::agent::datapath::memory_bytes(config.pools.iter().map(|pool| pool.slots))
}
