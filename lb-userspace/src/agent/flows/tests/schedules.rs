//! Random schedules of events over flows that follow flows.md §2, written out here again: no flow
//! that is active in every window is sent away from a backend that stays alive.

use std::collections::HashMap;

use lb_common::flow::{FlowEntry, FlowKey, hash_of_key, tick};
use lb_common::ladder::slot_index;
use proptest::prelude::*;

use super::*;
use crate::agent::flows::{Judgement, Listed, Live, owners};

const SLOTS: usize = 13;
const BACKENDS: u16 = 6;
const FLOWS: u16 = 60;
/// Between two packets of every flow, and between two events: far less than a window.
const STEP: u64 = 7 * SECOND;

#[derive(Debug, Clone, Copy)]
enum Step {
    Fail(u16),
    Recover(u16),
    Drain(u16),
    Undrain(u16),
    /// Other ladders, by a seed; backends beyond the seed's size leave or return.
    Change(u32),
    Restart,
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..BACKENDS;
    prop_oneof![
        3 => id.clone().prop_map(Step::Fail),
        4 => id.clone().prop_map(Step::Recover),
        2 => id.clone().prop_map(Step::Drain),
        3 => id.prop_map(Step::Undrain),
        3 => any::<u32>().prop_map(Step::Change),
        1 => Just(Step::Restart),
        6 => (1..60u8).prop_map(Step::Wait),
    ]
}

/// Ladders over those backends that the seed has in.
fn ladders(seed: u32) -> (Vec<Slot>, Vec<BackendId>) {
    let is_in = |id: &u16| seed >> 8 >> id & 1 == 1 || u32::from(*id) == seed % u32::from(BACKENDS);
    let members: Vec<BackendId> = (0..BACKENDS).filter(is_in).map(BackendId).collect();
    let mut random = seed | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as usize
    };
    let slot = |_| {
        let mut left = members.clone();
        let rungs = std::array::from_fn(|_| match left.len() {
            0 => NOBODY,
            count => left.remove(next() % count),
        });
        Slot::new(rungs)
    };
    ((0..SLOTS).map(slot).collect(), members)
}

/// The world outside the agent: the maps, and where each flow lives.
struct World {
    flows: Flows,
    records: HashMap<FlowKey, FlowEntry>,
    /// Where each flow's first packet went, until its backend fails.
    homes: HashMap<FlowKey, BackendId>,
    members: Vec<BackendId>,
    now: u64,
}

impl World {
    fn state(&self, id: BackendId) -> BackendState {
        self.flows.state(id)
    }

    /// One packet of a flow, by flows.md §2 for TCP with one map for both.
    fn send(&mut self, key: FlowKey, opens: bool) -> Option<BackendId> {
        let table = self.flows.table(POOL).unwrap().clone();
        let index = slot_index(hash_of_key(&key).slot_bits(), SLOTS as u32) as usize;
        let slot = table.slots[index];
        let home = slot.rung(0);
        if slot.is_settled() && home != NOBODY && self.state(home).is_stable() {
            return Some(home);
        }
        let walked = owners(&table.slots, index, |id| self.state(id));
        let changed = slot.0 & Slot::CHANGED_TCP != 0;
        let previous = table.previous(index).0;
        let supplied = previous != NOBODY && self.state(previous).has(OLD);
        let old = if supplied { previous } else { walked.tcp };
        let lost = walked.is_lost && !supplied;
        let records = changed || walked.new != old || lost;
        let live = |it: &FlowEntry, bit| self.state(BackendId(it.backend)).has(bit);
        let record = self.records.get(&key).copied();
        let entry = |id: BackendId| FlowEntry {
            last: tick(self.now),
            backend: id.0,
            ..FlowEntry::default()
        };
        if opens {
            if let Some(there) = record.filter(|it| live(it, NEW)) {
                self.records.insert(key, entry(BackendId(there.backend)));
                return Some(BackendId(there.backend));
            }
            if walked.new == NOBODY {
                return None;
            }
            if records || record.is_some_and(|it| live(&it, ALIVE)) {
                self.records.insert(key, entry(walked.new));
            } else {
                self.records.remove(&key);
            }
            return Some(walked.new);
        }
        if let Some(there) = record {
            if live(&there, ALIVE) {
                self.records.insert(key, entry(BackendId(there.backend)));
                return Some(BackendId(there.backend));
            }
            self.records.remove(&key);
            return None;
        }
        if old == NOBODY || lost {
            return None;
        }
        if records {
            self.records.insert(key, entry(old));
        }
        Some(old)
    }

    /// Every flow sends a packet; one whose backend failed begins anew.
    fn traffic(&mut self) -> Result<(), TestCaseError> {
        for key in keys() {
            match self.homes.get(&key).copied() {
                Some(home) => {
                    let went = self.send(key, false);
                    prop_assert_eq!(went, Some(home), "{:?} at {}", key.ports, self.now / SECOND);
                }
                None => {
                    if let Some(home) = self.send(key, true) {
                        prop_assert!(self.state(home).has(NEW), "G3: {home:?}");
                        self.homes.insert(key, home);
                    }
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, id: BackendId) {
        self.flows.fail(id, self.now);
        if !self.state(id).has(ALIVE) {
            self.homes.retain(|_, home| *home != id);
        }
    }

    fn change(&mut self, seed: u32) {
        let (ladders, members) = ladders(seed);
        let change = self.flows.evaluate(POOL, RULES, &ladders);
        self.flows.commit(change, self.now);
        for id in &members {
            match self.flows.wanted(*id) {
                None => {
                    self.flows.add(*id, POOL, BackendState::DOWN);
                    self.flows.recover(*id, self.now);
                }
                Some(wanted) => {
                    let back = Wanted {
                        is_removed: false,
                        ..wanted
                    };
                    self.flows.want(*id, back, self.now);
                }
            }
        }
        for id in &self.members {
            if !members.contains(id) {
                self.flows.remove(*id, self.now);
            }
        }
        self.members = members;
    }

    fn sweep(&mut self) {
        let mut sweep = self.flows.begin_sweep(services(SLOTS as u32));
        let flows = &self.flows;
        let live = |id| {
            Some(Live {
                state: flows.state(id),
                generation: 0,
            })
        };
        self.records.retain(|key, entry| {
            let record = Listed {
                key: *key,
                entry: *entry,
                is_new: false,
            };
            sweep.judge(&record, self.now, live) == Judgement::Keep
        });
        for id in self.flows.end_sweep(sweep).free {
            self.flows.forget_backend(id);
        }
    }

    fn restart(&mut self) {
        let before = std::mem::take(&mut self.flows);
        let table = before.table(POOL).unwrap().clone();
        self.flows.adopt_pool(POOL, RULES, table, self.now);
        for id in before.backends() {
            let left = lb_common::backend::Backend {
                state: before.state(id),
                since: before.since(id),
                pool: POOL.0,
                ..lb_common::backend::Backend::FREE
            };
            let wanted = before.wanted(id).unwrap();
            self.flows.adopt_backend(id, &left, wanted, self.now);
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Fail(id) => self.fail(BackendId(id)),
            Step::Recover(id) => drop(self.flows.recover(BackendId(id), self.now)),
            Step::Drain(id) => drop(self.flows.drain(BackendId(id), self.now)),
            Step::Undrain(id) => drop(self.flows.undrain(BackendId(id), self.now)),
            Step::Change(seed) => self.change(seed),
            Step::Restart => self.restart(),
            Step::Wait(steps) => {
                for _ in 0..steps {
                    self.now += STEP;
                    pass(&mut self.flows, self.now);
                    self.sweep();
                    self.traffic()?;
                }
            }
        }
        self.traffic()
    }
}

fn keys() -> impl Iterator<Item = FlowKey> {
    (1..=FLOWS).map(|port| FlowKey {
        source: Address::v4([203, 0, 113, 7]),
        destination: vip(),
        ports: {
            let [high, low] = port.to_be_bytes();
            [high, low, 0, 80]
        },
        protocol: TCP,
        pad: [0; 3],
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_active_flow_leaves_a_backend_that_stays_alive(
        seed: u32,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (ladders, members) = ladders(seed);
        let mut world = World {
            flows: Flows::default(),
            records: HashMap::new(),
            homes: HashMap::new(),
            members: members.clone(),
            now: SECOND,
        };
        let change = world.flows.evaluate(POOL, RULES, &ladders);
        world.flows.commit(change, world.now);
        for id in members {
            world.flows.add(id, POOL, BackendState::UP);
        }
        world.traffic()?;
        for step in steps {
            world.step(step)?;
        }
        // Everything comes back, nothing happens any more, and no flow is looked up.
        for id in world.flows.backends() {
            world.flows.recover(id, world.now);
            world.flows.undrain(id, world.now);
        }
        for _ in 0..(WINDOW / STEP + 2) {
            world.step(Step::Wait(1))?;
        }
        world.now += RULES.idle_ns + SECOND;
        world.homes.clear();
        world.sweep();
        world.sweep();
        prop_assert!(!world.flows.is_unstable(), "{:?}", world.flows.instability(POOL));
        prop_assert!(world.records.is_empty());
    }
}
