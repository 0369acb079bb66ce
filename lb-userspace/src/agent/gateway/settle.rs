//! After a change was written: records, VIPs, statistics and the answer follow, or, where it could
//! not be written, everything that was prepared for it goes again.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::Address;
use lb_common::backend::{BackendId, NextHop};
use lb_common::pool::PoolId;
use tokio::sync::mpsc;

use super::change::{Origin, Pending};
use super::write::Applied;
use super::{Gateway, Progress};
use crate::agent::changes;
use crate::agent::datapath::Attachment;
use crate::agent::effective::Path;
use crate::agent::events::{event, now};
use crate::agent::flows::TableChange;
use crate::agent::stats::Wanted;
use crate::config::Forward;
use crate::control::{Answer, Moved, Reload};

impl Gateway {
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
        self.settle(*pending, applied.moved, applied.tables).await
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
        for id in self.backends.ids() {
            self.store(id);
        }
        self.watch_next_hops();
        self.replay_postponed();
        match pending.origin {
            Origin::Start => return self.leave_no_trace(error),
            Origin::Tidying => {
                tracing::warn!("cannot give an old pool's memory back: {error:#}");
            }
            Origin::Reload(answers) => {
                self.refuse(&error);
                reply(
                    answers,
                    Answer::Error(format!("{error:#}; the old configuration serves")),
                );
            }
            Origin::Weight {
                answers,
                id,
                before,
            } => {
                self.take_weight_back(id, before);
                reply(
                    Some(answers),
                    Answer::Error(format!("{error:#}; the old weight counts")),
                );
            }
        }
        Ok(())
    }

    /// The maps hold the new configuration: everything else follows.
    async fn settle(
        &mut self,
        pending: Pending,
        moved: Vec<Moved>,
        tables: Vec<TableChange>,
    ) -> anyhow::Result<()> {
        let Pending {
            config,
            assignment,
            origin,
            ..
        } = pending;
        let described = changes::describe(&self.config, &config);
        self.config = config;
        self.assignment = assignment;
        self.follow_change(tables);
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
            Origin::Tidying => {}
            Origin::Reload(answers) => {
                self.config_since = now();
                self.config_error = None;
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
            Origin::Weight { answers, id, .. } => {
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
        let mut kept = BTreeSet::new();
        for pool in self.config.pools.clone() {
            let pool_id = self.assignment.pools[&pool.name];
            let table = self
                .contents
                .tables
                .get(&pool_id)
                .cloned()
                .unwrap_or_default();
            let mut owned = BTreeMap::<BackendId, u32>::new();
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
                self.publish(id);
                self.update(id, None, |record| {
                    record.is_removed = false;
                    record.pool.clone_from(&pool.name);
                    record.is_on_link = pool.forward == Forward::L2;
                    record.config = backend.clone();
                    record.share = share;
                    record.set_intent(&intent);
                });
            }
        }
        self.adopt_removed(&kept);
        for id in self.backends.ids() {
            if !self.contents.backends.contains_key(&id) {
                self.backends.remove(id);
            }
        }
        self.want_stats();
    }

    /// Counts the traffic of everybody who has some.
    pub(super) fn want_stats(&self) {
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
        if !std::mem::replace(&mut record.is_published, true) {
            let pool = self.contents.backends.get(&id).map_or(0, |it| it.pool);
            self.flows.add(id, PoolId(pool), self.states.state(id));
        }
        self.store_next_hop(id);
    }

    /// Stores what is known of a backend, whatever the data plane has of it.
    fn store(&self, id: BackendId) {
        self.store_next_hop(id);
        self.store_again(id);
    }

    fn store_next_hop(&self, id: BackendId) {
        let Some(record) = self.backends.get(id) else {
            return;
        };
        if let Path::Known(hop) = &record.path
            && let Some(port) = self.ports.index_of(hop.interface_index)
        {
            self.states.set_next_hop(id, NextHop::new(hop.mac.0, port));
        }
    }

    fn replay_postponed(&mut self) {
        for report in std::mem::take(&mut self.postponed) {
            self.verdict(report);
        }
    }
}

fn reply(answers: Option<mpsc::Sender<Answer>>, answer: Answer) {
    if let Some(answers) = answers {
        // A client that went away does not want it any more.
        let _ = answers.try_send(answer);
    }
}
