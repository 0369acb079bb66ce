//! From what the maps should hold and what they hold to the writes that lie between. Pure.
//!
//! Start, reload and recovery after a restart are this one path: only `actual` differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::backend::{Backend, BackendId};
use lb_common::ladder::Slot;
use lb_common::pool::{Pool, PoolId};
use lb_common::port::Port;
use lb_common::service::{Service, ServiceKey};
use lb_common::settings::Settings;

use super::flows::Table;

/// What the maps hold, or should hold.
///
/// States and next hops of backends are not part of it: they change by single stores, and no plan
/// ever writes over them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The one element of `SETTINGS`.
    pub settings: Settings,
    /// Ports in use. Found by next hops, not by configuration: a plan leaves them alone.
    pub ports: BTreeMap<u16, Port>,
    /// Pools in use.
    pub pools: BTreeMap<PoolId, Pool>,
    /// Their tables: the ladders, without flags and without the previous owners behind them.
    pub tables: BTreeMap<PoolId, Arc<[Slot]>>,
    /// Backends; in `actual` also the free ids that somebody had, for their generation.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Services, and the one entry per VIP.
    pub services: BTreeMap<ServiceKey, Service>,
    /// The whole of `VIPS`.
    pub vips: Vec<u32>,
}

/// The contents as read from the kernel.
pub type Actual = Contents;
/// The contents as the configuration wants them.
pub type Desired = Contents;

/// One write to one map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapWrite {
    /// Write `SETTINGS`.
    Settings(Settings),
    /// Write an element of `PORTS` and the device behind it.
    Port {
        /// Index.
        index: u16,
        /// Value.
        port: Port,
    },
    /// Write an element of `BACKENDS` that no ladder names.
    Backend {
        /// Index.
        id: BackendId,
        /// Value.
        backend: Backend,
    },
    /// Set a backend's counters to zero: its id goes to somebody else.
    ZeroBackendTraffic(BackendId),
    /// Write an element of `POOLS`.
    Pool {
        /// Index.
        id: PoolId,
        /// Value.
        pool: Pool,
    },
    /// Swap a pool's table.
    Table {
        /// The pool.
        pool: PoolId,
        /// The ladders; flags and previous owners are put in by whoever knows of flows.
        table: Table,
    },
    /// Take a pool's table away.
    RemoveTable(PoolId),
    /// Write an element of `VIPS`.
    Vip {
        /// Index.
        index: u32,
        /// Value.
        flags: u32,
    },
    /// Set a service's counters to zero: their index goes to another service.
    ZeroServiceTraffic(u32),
    /// Write an entry of `SERVICES`.
    Service {
        /// Key.
        key: ServiceKey,
        /// Value.
        service: Service,
    },
    /// Remove an entry of `SERVICES`.
    RemoveService(ServiceKey),
}

/// The writes that turn `actual` into `desired`, in an order in which every packet in between
/// finds either the old or the new: what is pointed at comes before what points at it, and goes
/// after it.
#[must_use]
pub fn plan(desired: &Desired, actual: &Actual) -> Vec<MapWrite> {
    let mut writes = Vec::new();
    if desired.settings != actual.settings {
        writes.push(MapWrite::Settings(desired.settings));
    }
    new_backends(desired, actual, &mut writes);
    new_pools(desired, actual, &mut writes);
    widened_filter(desired, actual, &mut writes);
    new_services(desired, actual, &mut writes);
    old_services(desired, actual, &mut writes);
    narrowed_filter(desired, actual, &mut writes);
    old_pools(desired, actual, &mut writes);
    old_backends(desired, actual, &mut writes);
    writes
}

/// Whether two backends are the same to a plan: all but what is stored while packets flow.
fn is_same_backend(a: &Backend, b: &Backend) -> bool {
    (a.address, a.pool, a.encapsulation, a.generation)
        == (b.address, b.pool, b.encapsulation, b.generation)
}

fn new_backends(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for (id, backend) in &desired.backends {
        if !actual
            .backends
            .get(id)
            .is_some_and(|there| is_same_backend(there, backend))
        {
            writes.push(MapWrite::ZeroBackendTraffic(*id));
            writes.push(MapWrite::Backend {
                id: *id,
                backend: *backend,
            });
        }
    }
}

fn new_pools(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for (id, pool) in &desired.pools {
        if actual.pools.get(id) != Some(pool) {
            writes.push(MapWrite::Pool {
                id: *id,
                pool: *pool,
            });
        }
    }
    for (pool, slots) in &desired.tables {
        if actual.tables.get(pool) != Some(slots) {
            writes.push(MapWrite::Table {
                pool: *pool,
                table: Table::fresh(Arc::clone(slots)),
            });
        }
    }
}

/// An index that the filter lets through too early costs a lookup; one that it lets through too
/// late loses packets.
fn widened_filter(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for (index, (wanted, there)) in filters(desired, actual) {
        if wanted & !there != 0 {
            writes.push(MapWrite::Vip {
                index,
                flags: wanted | there,
            });
        }
    }
}

fn narrowed_filter(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for (index, (wanted, there)) in filters(desired, actual) {
        if there & !wanted != 0 {
            writes.push(MapWrite::Vip {
                index,
                flags: wanted,
            });
        }
    }
}

fn filters(desired: &Desired, actual: &Actual) -> impl Iterator<Item = (u32, (u32, u32))> {
    let there = actual.vips.iter().copied().chain(std::iter::repeat(0));
    (0..).zip(desired.vips.iter().copied().zip(there))
}

fn new_services(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for (key, service) in &desired.services {
        let there = actual.services.get(key);
        if there == Some(service) {
            continue;
        }
        if there.is_none_or(|there| there.counters != service.counters) {
            writes.push(MapWrite::ZeroServiceTraffic(service.counters));
        }
        writes.push(MapWrite::Service {
            key: *key,
            service: *service,
        });
    }
}

fn old_services(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    let gone = actual
        .services
        .keys()
        .filter(|key| !desired.services.contains_key(key));
    writes.extend(gone.map(|key| MapWrite::RemoveService(*key)));
}

fn old_pools(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for id in actual
        .pools
        .keys()
        .filter(|id| !desired.pools.contains_key(id))
    {
        if actual.tables.contains_key(id) {
            writes.push(MapWrite::RemoveTable(*id));
        }
        writes.push(MapWrite::Pool {
            id: *id,
            pool: Pool::FREE,
        });
    }
}

/// A free id keeps its generation, so that its next user gets another one.
fn old_backends(desired: &Desired, actual: &Actual, writes: &mut Vec<MapWrite>) {
    for (id, backend) in &actual.backends {
        let is_free = backend.encapsulation == 0;
        if !is_free && !desired.backends.contains_key(id) {
            let free = Backend {
                generation: backend.generation,
                ..Backend::FREE
            };
            writes.push(MapWrite::Backend {
                id: *id,
                backend: free,
            });
        }
    }
}

#[cfg(test)]
mod tests;
