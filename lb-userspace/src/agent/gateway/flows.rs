//! The gateway's flow duties: tells [`Flows`] what happens and writes what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lb_common::backend::{Backend as Element, BackendId, BackendState};
use lb_common::event::{Event as Told, EventKind};
use lb_common::pool::{Pool as PoolElement, PoolId};
use lb_common::service::detour;
use tokio::task::{JoinHandle, spawn_blocking};

use super::sweep::{SweepCounts, SweepJob, SweepTools, Swept};
use super::{Gateway, Happening, Progress};
use crate::agent::datapath::{Datapath, EventRing, FlowMaps, FlowSizes, Heartbeat, monotonic_ns};
use crate::agent::effective::{Admin, Effective};
use crate::agent::events::event;
use crate::agent::flows::{Due, Flows, Rules, StateWrite, Wanted};
use crate::agent::plan::MapWrite;
use crate::config::{self, Config, FlowTimes, OnBackendLoss};
use crate::control::Event;

/// Longest time between two sweeps while anything is unstable.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest time between two sweeps, however short the windows are.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// What the flow duties wait for and hold.
pub(super) struct Duties {
    pub heartbeat: Heartbeat,
    /// For looking single flows up, while the sweep has its own.
    pub lookup: FlowMaps,
    ring: EventRing,
    sweeper: Sweeper,
    next_sweep: Instant,
    pub sizes: FlowSizes,
    /// What the last whole sweep counted, and how many there were.
    pub last: SweepCounts,
    pub sweeps: u64,
    /// When something was last told of a backend or pool; as many entries as there are of those.
    pub told: BTreeMap<(u32, u16), Instant>,
}

enum Sweeper {
    Idle(Option<Box<SweepTools>>),
    Running(JoinHandle<Swept>, Arc<AtomicBool>),
}

/// Something that the flow duties waited for.
pub enum FlowNews {
    /// A time came: [`crate::agent::flows::Flows::due`].
    Due,
    /// It is time to sweep.
    SweepDue,
    /// A sweep ended; `None` if its thread ended by a bug.
    Swept(Option<Box<Swept>>),
    /// The program told something.
    Told(Vec<(EventKind, Told)>),
}

impl Duties {
    pub fn start(datapath: &Datapath, heartbeat: Heartbeat) -> anyhow::Result<Self> {
        let maps = datapath.flow_maps()?;
        Ok(Self {
            heartbeat,
            lookup: datapath.flow_maps()?,
            ring: datapath.event_ring()?,
            sizes: maps.sizes(),
            sweeper: Sweeper::Idle(Some(Box::new(SweepTools {
                maps,
                counters: datapath.counters()?,
            }))),
            next_sweep: Instant::now(),
            last: SweepCounts::default(),
            sweeps: 0,
            told: BTreeMap::new(),
        })
    }

    /// Waits for something to do, which may be that the flows want to be told of the time.
    /// Cancel-safe.
    pub async fn next(&mut self, flows: &Flows) -> Happening {
        let due = async {
            match flows.next_deadline() {
                Some(at) => {
                    let wait = Duration::from_nanos(at.saturating_sub(monotonic_ns()));
                    tokio::time::sleep(wait).await;
                }
                None => std::future::pending().await,
            }
        };
        let next_sweep = self.next_sweep;
        let swept = async {
            match &mut self.sweeper {
                Sweeper::Running(sweep, _) => FlowNews::Swept(sweep.await.ok().map(Box::new)),
                Sweeper::Idle(_) => {
                    tokio::time::sleep_until(next_sweep.into()).await;
                    FlowNews::SweepDue
                }
            }
        };
        let told = async {
            match self.ring.next().await {
                Ok(told) => told,
                Err(error) => {
                    tracing::error!(%error, "cannot read what the program tells");
                    std::future::pending().await
                }
            }
        };
        let news = tokio::select! {
            biased;
            () = due => FlowNews::Due,
            news = swept => news,
            told = told => FlowNews::Told(told),
        };
        Happening::Flows(news)
    }

    pub fn is_sweeping(&self) -> bool {
        matches!(self.sweeper, Sweeper::Running(..))
    }

    /// Asks a sweep that runs to end, as a change waits for it.
    pub fn cancel_sweep(&self) {
        if let Sweeper::Running(_, is_cancelled) = &self.sweeper {
            is_cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Gateway {
    /// Learns from the maps what an earlier agent left; nothing that runs changes.
    pub(super) fn adopt_flows(&mut self) -> anyhow::Result<()> {
        let now = monotonic_ns();
        for (id, element) in &self.contents.pools {
            let rules = rules_of_left(element, &self.config);
            let table = self.datapath().table(*id, element.slots)?;
            if let Some(table) = table {
                self.flows.adopt_pool(*id, rules, table, now);
            }
        }
        for (id, left) in &self.contents.backends {
            if left.encapsulation != 0 {
                let wanted = Wanted {
                    is_healthy: left.state.has(BackendState::ALIVE),
                    is_drained: left.state.has(BackendState::ALIVE)
                        && !left.state.has(BackendState::NEW),
                    is_removed: false,
                };
                self.flows.adopt_backend(*id, left, wanted, now);
            }
        }
        self.flows.follow_services(&self.contents.services, now);
        Ok(())
    }

    /// The flow duties have something to do.
    pub(super) fn flow_news(&mut self, news: FlowNews) {
        match news {
            FlowNews::Due => self.time_passed(),
            FlowNews::SweepDue => self.begin_sweep(),
            FlowNews::Swept(swept) => self.end_sweep(swept),
            FlowNews::Told(told) => told.into_iter().for_each(|(kind, it)| self.told(kind, &it)),
        }
    }

    fn time_passed(&mut self) {
        let now = monotonic_ns();
        let Due {
            states,
            slots,
            services,
        } = self.flows.due(now);
        for write in &states {
            self.states.store(write);
        }
        for writes in &slots {
            if let Err(error) = self.datapath().write_slots(writes) {
                tracing::error!(%error, "slots stay marked as changed");
            }
        }
        for key in services {
            let Some(service) = self.contents.services.get_mut(&key) else {
                continue;
            };
            service.detours &= !detour::PREVIOUS_POOL;
            service.previous_pool = 0;
            let write = MapWrite::Service {
                key,
                service: *service,
            };
            let written = self.datapath().apply(&write);
            if let Err(error) = written {
                tracing::error!(%error, "a service goes on asking the pool it pointed at before");
            }
            self.is_tidying_wanted = true;
        }
        self.tidy();
    }

    /// Gives pools back that no service asks any more: by the way of every change.
    fn tidy(&mut self) {
        if self.is_tidying_wanted && matches!(self.progress, Progress::Idle) {
            self.is_tidying_wanted = false;
            if let Err(error) = self.change_nothing() {
                tracing::warn!("cannot give an old pool's memory back: {error:#}");
            }
        }
    }

    fn begin_sweep(&mut self) {
        self.duties.next_sweep = Instant::now() + self.sweep_interval();
        // First of all: the program may have sent flows elsewhere while this process stood still.
        self.observe_states();
        let records = self.duties.last.kept + self.duties.last.new;
        if !self.flows.is_unstable() && records == 0 && !self.records_always() {
            return;
        }
        if let Sweeper::Idle(tools) = &mut self.duties.sweeper
            && let Some(tools) = tools.take()
        {
            let is_cancelled = Arc::new(AtomicBool::new(false));
            let job = SweepJob {
                tools,
                sweep: self
                    .flows
                    .begin_sweep(Arc::new(self.contents.services.clone())),
                states: Arc::clone(&self.states),
                is_cancelled: Arc::clone(&is_cancelled),
            };
            self.duties.sweeper = Sweeper::Running(spawn_blocking(move || job.run()), is_cancelled);
        }
    }

    fn end_sweep(&mut self, swept: Option<Box<Swept>>) {
        let Some(swept) = swept else {
            tracing::error!("the sweep of flows ended by a bug; no more is made");
            self.duties.sweeper = Sweeper::Idle(None);
            return;
        };
        let Swept { tools, found } = *swept;
        self.duties.sweeper = Sweeper::Idle(Some(tools));
        match found {
            Ok(Some((sweep, counts))) => {
                self.duties.last = counts;
                self.duties.sweeps += 1;
                self.observe_states();
                let outcome = self.flows.end_sweep(sweep);
                for writes in &outcome.slots {
                    if let Err(error) = self.datapath().write_slots(writes) {
                        tracing::error!(%error, "slots go on looking into the flow maps");
                    }
                }
                for id in outcome.settled {
                    if !self.states.settle(id) {
                        self.flows.observe(id, self.states.state(id));
                    }
                }
                outcome.free.into_iter().for_each(|id| self.free(id));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot sweep the flows"),
        }
    }

    /// Whether some service records all of its flows.
    fn records_always(&self) -> bool {
        let mut services = self.contents.services.values();
        services.any(|service| service.detours & detour::ALWAYS != 0)
    }

    /// What the program itself stored in the states since it was last looked at.
    fn observe_states(&mut self) {
        for id in self.flows.backends() {
            self.flows.observe(id, self.states.state(id));
        }
    }

    /// Nothing names a removed backend any more: its id may go to another.
    fn free(&mut self, id: BackendId) {
        let Some(there) = self.contents.backends.get(&id) else {
            return;
        };
        let backend = Element {
            generation: there.generation,
            ..Element::FREE
        };
        let write = MapWrite::Backend { id, backend };
        if let Err(error) = self.datapath().apply(&write) {
            tracing::error!(%error, "a removed backend keeps its id");
            return;
        }
        self.contents.backends.insert(id, backend);
        self.flows.forget_backend(id);
        if let Some(record) = self.backends.get(id) {
            let (pool, name) = (record.pool.clone(), record.config.name.clone());
            self.events.record(Event {
                pool: Some(pool.clone()),
                backend: Some(name.clone()),
                ..event(
                    "removed",
                    format!("{pool}/{name} was removed, and its last flow has ended"),
                )
            });
        }
        self.backends.remove(id);
        self.watch_next_hops();
        self.want_stats();
    }

    fn sweep_interval(&self) -> Duration {
        let shortest = self
            .config
            .pools
            .iter()
            .map(|pool| pool.flows.window.min(pool.flows.udp_window) / 2)
            .min();
        shortest
            .unwrap_or(SWEEP_INTERVAL)
            .clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL)
    }

    /// What a pool is called, by the configuration or, if it left that, by the maps.
    pub(super) fn pool_name(&self, id: PoolId) -> String {
        self.contents
            .pools
            .get(&id)
            .and_then(PoolElement::name)
            .map_or_else(|| format!("number {}", id.0), str::to_owned)
    }

    /// Stores what is wanted of a backend from now on, and gives the state that it has then.
    pub(super) fn store_wanted(&mut self, id: BackendId, wanted: Wanted) -> BackendState {
        if let Some(write) = self.flows.want(id, wanted, monotonic_ns()) {
            self.states.store(&write);
        }
        self.flows.state(id)
    }

    /// Stores the state of a backend as it is known, whatever the map has.
    pub(super) fn store_again(&self, id: BackendId) {
        self.states.store(&StateWrite {
            id,
            state: self.flows.state(id),
            since: self.flows.since(id),
        });
    }

    /// After a change was written: tables, windows, services, pools.
    pub(super) fn follow_change(&mut self, changes: Vec<crate::agent::flows::TableChange>) {
        let now = monotonic_ns();
        for change in changes {
            self.flows.commit(change, now);
        }
        for pool in &self.config.pools {
            if let Some(id) = self.assignment.pools.get(&pool.name) {
                self.flows.set_rules(*id, rules(pool));
            }
        }
        self.flows.follow_services(&self.contents.services, now);
        let gone: Vec<PoolId> = self
            .flows
            .pools()
            .filter(|id| !self.contents.pools.contains_key(id))
            .collect();
        for id in gone {
            self.flows.forget_pool(id);
        }
    }

    /// Backends that the maps hold and the configuration in force does not: they are removed, and
    /// keep their flows until those end.
    pub(super) fn adopt_removed(&mut self, configured: &BTreeSet<BackendId>) {
        let left: Vec<(BackendId, Element)> = self
            .contents
            .backends
            .iter()
            .filter(|(id, it)| it.encapsulation != 0 && !configured.contains(id))
            .map(|(id, it)| (*id, *it))
            .collect();
        for (id, element) in left {
            let pool = self.pool_name(PoolId(element.pool));
            let there = self.config.pool(&pool).cloned();
            if !self.backends.contains(id) {
                let backend = unnamed(element.address.ip());
                self.backends
                    .add_removed(id, &pool, there.as_ref(), &backend, &element);
                let check = there.as_ref().and_then(|pool| pool.check.as_ref());
                self.backends
                    .set_check(id, check, &self.budget, &self.reporter);
            }
            self.update(id, None, |record| {
                record.is_removed = true;
                record.is_published = true;
                record.share = 0.0;
            });
        }
    }
}

/// What is wanted of a backend, from what was decided.
pub(super) fn wanted(effective: &Effective, admin: Admin, is_removed: bool) -> Wanted {
    Wanted {
        is_healthy: effective.state.has(BackendState::ALIVE),
        is_drained: admin == Admin::Drained,
        is_removed,
    }
}

/// The rules of a configured pool.
pub(super) fn rules(pool: &config::Pool) -> Rules {
    rules_of(&pool.flows, pool.on_backend_loss == OnBackendLoss::Reset)
}

fn rules_of(times: &FlowTimes, resets: bool) -> Rules {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
    Rules {
        window_ns: ns(times.window),
        udp_window_ns: ns(times.udp_window),
        idle_ns: ns(times.idle),
        lost_for_ns: ns(times.lost_for),
        embryo_ns: ns(times.embryo),
        resets,
    }
}

/// The rules of a pool that an earlier agent left: the configuration's if it still names it.
fn rules_of_left(element: &PoolElement, config: &Config) -> Rules {
    let resets = element.on_backend_loss == lb_common::pool::OnBackendLoss::Reset as u8;
    let configured = element.name().and_then(|name| config.pool(name));
    configured.map_or_else(|| rules_of(&FlowTimes::DEFAULT, resets), rules)
}

/// A backend of which only the address is known: it left the configuration while no agent ran.
fn unnamed(address: IpAddr) -> config::Backend {
    config::Backend {
        name: address.to_string(),
        address,
        role: config::Role::Primary,
        weight: 0,
        zone: None,
        port: None,
    }
}
