//! Start, reload and a changed weight: one path from a configuration to the data plane.
//!
//! Prepare (indices, records, checks, next hops of what is new) → wait until what is new is known,
//! bounded → `write` on another thread → `settle` (records, VIPs, answer). A change that cannot be
//! written is taken back, and the configuration before it goes on serving.

use std::sync::Arc;
use std::time::Instant;

use lb_common::address::Address;
use lb_common::backend::{Backend, BackendId, BackendState, NextHop};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::backends::Record;
use super::flows::{rules, wanted};
use super::write::Job;
use super::{FIRST_ROUND_MAX, Gateway, Progress};
use crate::agent::changes;
use crate::agent::datapath::remove_pins;
use crate::agent::desired::desired;
use crate::agent::effective::Path;
use crate::agent::events::event;
use crate::agent::identity::{Assignment, assign};
use crate::agent::interface::Interface;
use crate::config::Config;
use crate::control::{Answer, Reload};

/// A change under way.
pub(super) struct Pending {
    pub config: Config,
    pub assignment: Assignment,
    /// When it is written even if new backends are still unknown.
    pub deadline: Instant,
    pub origin: Origin,
}

/// Who wants the change, and what is to be done when it is written.
pub(super) enum Origin {
    /// The agent starts.
    Start,
    /// Nobody: a pool that left the configuration is given back.
    Tidying,
    /// A reload; by signal nobody waits for the answer.
    Reload(Option<mpsc::Sender<Answer>>),
    /// Another weight for a backend.
    Weight {
        answers: mpsc::Sender<Answer>,
        id: BackendId,
        /// What counts again if it cannot be written.
        before: Option<u32>,
    },
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
    pub(super) fn leave_no_trace(&self, error: anyhow::Error) -> anyhow::Result<()> {
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

    /// Answers what a reload would change; changes nothing. The tables are built on another thread.
    pub(super) fn dry_run(&self, answers: mpsc::Sender<Answer>) -> anyhow::Result<()> {
        let config = Config::load(&self.config.source)?;
        changes::reloadable(&self.config, &config).map_err(anyhow::Error::msg)?;
        let assignment = assign(&config, &self.contents)?;
        let changes = changes::describe(&self.config, &config);
        let (intents, contents) = (self.intents.clone(), self.contents.clone());
        spawn_blocking(move || {
            let weight = |pool: &str, name: &str| intents.of(pool, name).weight;
            let wanted = desired(&config, &assignment, weight);
            let reload = Reload {
                applied: false,
                changes,
                moved: changes::moved(&contents, &wanted),
            };
            // A client that went away does not want it any more.
            let _ = answers.try_send(Answer::Reload(reload));
        });
        Ok(())
    }

    /// Builds and writes the tables again, because a weight changed.
    pub(super) fn reweight(
        &mut self,
        answers: mpsc::Sender<Answer>,
        id: BackendId,
        before: Option<u32>,
    ) -> anyhow::Result<()> {
        let origin = Origin::Weight {
            answers,
            id,
            before,
        };
        self.prepare(self.config.clone(), origin)?;
        self.write_change_if_ready();
        Ok(())
    }

    /// Writes what the configuration in force wants: less than the maps hold, if they hold what only
    /// flows needed.
    pub(super) fn change_nothing(&mut self) -> anyhow::Result<()> {
        self.prepare(self.config.clone(), Origin::Tidying)?;
        self.write_change_if_ready();
        Ok(())
    }

    pub(super) fn refuse(&mut self, error: &anyhow::Error) {
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
        if self.duties.is_sweeping() {
            // It reads tables and services as they are; it ends within a batch, and this is asked
            // again.
            self.duties.cancel_sweep();
            return;
        }
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
            fresh: self.fresh_backends(&pending.assignment),
            flows: self.flows.evaluator(),
            rules: pending
                .config
                .pools
                .iter()
                .map(|pool| (pending.assignment.pools[&pool.name], rules(pool)))
                .collect(),
            interfaces: pending.config.agent.interfaces.clone(),
            before: self.config.agent.interfaces.clone(),
        };
        let writing = spawn_blocking(move || job.run());
        self.progress = Progress::Writing(pending, writing);
    }

    /// New backends as they are written: those that passed are in service from the first packet of
    /// a pool that is new too; in a table that has flows they begin when it names them.
    fn fresh_backends(&self, assignment: &Assignment) -> Vec<(BackendId, Backend)> {
        let fresh = |record: &Record| {
            let next_hop = match &record.path {
                Path::Known(hop) => self
                    .ports
                    .index_of(hop.interface_index)
                    .map_or(NextHop::UNRESOLVED, |port| NextHop::new(hop.mac.0, port)),
                _ => NextHop::UNRESOLVED,
            };
            let wanted = wanted(&record.effective, record.admin, false);
            let state = assignment
                .pools
                .get(&record.pool)
                .map_or(BackendState::DOWN, |pool| {
                    self.flows.first_state(*pool, wanted)
                });
            (
                record.id,
                Backend {
                    state,
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
}
