//! From the configuration to what the maps should hold. Pure: the same input gives the same bytes
//! on every gateway.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use lb_common::address::Address;
use lb_common::backend::{Backend, BackendId};
use lb_common::ladder::Slot;
use lb_common::pool::{self, NAME_BYTES, PoolId};
use lb_common::service::{
    LATER_FRAGMENTS, Service, ServiceKey, VIP_FILTER_ENTRIES, detour, option, vip_filter,
    vip_filter_index,
};
use lb_common::settings::Settings;

use super::identity::{Assignment, encapsulation, service_key, vip_key};
use super::plan::Contents;
use crate::config::{self, Agent, Config, OnBackendLoss, OnEmpty, Pool, Port, Tracking, UdpFlows};
use crate::maglev::{self, Candidate};

/// What the maps should hold for `config`, given everybody's index. `weight` is the weight in force
/// of a backend, by its pool and name.
///
/// # Panics
/// If `assignment` was made for another configuration.
#[must_use]
pub fn desired(
    config: &Config,
    assignment: &Assignment,
    weight: impl Fn(&str, &str) -> Option<u32>,
) -> Contents {
    let mut contents = Contents {
        settings: settings(&config.agent),
        vips: vec![0; VIP_FILTER_ENTRIES as usize],
        ..Contents::default()
    };
    for pool in &config.pools {
        let id = assignment.pools[&pool.name];
        contents.pools.insert(id, pool_value(pool));
        let mut candidates = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let assigned = assignment.backends[&(id, Address::from(backend.address))];
            contents.backends.insert(
                assigned.id,
                Backend {
                    generation: assigned.generation,
                    address: backend.address.into(),
                    pool: id.0,
                    encapsulation: encapsulation(pool, backend.address) as u8,
                    ..Backend::FREE
                },
            );
            candidates.push(Candidate {
                id: assigned.id.0,
                key: backend.address.into(),
                role: backend.role,
                weight: weight(&pool.name, &backend.name).unwrap_or(backend.weight),
                zone: backend.zone.clone(),
            });
        }
        contents.tables.insert(id, table(&candidates, pool));
    }
    services(config, assignment, &mut contents);
    contents
}

fn table(candidates: &[Candidate], pool: &Pool) -> Arc<[Slot]> {
    let slot =
        |ladder: maglev::Ladder| Slot::new(ladder.map(|id| id.map_or(BackendId::NONE, BackendId)));
    maglev::build(candidates, pool.slots, pool.spill)
        .into_iter()
        .map(slot)
        .collect()
}

fn services(config: &Config, assignment: &Assignment, contents: &mut Contents) {
    for service in &config.services {
        let pool: PoolId = assignment.pools[&service.pool];
        let slots = contents.pools[&pool].slots;
        let detours = match config.pool(&service.pool).map(|pool| pool.tracking) {
            Some(Tracking::Always) => detour::ALWAYS,
            Some(Tracking::Never) => detour::NEVER,
            Some(Tracking::Auto) | None => 0,
        };
        for key in [vip_key(service.vip), service_key(service)] {
            let counters = assignment.counters[&key];
            contents.services.insert(
                key,
                Service {
                    pool: pool.0 as u16,
                    previous_pool: 0,
                    slots,
                    counters,
                    detours,
                    options: 0,
                    mss: 0,
                },
            );
        }
        let key = service_key(service);
        let value = traits(service, contents.services[&key]);
        contents.services.insert(key, value);
        if service.fragments {
            // Counted with the first service that takes them: they do not say for which they are.
            let later = later_fragments_key(service);
            contents.services.entry(later).or_insert(value);
        }
        let filter = &mut contents.vips[vip_filter_index(&service.vip.into()) as usize];
        *filter |= vip_filter::VIP | vip_filter::of_protocol(service_key(service).protocol);
        if service.port == Port::Any {
            *filter |= vip_filter::ANY_PORT;
        }
    }
}

/// What the configuration says of a service beside its pool.
fn traits(configured: &config::Service, mut service: Service) -> Service {
    if configured.fragments {
        service.detours |= detour::FRAGMENTS;
    }
    if configured.udp == UdpFlows::Quic {
        service.options |= option::QUIC;
    }
    service.mss = configured.mss.unwrap_or(0);
    service
}

fn later_fragments_key(service: &config::Service) -> ServiceKey {
    ServiceKey {
        port: [0; 2],
        pad: LATER_FRAGMENTS,
        ..service_key(service)
    }
}

fn pool_value(pool: &Pool) -> pool::Pool {
    let mut name = [0; NAME_BYTES];
    name[..pool.name.len()].copy_from_slice(pool.name.as_bytes());
    pool::Pool {
        slots: pool.slots,
        on_empty: match pool.on_empty {
            OnEmpty::Reset => pool::OnEmpty::Reset,
            OnEmpty::Drop => pool::OnEmpty::Drop,
            OnEmpty::Pass => pool::OnEmpty::Pass,
        } as u8,
        on_backend_loss: match pool.on_backend_loss {
            OnBackendLoss::Reset => pool::OnBackendLoss::Reset,
            OnBackendLoss::Migrate => pool::OnBackendLoss::Migrate,
        } as u8,
        tracking: match pool.tracking {
            Tracking::Auto => pool::Tracking::Auto,
            Tracking::Always => pool::Tracking::Always,
            Tracking::Never => pool::Tracking::Never,
        } as u8,
        pad: 0,
        name,
    }
}

/// The bits of a source below its prefix are filled from the flow's hash, in IPv6 the last 32.
fn settings(agent: &Agent) -> Settings {
    let v4 = agent.tunnel_source_v4;
    let v6 = agent.tunnel_source_v6;
    let host_bits_v4 = Ipv4Addr::from_bits(!v4.netmask().to_bits());
    let host_bits_v6 = Ipv6Addr::from_bits(!v6.netmask().to_bits() & u128::from(u32::MAX));
    Settings {
        tunnel_source_v4: Address::v4(v4.network().octets()),
        tunnel_source_v6: Address::v6(v6.network().octets()),
        tunnel_fill_v4: Address::v4(host_bits_v4.octets()).words[3],
        tunnel_fill_v6: Address::v6(host_bits_v6.octets()).words[3],
    }
}

#[cfg(test)]
mod tests;
