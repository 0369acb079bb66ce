//! The agent's side of keeping flows: what each backend's state bits, each slot's flags and each
//! service's previous pool shall be, and which records of flows may go. Pure: no maps, no clock;
//! time is an argument, monotonic nanoseconds.
//!
//! The gateway task holds one [`Flows`] and tells it what happens; every method answers with what
//! is to be written, in the order in which it is to be written. A test drives it in the same way,
//! over real maps with a simulated clock or over none at all:
//!
//! | what happens | call | write |
//! |---|---|---|
//! | a pool's first table | [`Flows::evaluate`], [`Flows::commit`], then [`Flows::add`] | the backends, then the table |
//! | a backend appears in a pool that has a table | table as above with the backend down, then `add`, [`Flows::recover`] | in this order |
//! | checks, operator | [`Flows::fail`], [`Flows::recover`], [`Flows::drain`], [`Flows::undrain`] | the [`StateWrite`] |
//! | another table | `evaluate` (on any thread), swap, `commit` | [`TableChange::table`] |
//! | a backend leaves the configuration | table without it, then [`Flows::remove`] | the `StateWrite` |
//! | a service points at another pool | [`carry_over`], swap, [`Flows::follow_services`] | the service with its previous pool |
//! | time | [`Flows::due`] at [`Flows::next_deadline`] | states, slots, services |
//! | every few seconds while [`Flows::is_unstable`] | [`Flows::begin_sweep`], list `FLOWS_NEW`, **then** `FLOWS`, [`Sweep::judge`] each, [`Flows::end_sweep`] | deletions; slots; `settled` by compare-exchange |
//! | an agent starts over maps that it finds | [`Flows::adopt_pool`], [`Flows::adopt_backend`], [`Flows::follow_services`] | nothing |
//!
//! Between `evaluate` and the swap no state may be stored but that of a backend that fails.

mod change;
mod instability;
mod keep;
mod member;
mod owners;
mod sweep;
mod table;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use lb_common::backend::{Backend, BackendId, BackendState};
use lb_common::ladder::Slot;
use lb_common::pool::PoolId;
use lb_common::service::ServiceKey;

use self::member::Member;
use self::owners::States;

pub use self::change::{Evaluator, TableChange};
pub use self::instability::{Cause, Instability};
pub use self::keep::carry_over;
pub use self::owners::{Owners, owners};
pub use self::sweep::{Judgement, Listed, Live, Sweep, SweepOutcome, slot_of};
pub use self::table::Table;

/// What a pool's configuration says of its flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long a slot records TCP flows before its owner changes, ns.
    pub window_ns: u64,
    /// The same for UDP, ns.
    pub udp_window_ns: u64,
    /// Life of a record that no packet uses, ns; longer than both windows.
    pub idle_ns: u64,
    /// How long a backend that failed counts as just lost, ns.
    pub lost_for_ns: u64,
    /// Life of a record made by a SYN that nothing followed, and of one whose flow said goodbye, ns.
    pub embryo_ns: u64,
    /// Whether flows of a lost backend are reset (`on_backend_loss = "reset"`).
    pub resets: bool,
}

/// What the maps need to know of a backend: first `since`, then the state.
///
/// `state` replaces the state word, except that a `TRACK` which the program set meanwhile stays if
/// `state` has `ALIVE`: only [`SweepOutcome::settled`] takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateWrite {
    /// The backend.
    pub id: BackendId,
    /// Its new state.
    pub state: BackendState,
    /// When a drain, a warming and a loss began; the whole of [`Backend::since`].
    pub since: [u64; 3],
}

/// Slots of a live table of which only flags change: one store of eight bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWrites {
    /// The pool.
    pub pool: PoolId,
    /// Index and new value.
    pub slots: Vec<(u32, Slot)>,
}

/// What a passing of time asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Backends that own flows from now on, or do no more.
    pub states: Vec<StateWrite>,
    /// Slots whose window ended.
    pub slots: Vec<SlotWrites>,
    /// Services that no longer ask the pool they pointed at before: their detour goes.
    pub services: Vec<ServiceKey>,
}

/// What a backend is wanted to be: what checks, operator and configuration say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Checks and network say that packets reach it.
    pub is_healthy: bool,
    /// The operator wants no new flows there.
    pub is_drained: bool,
    /// It left the configuration.
    pub is_removed: bool,
}

/// The agent's knowledge of all pools' flows.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    pools: BTreeMap<PoolId, PoolFlows>,
    members: BTreeMap<BackendId, Member>,
    /// When each service forgets the pool that it pointed at before.
    moves: BTreeMap<ServiceKey, Move>,
    /// Counts changes, so that a sweep knows what has stayed as it was since before it looked.
    revision: u64,
}

#[derive(Debug, Clone, Copy)]
struct Move {
    to: PoolId,
    from: PoolId,
    since: u64,
    until: u64,
}

#[derive(Debug, Clone)]
struct PoolFlows {
    rules: Rules,
    table: Table,
    windows: Vec<Window>,
    /// When the table was swapped last, 0 for before this agent.
    since: u64,
    revision: u64,
    /// As the last sweep counted them.
    recorded: u64,
    needed: u64,
}

/// Slots whose owner changed at one time, and when it is forgotten.
#[derive(Debug, Clone)]
struct Window {
    flag: u64,
    until: u64,
    slots: Vec<u32>,
}

impl Flows {
    /// Takes over a pool as an earlier agent left it. The windows of changed slots start again: a
    /// longer window is always safe, a shorter one never.
    pub fn adopt_pool(&mut self, pool: PoolId, rules: Rules, table: Table, now: u64) {
        let mut windows = Vec::new();
        for (flag, window) in rules.windows() {
            let slots = table.flagged(flag);
            if !slots.is_empty() {
                windows.push(Window {
                    flag,
                    until: now + window,
                    slots,
                });
            }
        }
        self.revision += 1;
        self.pools.insert(
            pool,
            PoolFlows {
                rules,
                table,
                windows,
                since: 0,
                revision: self.revision,
                recorded: 0,
                needed: 0,
            },
        );
    }

    /// Takes over a backend as an earlier agent left it, bits and times.
    pub fn adopt_backend(&mut self, id: BackendId, left: &Backend, wanted: Wanted, now: u64) {
        self.revision += 1;
        let member = Member::adopted(left, wanted, now, self.revision);
        self.members.insert(id, member);
    }

    /// A backend that the maps hold as `state` (`UP` at the first start of a pool, where no flow
    /// can exist yet; else `DOWN`) and that was not known before.
    pub fn add(&mut self, id: BackendId, pool: PoolId, state: BackendState) {
        self.revision += 1;
        self.members
            .insert(id, Member::new(pool, state, self.revision));
    }

    /// The state in which a new backend is written: in service at once in a pool that never had a
    /// table, else down until the table that names it is there.
    #[must_use]
    pub fn first_state(&self, pool: PoolId, wanted: Wanted) -> BackendState {
        if wanted == Wanted::IN_SERVICE && !self.pools.contains_key(&pool) {
            BackendState::UP
        } else {
            BackendState::DOWN
        }
    }

    /// Checks or network say that packets no longer reach it.
    pub fn fail(&mut self, id: BackendId, now: u64) -> Option<StateWrite> {
        self.change_wanted(id, now, |wanted| wanted.is_healthy = false)
    }

    /// They reach it. A backend that is drained or removed stays down: it owns nothing and may
    /// take nothing.
    pub fn recover(&mut self, id: BackendId, now: u64) -> Option<StateWrite> {
        self.change_wanted(id, now, |wanted| wanted.is_healthy = true)
    }

    /// The operator wants no new flows there.
    pub fn drain(&mut self, id: BackendId, now: u64) -> Option<StateWrite> {
        self.change_wanted(id, now, |wanted| wanted.is_drained = true)
    }

    /// The operator wants them again.
    pub fn undrain(&mut self, id: BackendId, now: u64) -> Option<StateWrite> {
        self.change_wanted(id, now, |wanted| wanted.is_drained = false)
    }

    /// It left the configuration: drained, until nothing names it.
    pub fn remove(&mut self, id: BackendId, now: u64) -> Option<StateWrite> {
        self.change_wanted(id, now, |wanted| wanted.is_removed = true)
    }

    /// All of these at once: what is wanted of it from now on.
    pub fn want(&mut self, id: BackendId, wanted: Wanted, now: u64) -> Option<StateWrite> {
        self.change_wanted(id, now, |it| *it = wanted)
    }

    fn change_wanted(
        &mut self,
        id: BackendId,
        now: u64,
        change: impl FnOnce(&mut Wanted),
    ) -> Option<StateWrite> {
        let member = self.members.get_mut(&id)?;
        change(&mut member.wanted);
        if !member.follow_wanted(now) {
            return None;
        }
        self.revision += 1;
        member.revision = self.revision;
        Some(member.write(id))
    }

    /// What the map says of a backend now: the program itself sets `TRACK` when it sends a flow
    /// elsewhere while no agent is alive.
    pub fn observe(&mut self, id: BackendId, state: BackendState) {
        if let Some(member) = self.members.get_mut(&id)
            && member.notice_track(state)
        {
            self.revision += 1;
            member.revision = self.revision;
        }
    }

    /// The state that the maps hold of a backend, `DOWN` for one that nobody knows.
    #[must_use]
    pub fn state(&self, id: BackendId) -> BackendState {
        self.members
            .get(&id)
            .map_or(BackendState::DOWN, |member| member.state)
    }

    /// What is wanted of a backend.
    #[must_use]
    pub fn wanted(&self, id: BackendId) -> Option<Wanted> {
        self.members.get(&id).map(|member| member.wanted)
    }

    /// When its drain, its warming and its loss began.
    #[must_use]
    pub fn since(&self, id: BackendId) -> [u64; 3] {
        self.members.get(&id).map_or([0; 3], |member| member.since)
    }

    /// When its present state ends by itself, if it does.
    #[must_use]
    pub fn until(&self, id: BackendId) -> Option<u64> {
        let member = self.members.get(&id)?;
        let rules = &self.pools.get(&member.pool)?.rules;
        member.settles_at(rules)
    }

    /// A pool's table as the maps hold it, flags and previous owners included.
    #[must_use]
    pub fn table(&self, pool: PoolId) -> Option<&Table> {
        self.pools.get(&pool).map(|it| &it.table)
    }

    /// The pools that have a table.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.pools.keys().copied()
    }

    /// The backends that are known.
    #[must_use]
    pub fn backends(&self) -> Vec<BackendId> {
        self.members.keys().copied().collect()
    }

    /// The backends that left the configuration and are still needed.
    pub fn removed(&self) -> impl Iterator<Item = BackendId> {
        self.members
            .iter()
            .filter(|(_, member)| member.wanted.is_removed)
            .map(|(id, _)| *id)
    }

    /// What an evaluation of new tables needs; it may be done on another thread.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator {
        let tables = self
            .pools
            .iter()
            .map(|(id, it)| (*id, (it.table.clone(), it.rules)));
        Evaluator::new(States::of(&self.members), tables.collect())
    }

    /// The table for new ladders of a pool: which slots are marked as changed, and who owned them.
    #[must_use]
    pub fn evaluate(&self, pool: PoolId, rules: Rules, ladders: &[Slot]) -> TableChange {
        self.evaluator().evaluate(pool, rules, ladders, false)
    }

    /// The table was swapped in: its windows begin.
    pub fn commit(&mut self, change: TableChange, now: u64) {
        self.revision += 1;
        let revision = self.revision;
        let rules = change.rules;
        let pool = self.pools.entry(change.pool).or_insert_with(|| PoolFlows {
            rules,
            table: change.table.clone(),
            windows: Vec::new(),
            since: 0,
            revision,
            recorded: 0,
            needed: 0,
        });
        if pool.table.slots.len() != change.table.slots.len() {
            // Another pool's table under this id.
            pool.windows.clear();
        }
        let newly = [change.newly_tcp, change.newly_udp];
        for ((flag, window), slots) in rules.windows().into_iter().zip(newly) {
            if !slots.is_empty() {
                pool.windows.push(Window {
                    flag,
                    until: now + window,
                    slots,
                });
            }
        }
        pool.rules = rules;
        pool.table = change.table;
        pool.since = now;
        pool.revision = revision;
    }

    /// Other times for a pool whose table stays. Windows that run are not moved.
    pub fn set_rules(&mut self, pool: PoolId, rules: Rules) {
        if let Some(pool) = self.pools.get_mut(&pool) {
            pool.rules = rules;
        }
    }

    /// Whether anything is left to be swept or waited for.
    #[must_use]
    pub fn is_unstable(&self) -> bool {
        !self.moves.is_empty()
            || self.members.values().any(|it| !it.state.is_stable())
            || self
                .pools
                .values()
                .any(|pool| pool.recorded > 0 || !pool.table.is_settled())
    }

    /// The pools that services still ask although they point elsewhere now.
    #[must_use]
    pub fn previous_pools(&self) -> BTreeSet<PoolId> {
        self.moves.values().map(|it| it.from).collect()
    }

    /// A backend's id is free: nothing names it any more.
    pub fn forget_backend(&mut self, id: BackendId) {
        self.members.remove(&id);
    }

    /// A pool's table was taken away.
    pub fn forget_pool(&mut self, pool: PoolId) {
        self.revision += 1;
        self.pools.remove(&pool);
    }
}

impl Wanted {
    /// Healthy, and nobody wants anything else of it.
    pub const IN_SERVICE: Self = Self {
        is_healthy: true,
        is_drained: false,
        is_removed: false,
    };
}

impl Rules {
    /// The flag of each protocol's changed slots, and how long it stays.
    fn windows(&self) -> [(u64, u64); 2] {
        [
            (Slot::CHANGED_TCP, self.window_ns),
            (Slot::CHANGED_UDP, self.udp_window_ns),
        ]
    }
}

#[cfg(test)]
mod tests;
