//! What an agent does for flows (flows.md §3): states, flags and previous owners out of what
//! happens to backends and configuration, and the sweep.

use crate::flow::Record;
use crate::frame;
use crate::hash::{self, Key};
use crate::owners;
use crate::plane::Plane;
use crate::rules::Rules;
use crate::world::{
    ALIVE, CHANGED_TCP, CHANGED_UDP, FULL, LOST, NEW, NOBODY, OLD, OLDU, SLOT_FLAGS, Service,
    ServiceKey, TRACK, TRACK_SLOT, World, rung,
};

/// How long things last, ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named as in flows.md §1")]
pub struct Times {
    pub window: u64,
    pub udp_window: u64,
    pub lost_for: u64,
    pub idle: u64,
    pub embryo: u64,
}

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The checks say that a backend is down.
    Fail(u16),
    /// They say that it is up.
    Recover(u16),
    /// The operator wants no new flows there.
    Drain(u16),
    /// The operator wants them again.
    Undrain(u16),
    /// A pool has other ladders. Backends that none of them names any more are removed, new ones
    /// were added.
    Change {
        /// The pool.
        pool: u16,
        /// The ladders, without flags.
        ladders: Vec<u64>,
        /// Backends that appear in the configuration.
        added: Vec<u16>,
        /// Backends that leave it.
        removed: Vec<u16>,
    },
    /// Nothing but the time.
    Tick,
    /// Records are looked through.
    Sweep,
    /// The agent dies: nothing is done until it starts again.
    Die,
    /// The agent starts again and adopts what it finds.
    Restart,
}

/// What is wanted of a backend, and since when it is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Member {
    is_used: bool,
    is_healthy: bool,
    is_drained: bool,
    is_removed: bool,
    drained: u64,
    warm: u64,
    lost: u64,
}

/// An agent.
#[derive(Clone, Debug)]
pub struct Duties {
    times: Times,
    members: Vec<Member>,
    /// When each slot's CHANGED flags end: per pool, TCP and UDP.
    ends: Vec<[Vec<u64>; 2]>,
    is_dead: bool,
}

/// Protocols with the flag of a changed slot, and where the previous owner stands.
const PROTOCOLS: [(bool, u64, u32); 2] = [(true, CHANGED_TCP, 0), (false, CHANGED_UDP, 16)];

impl Duties {
    /// An agent that begins with this world: everybody in a ladder is configured, and healthy
    /// unless it is down.
    #[must_use]
    pub fn new(world: &World, times: Times) -> Self {
        let mut members = vec![Member::default(); world.backends.len()];
        for pool in &world.pools {
            let rungs = pool
                .ladders
                .iter()
                .flat_map(|ladder| (0..4).map(|at| rung(*ladder, at)));
            for id in rungs {
                if let Some(member) = members.get_mut(usize::from(id)) {
                    *member = Member {
                        is_used: true,
                        is_healthy: world.state(id) != 0,
                        ..Member::default()
                    };
                }
            }
        }
        let ends = world.pools.iter().map(|pool| {
            let slots = pool.ladders.len();
            [vec![0; slots], vec![0; slots]]
        });
        Self {
            times,
            members,
            ends: ends.collect(),
            is_dead: false,
        }
    }

    /// Does what an event asks for.
    pub fn take(&mut self, plane: &mut Plane, event: &Event) {
        if !self.takes(event) {
            return;
        }
        match event {
            Event::Fail(id) => {
                self.members[usize::from(*id)].is_healthy = false;
                self.fail(&mut plane.world, *id);
            }
            Event::Recover(id) => {
                self.members[usize::from(*id)].is_healthy = true;
                self.warm(&mut plane.world, *id);
            }
            Event::Drain(id) => {
                self.members[usize::from(*id)].is_drained = true;
                self.drain(&mut plane.world, *id);
            }
            Event::Undrain(id) => {
                self.members[usize::from(*id)].is_drained = false;
                self.warm(&mut plane.world, *id);
            }
            Event::Change {
                pool,
                ladders,
                added,
                removed,
            } => {
                self.change(&mut plane.world, *pool, ladders, added, removed);
            }
            Event::Tick => {
                self.pass_time(&mut plane.world);
                plane.world.heartbeat = plane.world.now;
            }
            Event::Die => self.is_dead = true,
            Event::Sweep => self.sweep(plane),
            Event::Restart => self.restart(&plane.world),
        }
    }

    /// Whether an event finds an agent, and backends that it can happen to.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        (!self.is_dead || *event == Event::Restart) && self.is_possible(event)
    }

    /// A shortened schedule may add who is there, and remove who is not.
    fn is_possible(&self, event: &Event) -> bool {
        match event {
            Event::Fail(id) | Event::Recover(id) | Event::Drain(id) | Event::Undrain(id) => {
                self.members[usize::from(*id)].is_used
            }
            Event::Change {
                ladders,
                added,
                removed,
                ..
            } => {
                let rungs = ladders
                    .iter()
                    .flat_map(|ladder| (0..4).map(|at| rung(*ladder, at)));
                let mut named = rungs.filter(|id| *id != NOBODY && !added.contains(id));
                added.iter().all(|id| self.is_free(*id))
                    && removed.iter().all(|id| self.is_configured(*id))
                    && named.all(|id| self.is_configured(id))
            }
            _ => true,
        }
    }

    /// Whether a backend is in the configuration.
    #[must_use]
    pub fn is_configured(&self, id: u16) -> bool {
        let member = &self.members[usize::from(id)];
        member.is_used && !member.is_removed
    }

    /// Whether an id may be given to somebody.
    #[must_use]
    pub fn is_free(&self, id: u16) -> bool {
        !self.members[usize::from(id)].is_used
    }

    fn fail(&mut self, world: &mut World, id: u16) {
        let state = &mut world.backends[usize::from(id)].state;
        if *state & ALIVE == 0 {
            return;
        }
        if *state & OLD != 0 {
            *state = LOST;
            self.members[usize::from(id)].lost = world.now;
        } else {
            *state = 0;
        }
    }

    /// Up or undrained: it takes new flows, and owns them after a window.
    fn warm(&mut self, world: &mut World, id: u16) {
        let member = &mut self.members[usize::from(id)];
        if !member.is_used || !member.is_healthy || member.is_drained || member.is_removed {
            return;
        }
        let state = &mut world.backends[usize::from(id)].state;
        if *state & NEW == 0 {
            *state = (*state | ALIVE | NEW | TRACK) & !LOST;
            member.warm = world.now;
        }
    }

    fn drain(&mut self, world: &mut World, id: u16) {
        let state = &mut world.backends[usize::from(id)].state;
        if *state & NEW != 0 {
            *state = *state & !NEW | TRACK;
            self.members[usize::from(id)].drained = world.now;
        }
    }

    fn pass_time(&mut self, world: &mut World) {
        let (now, times) = (world.now, self.times);
        for (member, backend) in self.members.iter().zip(&mut world.backends) {
            let state = &mut backend.state;
            if *state & NEW != 0 {
                if now >= member.warm + times.udp_window {
                    *state |= OLDU;
                }
                if now >= member.warm + times.window {
                    *state |= OLD;
                }
            } else if *state & ALIVE != 0 && now >= member.drained + times.udp_window {
                *state &= !OLDU;
            }
            if *state & LOST != 0 && now >= member.lost + times.lost_for {
                *state &= !LOST;
            }
        }
        for (pool, ends) in world.pools.iter_mut().zip(&self.ends) {
            for ((_, flag, _), ends) in PROTOCOLS.into_iter().zip(ends) {
                let slots = pool.ladders.iter_mut().zip(ends);
                for (ladder, _) in
                    slots.filter(|(ladder, end)| **ladder & flag != 0 && now >= **end)
                {
                    *ladder &= !flag;
                }
            }
        }
    }

    fn change(
        &mut self,
        world: &mut World,
        pool: u16,
        ladders: &[u64],
        added: &[u16],
        removed: &[u16],
    ) {
        for id in added {
            let backend = &mut world.backends[usize::from(*id)];
            backend.state = 0;
            backend.generation += 1;
            self.members[usize::from(*id)] = Member {
                is_used: true,
                ..Member::default()
            };
        }
        let (table, marked) = self.changed_table(world, pool, ladders);
        let now = world.now;
        for ((_, flag, _), (ends, window)) in PROTOCOLS.into_iter().zip(
            self.ends[usize::from(pool)]
                .iter_mut()
                .zip([self.times.window, self.times.udp_window]),
        ) {
            let before = &world.pools[usize::from(pool)].ladders;
            for (slot, end) in ends.iter_mut().enumerate() {
                let is_new = table[slot] & flag != 0 && before[slot] & flag == 0;
                if is_new {
                    *end = now + window;
                }
            }
        }
        let place = &mut world.pools[usize::from(pool)];
        (place.ladders, place.previous) = (table, marked);
        for id in added {
            self.members[usize::from(*id)].is_healthy = true;
            self.warm(world, *id);
        }
        for id in removed {
            self.members[usize::from(*id)].is_removed = true;
            self.drain(world, *id);
        }
    }

    /// The ladders with their flags, and the previous owners.
    fn changed_table(&self, world: &World, pool: u16, ladders: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let before = &world.pools[usize::from(pool)];
        // As it would be without any flag: who owns the slots by the ladders alone.
        let mut after = world.clone();
        after.pools[usize::from(pool)].ladders = ladders.to_vec();
        let mut table = ladders.to_vec();
        let mut previous = vec![u64::from(NOBODY) | u64::from(NOBODY) << 16; ladders.len()];
        for slot in 0..ladders.len() {
            let old = before.ladders[slot];
            let is_other = old & !SLOT_FLAGS != ladders[slot];
            for (is_tcp, flag, shift) in PROTOCOLS {
                let walk =
                    |world: &World| owners::walk(world, Rules::ALL, pool, slot as u32, is_tcp);
                let (was, is) = (walk(world), walk(&after));
                let resets = is_tcp && before.resets;
                let lost_differs = resets && (was.lost == NOBODY) != (is.lost == NOBODY);
                if was.old != is.old
                    || lost_differs
                    || old & flag != 0
                    || (is_other || was.new != is.new) && is.new != is.old
                {
                    table[slot] |= flag;
                    previous[slot] &= !(0xffff << shift);
                    previous[slot] |= u64::from(was.old) << shift;
                }
            }
            let was_stable = old & SLOT_FLAGS == 0 && world.state(rung(old, 0)) == FULL;
            if table[slot] & SLOT_FLAGS != 0 || !was_stable {
                table[slot] |= TRACK_SLOT;
            }
        }
        (table, previous)
    }

    fn sweep(&mut self, plane: &mut Plane) {
        let deleted = self.dead_records(plane);
        for (is_new, key) in deleted {
            let records = if is_new {
                &mut plane.flows_new
            } else {
                &mut plane.flows
            };
            records.remove(&key);
        }
        let needed = needed_slots(plane);
        for (pool, needed) in plane.world.pools.iter_mut().zip(&needed) {
            for (ladder, is_needed) in pool.ladders.iter_mut().zip(needed) {
                let home = usize::from(rung(*ladder, 0));
                let state = plane
                    .world
                    .backends
                    .get(home)
                    .map_or(0, |backend| backend.state);
                let is_quiet = *ladder & (CHANGED_TCP | CHANGED_UDP) == 0 && state & !TRACK == FULL;
                if is_quiet && !is_needed {
                    *ladder &= !TRACK_SLOT;
                }
            }
        }
        for (id, backend) in (0_u16..).zip(&mut plane.world.backends) {
            let is_home_of_needed = plane.world.pools.iter().zip(&needed).any(|(pool, needed)| {
                let slots = pool.ladders.iter().zip(needed);
                slots
                    .into_iter()
                    .any(|(ladder, is_needed)| *is_needed && rung(*ladder, 0) == id)
            });
            if backend.state == FULL | TRACK && !is_home_of_needed {
                backend.state = FULL;
            }
        }
        self.free_removed(plane);
    }

    /// The records that a sweep deletes.
    #[must_use]
    pub fn dead_records(&self, plane: &Plane) -> Vec<(bool, Key)> {
        let world = &plane.world;
        let both = [(true, &plane.flows_new), (false, &plane.flows)];
        both.into_iter()
            .flat_map(|(is_new, records)| {
                records
                    .iter()
                    .map(move |(key, record)| (is_new, *key, *record))
            })
            .filter(|(is_new, _, record)| is_over(self.times, world, *is_new, record))
            .map(|(is_new, key, _)| (is_new, key))
            .collect()
    }

    /// Ids of removed backends that nothing names any more.
    fn free_removed(&mut self, plane: &Plane) {
        let world = &plane.world;
        for (id, member) in (0_u16..).zip(&mut self.members) {
            let in_tables = world.pools.iter().any(|pool| {
                let slots = pool.ladders.iter().zip(&pool.previous);
                slots.into_iter().any(|(ladder, previous)| {
                    let in_ladder = (0..4).any(|at| rung(*ladder, at) == id);
                    let before = |flag: u64, shift: u32| {
                        ladder & flag != 0 && (previous >> shift) as u16 == id
                    };
                    in_ladder || before(CHANGED_TCP, 0) || before(CHANGED_UDP, 16)
                })
            });
            let mut records = plane.flows.values().chain(plane.flows_new.values());
            if member.is_removed && !in_tables && !records.any(|record| record.backend == id) {
                *member = Member::default();
            }
        }
    }

    /// An agent that starts takes over what there is; the windows of changed slots begin again.
    fn restart(&mut self, world: &World) {
        self.is_dead = false;
        for ends in &mut self.ends {
            ends[0].fill(world.now + self.times.window);
            ends[1].fill(world.now + self.times.udp_window);
        }
    }
}

/// The service of a record, as a packet of its flow would find it.
#[must_use]
pub fn service_of<'a>(world: &'a World, key: &Key) -> Option<&'a Service> {
    let [_, _, high, low] = key.ports;
    let find = |port: u16, later: bool| {
        world.services.get(&ServiceKey {
            vip: key.destination,
            port,
            protocol: key.protocol,
            later,
        })
    };
    // A service of fragments records its flows without ports.
    let without_ports = if key.ports == [0; 4] {
        find(0, true)
    } else {
        None
    };
    without_ports
        .or_else(|| find(u16::from_be_bytes([high, low]), false))
        .or_else(|| find(0, false))
}

/// Pool and slot of a record.
#[must_use]
pub fn slot_of(world: &World, key: &Key) -> Option<(usize, usize)> {
    let pool = usize::from(service_of(world, key)?.pool);
    let slots = world.pools[pool].ladders.len() as u32;
    let v6 = !frame::is_mapped(&key.destination);
    let hash = hash::flow_hash(v6, &key.source, &key.destination, key.ports, key.protocol);
    (slots > 0).then(|| (pool, hash::slot_of(hash, slots) as usize))
}

/// Whether a record may go.
#[must_use]
pub fn is_over(times: Times, world: &World, is_new: bool, record: &Record) -> bool {
    let backend = &world.backends[usize::from(record.backend)];
    // The flow of a lost backend is reset when it speaks, and must not be taken for an unrecorded one.
    let is_live = backend.generation == record.generation && backend.state & (ALIVE | LOST) != 0;
    let age = u64::from(world.tick().wrapping_sub(record.last)) << 27;
    !is_live
        || age > times.idle
        || is_new && record.is_opened && age > times.embryo
        || record.is_closing && age > times.embryo
}

/// The slots in which some record's backend is not the first rung.
fn needed_slots(plane: &Plane) -> Vec<Vec<bool>> {
    let world = &plane.world;
    let slots = world
        .pools
        .iter()
        .map(|pool| vec![false; pool.ladders.len()]);
    let mut needed: Vec<Vec<bool>> = slots.collect();
    for (key, record) in plane.flows.iter().chain(&plane.flows_new) {
        if let Some((pool, slot)) = slot_of(world, key)
            && rung(world.pools[pool].ladders[slot], 0) != record.backend
        {
            needed[pool][slot] = true;
        }
    }
    needed
}
