//! What a configuration no longer names and flows still need: removed backends, and the pools that
//! services pointed at before.

use std::collections::BTreeSet;

use lb_common::packet::{TCP, UDP};
use lb_common::pool::PoolId;
use lb_common::service::detour;

use crate::agent::plan::{Actual, Desired};

/// Adds to what a configuration wants what flows still need of what is there. A plan for the
/// result gives nothing away that a flow lives on.
///
/// - A service that points at another pool than before asks that pool's table for the flows that it
///   has no record of, until [`super::Due::services`] names it; one that moves again within that
///   time goes on asking the pool whose flows they are.
/// - A pool that is asked so keeps its table.
/// - A removed backend keeps its element, address, id and generation until a sweep frees it.
///
/// Returns the pools that some service is about to move to: all of their slots get `TRACK`.
pub fn carry_over(desired: &mut Desired, actual: &Actual) -> BTreeSet<PoolId> {
    let mut targets = BTreeSet::new();
    let mut asked = BTreeSet::new();
    for (key, service) in &mut desired.services {
        if ![TCP, UDP].contains(&key.protocol) || service.detours & detour::NEVER != 0 {
            continue;
        }
        let Some(there) = actual.services.get(key) else {
            continue;
        };
        let is_moving = there.detours & detour::PREVIOUS_POOL != 0;
        if !is_moving && there.pool == service.pool {
            continue;
        }
        let owner = if is_moving {
            there.previous_pool
        } else {
            there.pool
        };
        let pool = PoolId(u32::from(owner));
        if !actual.tables.contains_key(&pool) {
            continue;
        }
        service.previous_pool = owner;
        service.detours |= detour::PREVIOUS_POOL;
        asked.insert(pool);
        if there.pool != service.pool {
            targets.insert(PoolId(u32::from(service.pool)));
        }
    }
    for id in asked {
        if let Some(pool) = actual.pools.get(&id) {
            desired.pools.entry(id).or_insert(*pool);
        }
        if let Some(table) = actual.tables.get(&id) {
            let table = table.clone();
            desired.tables.entry(id).or_insert(table);
        }
    }
    for (id, backend) in &actual.backends {
        if backend.encapsulation != 0 {
            desired.backends.entry(*id).or_insert(*backend);
        }
    }
    targets
}
