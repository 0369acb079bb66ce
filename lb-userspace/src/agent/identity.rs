//! Which index in the data plane each pool, backend and service has. Pure.
//!
//! An index, once given, stays for as long as its owner is configured, also across restarts of
//! the agent: flows and counters hang on it. What tells an agent that starts who is who stands in
//! the maps themselves: a pool's name, a backend's pool and address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::address::Address;
use lb_common::backend::{BackendId, Encapsulation};
use lb_common::maps::{BACKENDS_MAX, POOLS_MAX, SERVICES_MAX};
use lb_common::pool::PoolId;
use lb_common::service::ServiceKey;

use super::plan::Contents;
use crate::config::{Config, Forward, Pool, Port, Protocol, Service};

/// The indices of one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// By the pool's name.
    pub pools: BTreeMap<String, PoolId>,
    /// By the backend's pool and address.
    pub backends: BTreeMap<(PoolId, Address), Assigned>,
    /// Counters of each service and of each VIP's own entry.
    pub counters: BTreeMap<ServiceKey, u32>,
}

/// A backend's index, and how often it was given away before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Its index.
    pub id: BackendId,
    /// Its generation.
    pub generation: u32,
}

/// There is no index left: what is removed keeps its own until the change is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no {kind} left for what this configuration adds: {max} are the most, what it removes \
     included; remove first, then add"
)]
pub struct Exhausted {
    kind: &'static str,
    max: u32,
}

/// Gives everything in `config` its index: the one that it has in `actual`, else a free one. From
/// empty maps the same configuration gets the same indices on every gateway.
///
/// # Errors
/// [`Exhausted`].
pub fn assign(config: &Config, actual: &Contents) -> Result<Assignment, Exhausted> {
    let mut assignment = Assignment::default();
    let mut free_pools = free(POOLS_MAX, |id| actual.pools.contains_key(&PoolId(id)));
    let mut free_backends = free_backends(actual).into_iter();
    let known_backends: BTreeMap<_, _> = actual
        .backends
        .iter()
        .map(|(id, there)| {
            let who = (there.pool, there.address, there.encapsulation);
            let generation = there.generation;
            (
                who,
                Assigned {
                    id: *id,
                    generation,
                },
            )
        })
        .collect();
    for pool in &config.pools {
        let there = actual.pools.iter().find(|(_, there)| {
            there.name() == Some(pool.name.as_str()) && there.slots == pool.slots
        });
        let pool_id = match there {
            Some((id, _)) => *id,
            None => {
                let none = Exhausted {
                    kind: "pool ids",
                    max: POOLS_MAX,
                };
                PoolId(free_pools.next().ok_or(none)?)
            }
        };
        assignment.pools.insert(pool.name.clone(), pool_id);
        for backend in &pool.backends {
            let address = Address::from(backend.address);
            let encapsulation = encapsulation(pool, backend.address) as u8;
            let known = known_backends.get(&(pool_id.0, address, encapsulation));
            let assigned = match known {
                Some(assigned) => *assigned,
                None => {
                    let none = Exhausted {
                        kind: "backend ids",
                        max: BACKENDS_MAX,
                    };
                    free_backends.next().ok_or(none)?
                }
            };
            assignment.backends.insert((pool_id, address), assigned);
        }
    }
    assign_counters(config, actual, &mut assignment)?;
    Ok(assignment)
}

fn assign_counters(
    config: &Config,
    actual: &Contents,
    assignment: &mut Assignment,
) -> Result<(), Exhausted> {
    let taken: BTreeSet<u32> = actual
        .services
        .values()
        .map(|service| service.counters)
        .collect();
    let mut free = free(SERVICES_MAX, |index| taken.contains(&index));
    for key in config
        .services
        .iter()
        .flat_map(|service| [service_key(service), vip_key(service.vip)])
    {
        if assignment.counters.contains_key(&key) {
            continue;
        }
        let counters = match actual.services.get(&key) {
            Some(service) => service.counters,
            None => free.next().ok_or(Exhausted {
                kind: "service counters",
                max: SERVICES_MAX,
            })?,
        };
        assignment.counters.insert(key, counters);
    }
    Ok(())
}

/// Ids that nobody has, those that were given away least often first: the longer an id rests, the
/// surer it is that no flow remembers it.
fn free_backends(actual: &Contents) -> Vec<Assigned> {
    let mut free: Vec<Assigned> = (0..BACKENDS_MAX as u16)
        .map(BackendId)
        .filter_map(|id| match actual.backends.get(&id) {
            None => Some(Assigned { id, generation: 0 }),
            Some(there) if there.encapsulation == 0 => Some(Assigned {
                id,
                generation: there.generation.wrapping_add(1),
            }),
            Some(_) => None,
        })
        .collect();
    free.sort_by_key(|assigned| (assigned.generation, assigned.id));
    free
}

fn free(max: u32, is_taken: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
    (0..max).filter(move |index| !is_taken(*index))
}

/// How packets reach a backend of `pool` at `address`.
#[must_use]
pub fn encapsulation(pool: &Pool, address: IpAddr) -> Encapsulation {
    match (pool.forward, address) {
        (Forward::L2, _) => Encapsulation::Ethernet,
        (Forward::Ipip, IpAddr::V4(_)) => Encapsulation::Ipv4,
        (Forward::Ipip, IpAddr::V6(_)) => Encapsulation::Ipv6,
    }
}

/// The key under which the data plane finds a service.
#[must_use]
pub fn service_key(service: &Service) -> ServiceKey {
    let port = match service.port {
        Port::Any => 0,
        Port::Number(port) => port,
    };
    let protocol = match service.protocol {
        Protocol::Tcp => lb_common::packet::TCP,
        Protocol::Udp => lb_common::packet::UDP,
    };
    ServiceKey {
        address: service.vip.into(),
        port: u16::to_be_bytes(port),
        protocol,
        pad: 0,
    }
}

/// The key of a VIP's own entry.
#[must_use]
pub fn vip_key(vip: IpAddr) -> ServiceKey {
    let protocol = match vip {
        IpAddr::V4(_) => lb_common::service::ICMP,
        IpAddr::V6(_) => lb_common::service::ICMPV6,
    };
    ServiceKey {
        address: vip.into(),
        port: [0; 2],
        protocol,
        pad: 0,
    }
}

#[cfg(test)]
mod tests;
