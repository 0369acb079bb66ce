//! What passing time does: bits that come and go, slots and services whose past is over.

use std::collections::BTreeMap;

use lb_common::ladder::Slot;
use lb_common::packet::UDP;
use lb_common::pool::PoolId;
use lb_common::service::{Service, ServiceKey, detour};

use super::{Due, Flows, Move, PoolFlows, SlotWrites};

impl Flows {
    /// The services as they were written. Those with a previous pool keep it for a window (UDP: the
    /// UDP window) of the pool that they point at; one that moves again keeps its time.
    pub fn follow_services<'a>(
        &mut self,
        services: impl IntoIterator<Item = (&'a ServiceKey, &'a Service)>,
        now: u64,
    ) {
        let before = std::mem::take(&mut self.moves);
        for (key, service) in services {
            if service.detours & detour::PREVIOUS_POOL == 0 {
                continue;
            }
            let to = PoolId(u32::from(service.pool));
            let from = PoolId(u32::from(service.previous_pool));
            let window = |pool: &PoolId| {
                self.pools.get(pool).map_or(0, |pool| {
                    if key.protocol == UDP {
                        pool.rules.udp_window_ns
                    } else {
                        pool.rules.window_ns
                    }
                })
            };
            let fresh = Move {
                to,
                from,
                since: now,
                until: now + window(&to).max(window(&from)),
            };
            let kept = before.get(key).map(|there| Move { to, from, ..*there });
            self.moves.insert(*key, kept.unwrap_or(fresh));
        }
        if self.moves.len() != before.len() {
            self.revision += 1;
        }
    }

    /// When something is next due by time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let members = self.members.values().filter_map(|member| {
            let pool = self.pools.get(&member.pool)?;
            member.deadline(&pool.rules)
        });
        let windows = self
            .pools
            .values()
            .flat_map(|pool| pool.windows.iter().map(|it| it.until));
        let moves = self.moves.values().map(|it| it.until);
        members.chain(windows).chain(moves).min()
    }

    /// What is due at `now`: bits that come or go, windows that end.
    pub fn due(&mut self, now: u64) -> Due {
        let mut due = Due::default();
        for (id, member) in &mut self.members {
            let Some(pool) = self.pools.get(&member.pool) else {
                continue;
            };
            if member.pass_time(&pool.rules, now) {
                self.revision += 1;
                member.revision = self.revision;
                due.states.push(member.write(*id));
            }
        }
        for (id, pool) in &mut self.pools {
            let slots = pool.end_windows(now);
            if !slots.is_empty() {
                self.revision += 1;
                pool.revision = self.revision;
                due.slots.push(SlotWrites { pool: *id, slots });
            }
        }
        let ended = self.moves.iter().filter(|(_, it)| it.until <= now);
        due.services = ended.map(|(key, _)| *key).collect();
        for key in &due.services {
            if let Some(over) = self.moves.remove(key) {
                self.revision += 1;
                // What was recorded while the service moved is found by the slots' flags.
                if let Some(pool) = self.pools.get_mut(&over.to) {
                    pool.revision = self.revision;
                }
            }
        }
        due
    }
}

impl PoolFlows {
    /// Clears the flags of windows that ended, and says which slots that changed.
    fn end_windows(&mut self, now: u64) -> Vec<(u32, Slot)> {
        let mut changed = BTreeMap::new();
        for window in self.windows.extract_if(.., |window| window.until <= now) {
            for index in window.slots {
                let slot = self.table.clear(index, window.flag);
                changed.insert(index, slot);
            }
        }
        changed.into_iter().collect()
    }
}
