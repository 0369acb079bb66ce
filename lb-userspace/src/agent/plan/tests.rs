//! The plan against a model of the maps that applies its writes one by one.

use lb_common::address::Address;
use lb_common::backend::{BackendState, Encapsulation, NextHop};
use lb_common::pool::NAME_BYTES;
use proptest::prelude::*;

use super::*;

/// The maps, as far as a plan reaches.
fn apply(contents: &mut Contents, write: &MapWrite) {
    match write {
        MapWrite::Settings(settings) => contents.settings = *settings,
        MapWrite::Port { index, port } => drop(contents.ports.insert(*index, *port)),
        MapWrite::Backend { id, backend } => drop(contents.backends.insert(*id, *backend)),
        MapWrite::Pool { id, pool } if pool.slots == 0 => drop(contents.pools.remove(id)),
        MapWrite::Pool { id, pool } => drop(contents.pools.insert(*id, *pool)),
        MapWrite::Table { pool, table } => {
            drop(contents.tables.insert(*pool, Arc::clone(&table.slots)));
        }
        MapWrite::RemoveTable(pool) => drop(contents.tables.remove(pool)),
        MapWrite::Vip { index, flags } => contents.vips[*index as usize] = *flags,
        MapWrite::Service { key, service } => drop(contents.services.insert(*key, *service)),
        MapWrite::RemoveService(key) => drop(contents.services.remove(key)),
        MapWrite::ZeroBackendTraffic(_) | MapWrite::ZeroServiceTraffic(_) => {}
    }
}

/// Whatever a packet may follow leads somewhere: filter → service → pool → table → backend.
fn is_consistent(contents: &Contents) -> bool {
    contents.services.iter().all(|(key, service)| {
        let index = lb_common::service::vip_filter_index(&key.address);
        let pool = PoolId(u32::from(service.pool));
        contents.vips[index as usize] != 0
            && contents
                .pools
                .get(&pool)
                .is_some_and(|pool| pool.slots == service.slots)
            && contents.tables.get(&pool).is_some_and(|slots| {
                slots.iter().all(|slot| {
                    contents
                        .backends
                        .get(&slot.rung(0))
                        .is_some_and(|backend| backend.pool == pool.0 && backend.encapsulation != 0)
                })
            })
    })
}

const VIP_COUNT: usize = lb_common::service::VIP_FILTER_ENTRIES as usize;

/// Contents as some configuration may want them: `shape` holds per pool its number of backends.
fn contents(shape: &[u8], first_backend: u16, first_service: u8) -> Contents {
    let mut contents = Contents {
        vips: vec![0; VIP_COUNT],
        ..Contents::default()
    };
    let mut next_backend = first_backend;
    for (pool, backends) in (0..).zip(shape) {
        let ids: Vec<BackendId> = (next_backend..)
            .take(usize::from(*backends))
            .map(BackendId)
            .collect();
        next_backend += u16::from(*backends);
        for id in &ids {
            let [high, low] = id.0.to_be_bytes();
            contents.backends.insert(
                *id,
                Backend {
                    pool,
                    address: Address::v4([10, 0, high, low]),
                    encapsulation: Encapsulation::Ethernet as u8,
                    ..Backend::FREE
                },
            );
        }
        let slots: Arc<[Slot]> = (0..7)
            .map(|slot| {
                let id = ids[slot % ids.len()];
                Slot::new([id, BackendId::NONE, BackendId::NONE, BackendId::NONE])
            })
            .collect();
        contents.pools.insert(
            PoolId(pool),
            Pool {
                slots: 7,
                name: [1; NAME_BYTES],
                ..Pool::FREE
            },
        );
        contents.tables.insert(PoolId(pool), slots);
        let address = Address::v4([198, 51, 100, first_service + pool as u8]);
        let key = ServiceKey {
            address,
            port: [0, 80],
            protocol: 6,
            pad: 0,
        };
        let service = Service {
            pool: pool as u16,
            slots: 7,
            counters: pool,
            previous_pool: 0,
            detours: 0,
            options: 0,
            mss: 0,
        };
        contents.services.insert(key, service);
        contents.vips[lb_common::service::vip_filter_index(&address) as usize] = 1;
    }
    contents
}

fn any_contents() -> impl Strategy<Value = Contents> {
    (proptest::collection::vec(1u8..4, 0..5), 0u16..6, 1u8..4)
        .prop_map(|(shape, backend, service)| contents(&shape, backend, service))
}

proptest! {
    #[test]
    fn the_writes_lead_from_any_contents_to_any_other(from in any_contents(), to in any_contents()) {
        let mut maps = from.clone();
        for write in plan(&to, &from) {
            apply(&mut maps, &write);
        }
        maps.backends.retain(|_, backend| backend.encapsulation != 0);
        prop_assert_eq!(&maps, &to);
        prop_assert_eq!(plan(&to, &maps), vec![], "nothing is left to do");
    }

    #[test]
    fn a_packet_finds_its_way_after_every_single_write(grown in any_contents()) {
        // Adding beside what is there, and taking it away again: no id changes its owner.
        let base = contents(&[2], 0, 1);
        let mut both = base.clone();
        for (id, pool) in &grown.pools {
            both.pools.insert(PoolId(id.0 + 10), *pool);
        }
        for (id, backend) in &grown.backends {
            both.backends.insert(BackendId(id.0 + 100), Backend { pool: backend.pool + 10, ..*backend });
        }
        for (id, slots) in &grown.tables {
            let shifted = slots.iter().map(|slot| {
                let rung = BackendId(slot.rung(0).0 + 100);
                Slot::new([rung, BackendId::NONE, BackendId::NONE, BackendId::NONE])
            });
            both.tables.insert(PoolId(id.0 + 10), shifted.collect());
        }
        for (key, service) in &grown.services {
            let key = ServiceKey { port: [1, 187], ..*key };
            both.services.insert(key, Service { pool: service.pool + 10, counters: service.counters + 10, ..*service });
        }
        for (there, flags) in both.vips.iter_mut().zip(&grown.vips) {
            *there |= flags;
        }
        for (from, to) in [(&base, &both), (&both, &base)] {
            let mut maps = from.clone();
            for write in plan(to, from) {
                apply(&mut maps, &write);
                prop_assert!(is_consistent(&maps), "after {write:?}");
            }
        }
    }
}

#[test]
fn a_state_or_next_hop_that_changed_meanwhile_is_not_written_over() {
    let desired = contents(&[3], 0, 1);
    let mut actual = desired.clone();
    for backend in actual.backends.values_mut() {
        backend.state = BackendState::UP;
        backend.next_hop = NextHop::new([2, 0, 0, 0, 0, 1], 3);
    }
    assert_eq!(plan(&desired, &actual), vec![]);
}

#[test]
fn a_free_id_keeps_its_generation() {
    let mut actual = contents(&[1], 0, 1);
    actual.backends.get_mut(&BackendId(0)).unwrap().generation = 7;
    let empty = Contents {
        vips: vec![0; VIP_COUNT],
        ..Contents::default()
    };
    let freed = Backend {
        generation: 7,
        ..Backend::FREE
    };
    let last = plan(&empty, &actual).pop();
    assert_eq!(
        last,
        Some(MapWrite::Backend {
            id: BackendId(0),
            backend: freed
        })
    );
}
