//! The agent's flow duties, fact by fact.

mod change;
mod schedules;
mod states;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::address::Address;
use lb_common::backend::{BackendId, BackendState};
use lb_common::ladder::Slot;
use lb_common::packet::TCP;
use lb_common::pool::PoolId;
use lb_common::service::{Service, ServiceKey};

use super::{Flows, Rules, Wanted};

const SECOND: u64 = 1_000_000_000;
const WINDOW: u64 = 300 * SECOND;
const UDP_WINDOW: u64 = 30 * SECOND;
const POOL: PoolId = PoolId(3);
const RULES: Rules = Rules {
    window_ns: WINDOW,
    udp_window_ns: UDP_WINDOW,
    idle_ns: 3600 * SECOND,
    lost_for_ns: 60 * SECOND,
    embryo_ns: 60 * SECOND,
    resets: true,
};
const A: BackendId = BackendId(1);
const B: BackendId = BackendId(2);
const C: BackendId = BackendId(3);
const NOBODY: BackendId = BackendId::NONE;

const ALIVE: u32 = BackendState::ALIVE;
const NEW: u32 = BackendState::NEW;
const OLD: u32 = BackendState::OLD;
const OLD_UDP: u32 = BackendState::OLD_UDP;
const TRACK: u32 = BackendState::TRACK;
const LOST: BackendState = BackendState(BackendState::LOST);
const WARMING: BackendState = BackendState(ALIVE | NEW | TRACK);
const TRACKED: BackendState = BackendState(BackendState::UP.0 | TRACK);

fn ladder(rungs: &[BackendId]) -> Slot {
    let mut ladder = [NOBODY; 4];
    ladder[..rungs.len()].copy_from_slice(rungs);
    Slot::new(ladder)
}

/// A pool with these ladders, all of its backends in service.
fn settled(ladders: &[Slot]) -> Flows {
    let mut flows = Flows::default();
    let first = flows.first_state(POOL, Wanted::IN_SERVICE);
    assert_eq!(first, BackendState::UP);
    let change = flows.evaluate(POOL, RULES, ladders);
    flows.commit(change, 1);
    for id in [A, B, C] {
        flows.add(id, POOL, first);
    }
    flows
}

/// Swaps other ladders in, and gives the table's slots.
fn swap(flows: &mut Flows, ladders: &[Slot], now: u64) -> Vec<Slot> {
    let change = flows.evaluate(POOL, RULES, ladders);
    flows.commit(change, now);
    slots(flows)
}

fn slots(flows: &Flows) -> Vec<Slot> {
    flows.table(POOL).unwrap().slots.to_vec()
}

fn flags(slot: Slot) -> u64 {
    slot.0 & Slot::FLAGS
}

/// Lets time pass up to `now` as the gateway does: each deadline in its turn.
fn pass(flows: &mut Flows, now: u64) {
    while let Some(at) = flows.next_deadline().filter(|at| *at <= now) {
        flows.due(at);
    }
}

/// One service, on every port of one VIP.
fn services(slots: u32) -> Arc<BTreeMap<ServiceKey, Service>> {
    let key = ServiceKey {
        address: vip(),
        port: [0; 2],
        protocol: TCP,
        pad: 0,
    };
    let service = Service {
        pool: POOL.0 as u16,
        previous_pool: 0,
        slots,
        counters: 0,
        detours: 0,
        options: 0,
        mss: 0,
    };
    Arc::new(BTreeMap::from([(key, service)]))
}

fn vip() -> Address {
    Address::v4([198, 51, 100, 10])
}
