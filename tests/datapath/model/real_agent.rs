//! The real agent's flow duties beside the model's: the same events, and then the same states, flags
//! and previous owners, and the same records deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::backend::{Backend, BackendId, BackendState};
use lb_common::flow::{FlowEntry, FlowKey};
use lb_common::ladder::{Previous, Slot};
use lb_common::pool::PoolId;
use lb_common::service::{Service, ServiceKey};
use lb_model::duties::{Duties, Event};
use lb_model::flow::Record;
use lb_model::generate::{Action, Limits, Mood, Run, TIMES, act};
use lb_model::hash::Key;
use lb_model::plane::Plane;
use lb_model::world::{ALIVE, CHANGED_TCP, CHANGED_UDP, FULL, NOBODY, SLOT_FLAGS, World, rung};
use lb_userspace::agent::flows::{Flows, Judgement, Listed, Live, Rules, Table, Wanted};

use crate::bench::Difference;
use crate::mirror;

/// The real duties, and what stands in the maps of what they wrote.
pub struct RealAgent {
    flows: Option<Flows>,
    services: Arc<BTreeMap<ServiceKey, Service>>,
    wanted: BTreeMap<BackendId, Wanted>,
    since: BTreeMap<BackendId, [u64; 3]>,
    pool_of: BTreeMap<BackendId, PoolId>,
    resets: Vec<bool>,
}

impl RealAgent {
    /// An agent that starts with this world, in which no flow can exist yet.
    pub fn new(world: &World) -> Self {
        let mut agent = Self {
            flows: Some(Flows::default()),
            services: Arc::new(mirror::services(world)),
            wanted: BTreeMap::new(),
            since: BTreeMap::new(),
            pool_of: BTreeMap::new(),
            resets: world.pools.iter().map(|pool| pool.resets).collect(),
        };
        let mut flows = Flows::default();
        for (pool, ladders) in (0_u32..).zip(world.pools.iter().map(|pool| &pool.ladders)) {
            if ladders.is_empty() {
                continue;
            }
            let rules = agent.rules(pool as usize);
            let change = flows.evaluate(PoolId(pool), rules, &slots(ladders));
            flows.commit(change, world.now);
            let members: BTreeSet<u16> = ladders
                .iter()
                .flat_map(|it| (0..4).map(|at| rung(*it, at)))
                .collect();
            for id in members.into_iter().filter(|id| *id != NOBODY) {
                let state = BackendState(world.state(id));
                flows.add(BackendId(id), PoolId(pool), state);
                agent.pool_of.insert(BackendId(id), PoolId(pool));
                let is_healthy = state.0 != 0;
                agent.wanted.insert(
                    BackendId(id),
                    Wanted {
                        is_healthy,
                        ..Wanted::default()
                    },
                );
            }
        }
        agent.flows = Some(flows);
        agent
    }

    fn rules(&self, pool: usize) -> Rules {
        Rules {
            window_ns: TIMES.window,
            udp_window_ns: TIMES.udp_window,
            idle_ns: TIMES.idle,
            lost_for_ns: TIMES.lost_for,
            embryo_ns: TIMES.embryo,
            resets: self.resets[pool],
        }
    }

    /// Takes an event that the model's agent takes too. `before` is the world as it was, and the
    /// records as they were.
    pub fn take(&mut self, before: &Plane, event: &Event) -> Option<Difference> {
        let world = &before.world;
        let now = world.now;
        if *event == Event::Restart {
            self.adopt(world);
            return None;
        }
        let mut flows = self.flows.take()?;
        // The program may have set TRACK when no agent was there.
        for id in self.wanted.keys() {
            flows.observe(*id, BackendState(world.state(id.0)));
        }
        let mut difference = None;
        match event {
            Event::Die => return None,
            Event::Restart => {}
            Event::Fail(id) => self.want(&mut flows, *id, now, |it| it.is_healthy = false),
            Event::Recover(id) => self.want(&mut flows, *id, now, |it| it.is_healthy = true),
            Event::Drain(id) => self.want(&mut flows, *id, now, |it| it.is_drained = true),
            Event::Undrain(id) => self.want(&mut flows, *id, now, |it| it.is_drained = false),
            Event::Tick => {
                while let Some(at) = flows.next_deadline().filter(|at| *at <= now) {
                    for write in flows.due(at).states {
                        self.since.insert(write.id, write.since);
                    }
                }
            }
            Event::Change {
                pool,
                ladders,
                added,
                removed,
            } => {
                let id = PoolId(u32::from(*pool));
                let change = flows.evaluate(id, self.rules(usize::from(*pool)), &slots(ladders));
                flows.commit(change, now);
                for added in added {
                    flows.add(BackendId(*added), id, BackendState::DOWN);
                    self.pool_of.insert(BackendId(*added), id);
                    self.wanted.insert(BackendId(*added), Wanted::default());
                    self.since.remove(&BackendId(*added));
                    self.want(&mut flows, *added, now, |it| it.is_healthy = true);
                }
                for removed in removed {
                    self.want(&mut flows, *removed, now, |it| it.is_removed = true);
                }
            }
            Event::Sweep => difference = self.sweep(&mut flows, before),
        }
        self.flows = Some(flows);
        difference
    }

    fn want(&mut self, flows: &mut Flows, id: u16, now: u64, change: impl FnOnce(&mut Wanted)) {
        let id = BackendId(id);
        let Some(wanted) = self.wanted.get_mut(&id) else {
            return;
        };
        change(wanted);
        if let Some(write) = flows.want(id, *wanted, now) {
            self.since.insert(id, write.since);
        }
    }

    fn adopt(&mut self, world: &World) {
        let mut flows = Flows::default();
        for (pool, place) in world.pools.iter().enumerate() {
            if !place.ladders.is_empty() {
                let table = Table {
                    slots: slots(&place.ladders).into(),
                    previous: place.previous.iter().copied().map(Previous).collect(),
                };
                flows.adopt_pool(PoolId(pool as u32), self.rules(pool), table, world.now);
            }
        }
        for (id, wanted) in &self.wanted {
            let left = Backend {
                state: BackendState(world.state(id.0)),
                generation: world.backends[usize::from(id.0)].generation,
                pool: self.pool_of[id].0,
                since: self.since.get(id).copied().unwrap_or_default(),
                ..Backend::FREE
            };
            flows.adopt_backend(*id, &left, *wanted, world.now);
        }
        self.flows = Some(flows);
    }

    /// The sweep; the records that it deletes are those that the model's agent deletes, but for
    /// those that say no more than a stable slot does.
    fn sweep(&mut self, flows: &mut Flows, before: &Plane) -> Option<Difference> {
        let world = &before.world;
        let mut sweep = flows.begin_sweep(Arc::clone(&self.services));
        let live = |id: BackendId| {
            let backend = world.backends.get(usize::from(id.0))?;
            Some(Live {
                state: BackendState(backend.state),
                generation: backend.generation,
            })
        };
        let mut difference = None;
        let both = [(true, &before.flows_new), (false, &before.flows)];
        for (is_new, key, record) in both.into_iter().flat_map(|(is_new, records)| {
            records
                .iter()
                .map(move |(key, record)| (is_new, key, record))
        }) {
            let judgement = sweep.judge(&listed(is_new, key, record), world.now, live);
            let is_kept = matches!(judgement, Judgement::Keep | Judgement::Useless);
            if judgement == Judgement::Useless && !is_useless(world, key, record) {
                difference = Some(format!("{key:?}: {record:?} is not useless"));
            }
            let is_over = lb_model::duties::is_over(TIMES, world, is_new, record);
            if is_over == is_kept {
                difference = Some(format!(
                    "{key:?}: {record:?} is {judgement:?}, for the model over: {is_over}"
                ));
            }
        }
        for id in flows.end_sweep(sweep).free {
            flows.forget_backend(id);
            self.wanted.remove(&id);
        }
        difference
    }

    /// In what the real agent's view of the maps differs from what the model's agent wrote.
    pub fn difference(&self, world: &World, duties: &Duties) -> Option<Difference> {
        let flows = self.flows.as_ref()?;
        let ids = 0..world.backends.len() as u16;
        if let Some(id) = ids
            .into_iter()
            .find(|id| self.wanted.contains_key(&BackendId(*id)) == duties.is_free(*id))
        {
            return Some(format!(
                "the agent: id {id} is free for one and not for the other"
            ));
        }
        for (pool, place) in world.pools.iter().enumerate() {
            let Some(table) = flows.table(PoolId(pool as u32)) else {
                continue;
            };
            for (slot, ladder) in place.ladders.iter().enumerate() {
                let real = table.slots[slot];
                let (tcp, udp) = table.previous(slot);
                let expected = place.previous[slot];
                let owner = |flag: u64, shift: u32| {
                    if ladder & flag == 0 {
                        NOBODY
                    } else {
                        (expected >> shift) as u16
                    }
                };
                let owners = (owner(CHANGED_TCP, 0), owner(CHANGED_UDP, 16));
                if real.0 != *ladder || (tcp.0, udp.0) != owners {
                    return Some(format!(
                        "the agent: pool {pool} slot {slot} is {real:?} after {tcp:?} {udp:?}, the model's {:?} after {owners:?}",
                        Slot(*ladder)
                    ));
                }
            }
        }
        self.wanted.keys().find_map(|id| {
            let (real, expected) = (flows.state(*id), BackendState(world.state(id.0)));
            // TRACK that the program set is seen with the next event.
            let is_same =
                real == expected || real.0 | BackendState::TRACK == expected.0 && real.has(ALIVE);
            (!is_same).then(|| format!("the agent: {id:?} is {real:?}, the model's {expected:?}"))
        })
    }
}

fn slots(ladders: &[u64]) -> Vec<Slot> {
    ladders.iter().map(|ladder| Slot(*ladder)).collect()
}

fn listed(is_new: bool, key: &Key, record: &Record) -> Listed {
    let value = mirror::flow_value(record);
    let word =
        |at: usize| u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    Listed {
        key: FlowKey {
            source: mirror::address(&key.source),
            destination: mirror::address(&key.destination),
            ports: key.ports,
            protocol: key.protocol,
            pad: [0; 3],
        },
        entry: FlowEntry {
            generation: word(0),
            isn: word(4),
            last: word(8),
            backend: word(12) as u16,
            flags: (word(12) >> 16) as u16,
        },
        is_new,
    }
}

/// A record that says what its slot says.
fn is_useless(world: &World, key: &Key, record: &Record) -> bool {
    lb_model::duties::slot_of(world, key).is_some_and(|(pool, slot)| {
        let ladder = world.pools[pool].ladders[slot];
        ladder & SLOT_FLAGS == 0
            && rung(ladder, 0) == record.backend
            && world.state(record.backend) == FULL
    })
}

/// Schedules over the model's own data plane, without a kernel.
#[test]
fn both_agents_write_the_same() {
    const RUNS: u64 = 300;
    const STEPS: usize = 1500;
    let limits = Limits {
        tables: crate::kernel::TABLES.to_vec(),
        backends: crate::workers::BACKENDS,
        interfaces: [1, 2],
    };
    let first = fastrand::u64(..);
    let mut runs = 0;
    for seed in (0..).map(|number| first.wrapping_add(number)) {
        let (mut run, mut world) = Run::new(seed, &limits);
        if run.mood() != Mood::Scheduled {
            continue;
        }
        world.now = 1 << 50;
        let mut duties = Duties::new(&world, TIMES);
        let mut real = RealAgent::new(&world);
        let mut plane = Plane::new(world, 24, lb_model::rules::Rules::ALL);
        let mut frame = Vec::new();
        for step in 0..STEPS {
            let action = run.next(&plane.world, &duties, &mut frame);
            act(&mut plane, &action);
            let event = match action {
                Action::Frame(interface) => {
                    plane.process(&frame, interface);
                    continue;
                }
                Action::Agent(event) => event,
                _ => Event::Tick,
            };
            if duties.takes(&event) {
                let difference = real.take(&plane, &event);
                duties.take(&mut plane, &event);
                let difference = difference.or_else(|| real.difference(&plane.world, &duties));
                assert_eq!(difference, None, "seed {seed}, step {step}: {event:?}");
            }
        }
        runs += 1;
        if runs == RUNS {
            return;
        }
    }
}
