//! The sweep: which records of flows may go, and what is stable again without them.
//!
//! A record is needed if its backend is not rung 0 of its slot. A slot in which none is needed, and
//! whose new and old flows all go to rung 0, has nothing to look up. Needed records have no time
//! limit but their own idleness: memory is the bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::backend::{BackendId, BackendState};
use lb_common::flow::{FlowEntry, FlowKey, TICK_SHIFT, hash_of_key, tick};
use lb_common::ladder::{Slot, slot_index};
use lb_common::packet::{TCP, UDP};
use lb_common::pool::PoolId;
use lb_common::service::{LATER_FRAGMENTS, Service, ServiceKey, detour};

use super::{Flows, Rules, SlotWrites, Table};

/// A record as it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The flow.
    pub key: FlowKey,
    /// Where it lives.
    pub entry: FlowEntry,
    /// Whether it stands in `FLOWS_NEW`.
    pub is_new: bool,
}

/// What is to be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It stays.
    Keep,
    /// Its backend is down, and not just lost, or the id has another owner.
    Dead,
    /// No packet used it for the whole of `idle`.
    Idle,
    /// Made by a SYN that nothing followed.
    Embryo,
    /// Its flow said goodbye, and was silent since.
    Closed,
    /// No service has its packets.
    NoService,
    /// It says what its slot says, and has since before the records were listed.
    Useless,
}

/// A sweep under way. It may be carried out on another thread.
#[derive(Debug)]
pub struct Sweep {
    revision: u64,
    services: Arc<BTreeMap<ServiceKey, Service>>,
    pools: BTreeMap<PoolId, SweptPool>,
    /// Backends that were settled, without a record to look for, when the sweep began.
    stable: BTreeSet<BackendId>,
    /// Backends that some record names.
    named: BTreeSet<BackendId>,
}

#[derive(Debug)]
struct SweptPool {
    rules: Rules,
    table: Table,
    /// A bit per slot in which a record is needed.
    needed_slots: Vec<u64>,
    recorded: u64,
    needed: u64,
}

/// What the map says of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Its state.
    pub state: BackendState,
    /// Its generation.
    pub generation: u32,
}

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepOutcome {
    /// Slots that need not look into the flow maps any more.
    pub slots: Vec<SlotWrites>,
    /// Backends whose `TRACK` goes, by compare-exchange from `UP | TRACK` to `UP`; where that
    /// fails, [`Flows::observe`] what the map holds.
    pub settled: Vec<BackendId>,
    /// Removed backends that nothing names any more: their ids are free once the map says so
    /// ([`Flows::forget_backend`]).
    pub free: Vec<BackendId>,
}

impl Flows {
    /// Begins a sweep; the records are listed after this. Until it ends no table and no service
    /// may be written.
    #[must_use]
    pub fn begin_sweep(&self, services: Arc<BTreeMap<ServiceKey, Service>>) -> Sweep {
        let pool = |(id, pool): (&PoolId, &super::PoolFlows)| {
            let swept = SweptPool {
                rules: pool.rules,
                table: pool.table.clone(),
                needed_slots: vec![0; pool.table.slots.len().div_ceil(64)],
                recorded: 0,
                needed: 0,
            };
            (*id, swept)
        };
        let stable = self.members.iter().filter(|(_, it)| it.state.is_stable());
        Sweep {
            revision: self.revision,
            services,
            pools: self.pools.iter().map(pool).collect(),
            stable: stable.map(|(id, _)| *id).collect(),
            named: BTreeSet::new(),
        }
    }

    /// Ends a sweep: every record was judged, and what was to be deleted is.
    pub fn end_sweep(&mut self, sweep: Sweep) -> SweepOutcome {
        let mut outcome = SweepOutcome::default();
        let mut tracked = BTreeSet::new();
        let moving: BTreeSet<PoolId> = self.moves.values().map(|it| it.to).collect();
        for (id, swept) in &sweep.pools {
            let Some(pool) = self.pools.get_mut(id) else {
                continue;
            };
            (pool.recorded, pool.needed) = (swept.recorded, swept.needed);
            if pool.revision > sweep.revision {
                // Another table, or a window that ended: records may have come behind the sweep.
                tracked.extend(swept.table.slots.iter().map(|slot| slot.rung(0)));
                continue;
            }
            tracked.extend(swept.homes_in_need());
            if moving.contains(id) {
                continue;
            }
            let is_quiet = |id: BackendId| {
                self.members
                    .get(&id)
                    .is_some_and(|member| member.is_settled() && member.revision <= sweep.revision)
            };
            let slots = swept.quiet_slots(is_quiet);
            let writes: Vec<(u32, Slot)> = slots
                .into_iter()
                .map(|index| (index, pool.table.clear(index, Slot::TRACK)))
                .collect();
            if !writes.is_empty() {
                outcome.slots.push(SlotWrites {
                    pool: *id,
                    slots: writes,
                });
            }
        }
        for (id, member) in &mut self.members {
            let is_tracked = member.is_settled() && !member.state.is_stable();
            if is_tracked && member.revision <= sweep.revision && !tracked.contains(id) {
                member.state = BackendState::UP;
                outcome.settled.push(*id);
            }
        }
        outcome.free = self.free(&sweep);
        outcome
    }

    /// Removed backends that no ladder, no changed slot and no record names, and that none has
    /// named since before the records were listed.
    fn free(&self, sweep: &Sweep) -> Vec<BackendId> {
        let mut candidates: BTreeSet<BackendId> = self
            .removed()
            .filter(|id| !sweep.named.contains(id))
            .filter(|id| self.members[id].revision <= sweep.revision)
            .collect();
        let pools: BTreeSet<PoolId> = candidates.iter().map(|id| self.members[id].pool).collect();
        for id in pools {
            let Some(pool) = self.pools.get(&id) else {
                continue;
            };
            if pool.revision > sweep.revision {
                candidates.retain(|candidate| self.members[candidate].pool != id);
                continue;
            }
            for (index, slot) in pool.table.slots.iter().enumerate() {
                if candidates.is_empty() {
                    break;
                }
                for rung in slot.rungs() {
                    candidates.remove(&rung);
                }
                let (tcp, udp) = pool.table.previous(index);
                candidates.remove(&tcp);
                candidates.remove(&udp);
            }
        }
        candidates.into_iter().collect()
    }
}

impl Sweep {
    /// Judges one record. `now` is when it was listed, or later, and so is what the map says of
    /// its backend: one that came back since the sweep began has records already.
    pub fn judge(
        &mut self,
        record: &Listed,
        now: u64,
        live: impl Fn(BackendId) -> Option<Live>,
    ) -> Judgement {
        let entry = &record.entry;
        let id = BackendId(entry.backend);
        // The flow of a lost backend is reset when it speaks. Without its record it would go to
        // another, which may know a connection by the same five-tuple and say nothing.
        let is_live = live(id).is_some_and(|it| {
            let answers = it.state.has(BackendState::ALIVE) || it.state.has(BackendState::LOST);
            it.generation == entry.generation && answers
        });
        if !is_live {
            return Judgement::Dead;
        }
        let Some((service, index)) = slot_of(&record.key, &self.services) else {
            return Judgement::NoService;
        };
        let Some(pool) = self.pools.get_mut(&PoolId(u32::from(service.pool))) else {
            return Judgement::NoService;
        };
        let Some(slot) = pool.table.slots.get(index as usize).copied() else {
            return Judgement::NoService;
        };
        if let Some(over) = outlived(record, &pool.rules, now) {
            return over;
        }
        let is_needed = slot.rung(0) != id;
        let is_stable = slot.is_settled() && self.stable.contains(&slot.rung(0));
        let remembers = detour::ALWAYS | detour::PREVIOUS_POOL;
        if !is_needed && is_stable && service.detours & remembers == 0 {
            return Judgement::Useless;
        }
        pool.recorded += 1;
        if is_needed {
            pool.needed += 1;
            pool.needed_slots[index as usize / 64] |= 1 << (index % 64);
        }
        self.named.insert(id);
        Judgement::Keep
    }

    /// A record that was to be deleted had changed meanwhile, and is there.
    pub fn keep_after_all(&mut self, record: &Listed) {
        let id = BackendId(record.entry.backend);
        self.named.insert(id);
        let Some((service, index)) = slot_of(&record.key, &self.services) else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(&PoolId(u32::from(service.pool)))
            && let Some(slot) = pool.table.slots.get(index as usize)
        {
            pool.recorded += 1;
            if slot.rung(0) != id {
                pool.needed += 1;
                pool.needed_slots[index as usize / 64] |= 1 << (index % 64);
            }
        }
    }
}

impl SweptPool {
    fn is_needed(&self, index: usize) -> bool {
        self.needed_slots[index / 64] >> (index % 64) & 1 != 0
    }

    /// The backends on rung 0 of slots in which a record is needed.
    fn homes_in_need(&self) -> impl Iterator<Item = BackendId> {
        self.table
            .slots
            .iter()
            .enumerate()
            .filter(|(index, _)| self.is_needed(*index))
            .map(|(_, slot)| slot.rung(0))
    }

    /// The slots with `TRACK` that need it no more.
    fn quiet_slots(&self, is_quiet: impl Fn(BackendId) -> bool) -> Vec<u32> {
        let mut last = (BackendId::NONE, false);
        let mut is_quiet_home = |id: BackendId| {
            if last.0 != id {
                last = (id, is_quiet(id));
            }
            last.1
        };
        (0..)
            .zip(self.table.slots.iter())
            .filter(|(index, slot)| {
                slot.0 & Slot::FLAGS == Slot::TRACK
                    && !self.is_needed(*index as usize)
                    && is_quiet_home(slot.rung(0))
            })
            .map(|(index, _)| index)
            .collect()
    }
}

/// Why a live record's time is over, if it is.
fn outlived(record: &Listed, rules: &Rules, now: u64) -> Option<Judgement> {
    let entry = &record.entry;
    // The program may have written it after `now`: no age then.
    let ticks = (tick(now).wrapping_sub(entry.last) as i32).max(0);
    let age = (ticks as u64) << TICK_SHIFT;
    if age > rules.idle_ns {
        Some(Judgement::Idle)
    } else if age <= rules.embryo_ns {
        None
    } else if entry.has(FlowEntry::CLOSING) {
        Some(Judgement::Closed)
    } else if record.is_new && entry.has(FlowEntry::OPENED) {
        Some(Judgement::Embryo)
    } else {
        None
    }
}

/// The service that has a flow, and the flow's slot in that service's pool.
#[must_use]
pub fn slot_of<'a>(
    key: &FlowKey,
    services: &'a BTreeMap<ServiceKey, Service>,
) -> Option<(&'a Service, u32)> {
    if key.protocol != TCP && key.protocol != UDP {
        return None;
    }
    let [_, _, high, low] = key.ports;
    let exact = ServiceKey {
        address: key.destination,
        port: [high, low],
        protocol: key.protocol,
        pad: 0,
    };
    let any = ServiceKey {
        port: [0; 2],
        ..exact
    };
    // A service of fragments records its flows without ports.
    let fragments = ServiceKey {
        pad: LATER_FRAGMENTS,
        ..any
    };
    let without_ports = (key.ports == [0; 4]).then_some(fragments);
    let service = without_ports
        .into_iter()
        .chain([exact, any])
        .find_map(|key| services.get(&key))?;
    let index = slot_index(hash_of_key(key).slot_bits(), service.slots);
    Some((service, index))
}
