//! A world to begin in.

use std::ops::Range;

use fastrand::Rng;

use super::schedule;
use crate::frame::{ICMP, ICMPV6, TCP, UDP, mapped};
use crate::hash::Ip;
use crate::world::{
    ALIVE, ALWAYS, Backend, CHANGED_TCP, CHANGED_UDP, Carriage, FRAGMENTS, FULL, LOST, Map, NEVER,
    NEW, NOBODY, OLD, OLDU, OnEmpty, PREVIOUS_POOL, Pool, Port, QUIC, Service, ServiceKey,
    Settings, TRACK, TRACK_SLOT, World,
};

/// What the place where the run happens can do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Slots of each pool's table; 0 for none.
    pub tables: Vec<u32>,
    /// Backend ids that are counted.
    pub backends: u16,
    /// The interfaces that frames come in by.
    pub interfaces: [u32; 2],
}

/// How much happens in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Everybody is up, no slot has a flag, nothing but time changes.
    Calm,
    /// States are such as agents write, and change now and then.
    Lively,
    /// Any bits anywhere.
    Wild,
    /// An agent writes the states, out of what happens.
    Scheduled,
}

impl Mood {
    pub(super) fn any(random: &mut Rng) -> Self {
        match random.u8(0..8) {
            0 => Self::Calm,
            1..4 => Self::Lively,
            4 => Self::Wild,
            _ => Self::Scheduled,
        }
    }

    /// How many of 2³² steps are packets.
    pub(super) fn packets_among_steps(self) -> u32 {
        match self {
            Self::Calm | Self::Lively | Self::Scheduled => u32::MAX - (u32::MAX >> 4),
            Self::Wild => u32::MAX - (u32::MAX >> 5),
        }
    }
}

const STATES: [u32; 12] = [
    FULL,
    FULL,
    FULL | TRACK,
    ALIVE | NEW | TRACK,
    ALIVE | NEW | OLDU | TRACK,
    ALIVE | OLD | OLDU | TRACK,
    ALIVE | OLD | TRACK,
    ALIVE | TRACK,
    ALIVE | OLDU | TRACK,
    LOST,
    LOST,
    0,
];

pub(super) fn state(random: &mut Rng, mood: Mood) -> u32 {
    match mood {
        Mood::Calm => FULL,
        Mood::Lively => STATES[random.usize(0..STATES.len())],
        Mood::Wild => random.u32(0..64),
        Mood::Scheduled => {
            if random.u8(0..8) == 0 {
                0
            } else {
                FULL
            }
        }
    }
}

pub(super) fn hop(random: &mut Rng, id: u16, ports: u16) -> Option<([u8; 6], u16)> {
    let port = match random.u8(0..16) {
        0 => return None,
        1 => random.u16(..),
        2..5 => random.u16(0..ports),
        _ => random.u16(0..2),
    };
    let [high, low] = id.to_be_bytes();
    Some(([2, 0, 0, 0xbb, high, low], port))
}

pub(super) fn ladder(random: &mut Rng, mood: Mood, ids: Range<u16>) -> u64 {
    let mut ladder = 0;
    for at in 0..4 {
        let id = match random.u8(0..24) {
            0 => NOBODY,
            1 if mood == Mood::Wild => random.u16(0..0x8000),
            _ => random.u16(ids.clone()),
        };
        ladder |= u64::from(id) << (16 * at);
    }
    if mood != Mood::Calm && random.u8(0..3) == 0 {
        ladder |= random
            .choice([CHANGED_TCP, CHANGED_UDP, CHANGED_TCP | CHANGED_UDP, 0])
            .unwrap_or(0);
        ladder |= random.choice([TRACK_SLOT, 0]).unwrap_or(0);
    }
    ladder
}

pub(super) fn previous(random: &mut Rng, ids: Range<u16>) -> u64 {
    let owner = |random: &mut Rng| match random.u8(0..16) {
        0 => NOBODY,
        1 => random.u16(..),
        _ => random.u16(ids.clone()),
    };
    u64::from(owner(random)) | u64::from(owner(random)) << 16
}

pub(super) fn world(random: &mut Rng, mood: Mood, limits: &Limits) -> World {
    let pools: Vec<Pool> = (0..)
        .zip(&limits.tables)
        .map(|(id, slots)| pool(random, mood, id, *slots, limits))
        .collect();
    let ports = ports(random, limits);
    let backends = (0..limits.backends)
        .map(|id| backend(random, mood, id, ports.len() as u16))
        .collect();
    World {
        services: services(random, mood, &pools),
        pools,
        backends,
        ports,
        settings: Settings {
            source_v4: [198, 18, 0, 0],
            source_v6: ip6(1, 0),
            fill_v4: [0, 0, 0xff, random.u8(..)],
            fill_v6: random.u32(..).to_le_bytes(),
        },
        now: 0,
        heartbeat: 0,
    }
}

fn pool(random: &mut Rng, mood: Mood, id: u16, slots: u32, limits: &Limits) -> Pool {
    let first = random.u16(0..limits.backends - 8);
    let ids = first..first + random.u16(1..8);
    let members: Vec<u16> = schedule::ids(id).take(random.usize(1..6)).collect();
    let (ladders, previous) = (0..slots)
        .map(|_| {
            if mood == Mood::Scheduled {
                let nobody = u64::from(NOBODY) | u64::from(NOBODY) << 16;
                return (schedule::ladder(random, &members), nobody);
            }
            let ladder = ladder(random, mood, ids.clone());
            (ladder, previous(random, ids.clone()))
        })
        .unzip();
    Pool {
        on_empty: random
            .choice([OnEmpty::Reset, OnEmpty::Drop, OnEmpty::Pass])
            .unwrap_or(OnEmpty::Drop),
        resets: random.bool(),
        ladders,
        previous,
    }
}

fn backend(random: &mut Rng, mood: Mood, id: u16, ports: u16) -> Backend {
    let carriages = [Carriage::Ethernet, Carriage::V4, Carriage::V6];
    let carriage = match random.u8(0..64) {
        0 => Carriage::None,
        _ => random.choice(carriages).unwrap_or(Carriage::V4),
    };
    let [high, low] = id.to_be_bytes();
    let address = match carriage {
        Carriage::V6 => ip6(2, u32::from(id)),
        _ => mapped(&[10, 0, high, low]),
    };
    Backend {
        state: state(random, mood),
        generation: random.u32(0..2),
        hop: hop(random, id, ports),
        address,
        pool: 0,
        carriage,
    }
}

fn ports(random: &mut Rng, limits: &Limits) -> Vec<Port> {
    let [here, there] = limits.interfaces;
    (0..6)
        .map(|index: u8| Port {
            interface: [here, there, here, there, there, 0][usize::from(index)],
            mtu: match index {
                2 => random.u32(60..200),
                _ => 1500,
            },
            mac: [2, 0, 0, 0xaa, 0, index],
            tags: tags(random),
            has_device: index != 4,
        })
        .collect()
}

/// VLAN tags of an interface: mostly none.
fn tags(random: &mut Rng) -> [u32; 2] {
    let tag = |random: &mut Rng, kind: u32| kind << 16 | u32::from(random.u16(..));
    match random.u8(0..8) {
        0 | 1 => [tag(random, 0x8100), 0],
        2 => [tag(random, 0x88a8), tag(random, 0x8100)],
        _ => [0; 2],
    }
}

/// An IPv6 address of network `net`.
pub(super) fn ip6(net: u8, host: u32) -> Ip {
    let [a, b, c, d] = host.to_be_bytes();
    [0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

/// The VIPs: no two of them fall on one entry of the filter, and a few more are not VIPs at all.
pub(super) fn vip(v6: bool, number: u8) -> Ip {
    if v6 {
        ip6(100, u32::from(number))
    } else {
        mapped(&[198, 51, 100, number])
    }
}

/// VIPs of each family that have services.
pub(super) const VIPS: u8 = 3;
/// Ports of services.
pub(super) const PORTS: [u16; 4] = [80, 443, 53, 0];

fn services(random: &mut Rng, mood: Mood, pools: &[Pool]) -> Map<ServiceKey, Service> {
    let mut services = Map::default();
    for v6 in [false, true] {
        for number in 0..VIPS {
            let key = |port, protocol| ServiceKey {
                vip: vip(v6, number),
                port,
                protocol,
                later: false,
            };
            let icmp = if v6 { ICMPV6 } else { ICMP };
            let add = |services: &mut Map<_, _>, random: &mut Rng, key| {
                let service = service(random, mood, services.len() as u32, pools.len() as u16);
                services.insert(key, service);
            };
            add(&mut services, random, key(0, icmp));
            for _ in 0..random.u8(1..5) {
                let protocol = if random.bool() { TCP } else { UDP };
                let port = PORTS[random.usize(0..PORTS.len())];
                let key = key(port, protocol);
                if !services.contains_key(&key) {
                    add(&mut services, random, key);
                }
            }
            if random.bool() {
                serve_fragments(random, &mut services, &vip(v6, number));
            }
        }
    }
    services
}

/// Makes one of the VIP's UDP services serve fragments.
fn serve_fragments(random: &mut Rng, services: &mut Map<ServiceKey, Service>, vip: &Ip) {
    let keys = services
        .keys()
        .filter(|key| key.vip == *vip && key.protocol == UDP);
    let mut keys: Vec<_> = keys.copied().collect();
    keys.sort();
    if let Some(key) = random.choice(keys)
        && let Some(service) = services.get_mut(&key)
    {
        service.detours |= FRAGMENTS;
        let service = *service;
        let later = ServiceKey {
            port: 0,
            later: true,
            ..key
        };
        services.insert(later, service);
    }
}

fn service(random: &mut Rng, mood: Mood, counters: u32, pools: u16) -> Service {
    Service {
        pool: random.u16(0..pools),
        previous_pool: random.u16(0..pools),
        counters,
        detours: match random.u8(0..8) {
            0 => ALWAYS,
            1 => NEVER,
            2 | 3 if mood == Mood::Scheduled => 0,
            2 => PREVIOUS_POOL,
            3 => random.u8(0..8),
            _ => 0,
        } & !FRAGMENTS,
        options: if random.bool() { QUIC } else { 0 },
        mss: match random.u8(0..4) {
            0 => random.u16(1..1500),
            _ => 0,
        },
    }
}
