//! What is not settled in a pool, since when, why, and until when: for people and metrics.

use lb_common::backend::{BackendId, BackendState};
use lb_common::ladder::Slot;
use lb_common::pool::PoolId;

use super::Flows;

/// A pool in which some flows are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instability {
    /// Slots whose packets do not take the fast path.
    pub slots_unstable: u32,
    /// Slots whose owner changed, within their window.
    pub slots_changed: u32,
    /// When the first of the causes began, monotonic ns; 0 where an earlier agent knew.
    pub since: u64,
    /// When the last window ends; `None` if something has no end of its own (a backend that is
    /// down or drained, flows that are still recorded elsewhere).
    pub until: Option<u64>,
    /// Why.
    pub causes: Vec<Cause>,
    /// Flows on record, as the last sweep counted them.
    pub recorded: u64,
    /// Those of them that their slot alone would send elsewhere.
    pub needed: u64,
}

/// Why a pool is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It takes new flows and does not own the old ones yet.
    Warming(BackendId),
    /// It keeps its flows and takes no new ones.
    Draining(BackendId),
    /// It left the configuration and keeps its flows.
    Removed(BackendId),
    /// It failed lately: its flows are told.
    Lost(BackendId),
    /// It is down.
    Down(BackendId),
    /// It is back, and flows that went elsewhere meanwhile are still there.
    Tracked(BackendId),
    /// The configuration changed the owner of slots.
    Changed,
    /// Slots whose flows went elsewhere meanwhile.
    Recorded,
    /// A service pointed at another pool before.
    PreviousPool(PoolId),
}

impl Flows {
    /// What is not settled in a pool; `None` if every packet takes the fast path.
    #[must_use]
    pub fn instability(&self, id: PoolId) -> Option<Instability> {
        let pool = self.pools.get(&id)?;
        let mut found = Instability {
            recorded: pool.recorded,
            needed: pool.needed,
            ..Instability::default()
        };
        let mut times: Vec<(u64, Option<u64>)> = Vec::new();
        for (backend, member) in self.members.iter().filter(|(_, it)| it.pool == id) {
            if let Some(cause) = member.cause(*backend) {
                found.causes.push(cause);
                let until = match cause {
                    Cause::Warming(_) | Cause::Lost(_) => member.settles_at(&pool.rules),
                    _ => None,
                };
                times.push((member.began(), until));
            }
        }
        let state = |id: BackendId| self.state(id);
        let mut tracked = 0;
        for slot in pool.table.slots.iter() {
            if !slot.is_settled() || !state(slot.rung(0)).is_stable() {
                found.slots_unstable += 1;
            }
            if slot.0 & (Slot::CHANGED_TCP | Slot::CHANGED_UDP) != 0 {
                found.slots_changed += 1;
            }
            tracked += u32::from(slot.0 & Slot::FLAGS == Slot::TRACK);
        }
        if found.slots_changed > 0 {
            found.causes.push(Cause::Changed);
            let until = pool.windows.iter().map(|window| window.until).max();
            times.push((pool.since, until));
        } else if tracked > 0 && found.causes.is_empty() {
            found.causes.push(Cause::Recorded);
            times.push((pool.since, None));
        }
        for it in self.moves.values().filter(|it| it.to == id) {
            let cause = Cause::PreviousPool(it.from);
            if !found.causes.contains(&cause) {
                found.causes.push(cause);
            }
            times.push((it.since, Some(it.until)));
        }
        if found.causes.is_empty() {
            return None;
        }
        found.since = times.iter().map(|(since, _)| *since).min().unwrap_or(0);
        found.until = times
            .iter()
            .map(|(_, until)| *until)
            .collect::<Option<Vec<u64>>>()
            .and_then(|all| all.into_iter().max());
        Some(found)
    }
}

impl super::Member {
    /// Why the backend is not settled, if it is not.
    fn cause(&self, id: BackendId) -> Option<Cause> {
        let has = |bits| self.state.has(bits);
        if has(BackendState::LOST) {
            Some(Cause::Lost(id))
        } else if !has(BackendState::ALIVE) {
            Some(if self.wanted.is_removed {
                Cause::Removed(id)
            } else {
                Cause::Down(id)
            })
        } else if !has(BackendState::NEW) {
            Some(if self.wanted.is_removed {
                Cause::Removed(id)
            } else {
                Cause::Draining(id)
            })
        } else if !self.is_settled() {
            Some(Cause::Warming(id))
        } else if self.state.is_stable() {
            None
        } else {
            Some(Cause::Tracked(id))
        }
    }

    /// When the present state began, as far as it is known.
    fn began(&self) -> u64 {
        let [drained, warm, lost] = self.since;
        if self.state.has(BackendState::LOST) {
            lost
        } else if !self.state.has(BackendState::ALIVE) {
            self.down_since
        } else if self.state.has(BackendState::NEW) {
            warm
        } else {
            drained
        }
    }
}
