//! What the maps hold: services, pools, backends, ports. The agent writes it; a packet only reads it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::hash::{Ip, Through};

/// A map whose keys hash themselves well.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Through>>;

/// Recorded flows may go there.
pub const ALIVE: u32 = 1;
/// Takes new flows.
pub const NEW: u32 = 2;
/// Owns unrecorded TCP flows.
pub const OLD: u32 = 4;
/// Owns unrecorded UDP flows.
pub const OLDU: u32 = 8;
/// Died lately while it owned TCP flows.
pub const LOST: u32 = 16;
/// Slots with it on rung 0 look into the flow maps.
pub const TRACK: u32 = 32;
/// Settled and up.
pub const FULL: u32 = ALIVE | NEW | OLD | OLDU;

/// Flag of a slot.
pub const CHANGED_TCP: u64 = 1 << 15;
/// Flag of a slot.
pub const CHANGED_UDP: u64 = 1 << 31;
/// Flag of a slot.
pub const TRACK_SLOT: u64 = 1 << 47;
/// All flags of a slot.
pub const SLOT_FLAGS: u64 = CHANGED_TCP | CHANGED_UDP | TRACK_SLOT;

/// The id of nobody.
pub const NOBODY: u16 = 0x7fff;
/// Ports at and above this are nobody's.
pub const PORTS_MAX: usize = 64;

/// Detour of a service: every flow is recorded.
pub const ALWAYS: u8 = 1;
/// Detour: no flow is recorded.
pub const NEVER: u8 = 2;
/// Detour: flows may belong to the previous pool.
pub const PREVIOUS_POOL: u8 = 4;
/// Detour: fragments are served.
pub const FRAGMENTS: u8 = 8;
/// Option: a QUIC Initial opens a flow.
pub const QUIC: u8 = 1;

/// What a service is found by; port 0 is every port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The VIP.
    pub vip: Ip,
    /// Port.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// The entry for later fragments.
    pub later: bool,
}

/// A service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its pool.
    pub pool: u16,
    /// The pool before; counts with [`PREVIOUS_POOL`].
    pub previous_pool: u16,
    /// Index of its counters.
    pub counters: u32,
    /// [`ALWAYS`] and so on.
    pub detours: u8,
    /// [`QUIC`].
    pub options: u8,
    /// Largest segment size to announce to a backend; 0 leaves it.
    pub mss: u16,
}

/// `on_empty`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnEmpty {
    /// Answer.
    Reset,
    /// Drop.
    Drop,
    /// Leave it to the kernel.
    Pass,
}

/// A pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// What to do with a packet that nobody takes.
    pub on_empty: OnEmpty,
    /// `on_backend_loss = "reset"`, and not `"migrate"`.
    pub resets: bool,
    /// Ladders: four 16-bit words a slot. Empty: the pool has no table.
    pub ladders: Vec<u64>,
    /// Previous owners: TCP in the lowest 16 bits, UDP in the next.
    pub previous: Vec<u64>,
}

/// How a packet is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carriage {
    /// An id that is not in use.
    None,
    /// New MAC addresses.
    Ethernet,
    /// In IPv4.
    V4,
    /// In IPv6.
    V6,
}

/// A backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// [`ALIVE`] and so on.
    pub state: u32,
    /// Raised when the id is given away again.
    pub generation: u32,
    /// MAC address of the next hop; `None` while it is not known.
    pub hop: Option<([u8; 6], u16)>,
    /// Its address.
    pub address: Ip,
    /// Its pool.
    pub pool: u16,
    /// How packets reach it.
    pub carriage: Carriage,
}

impl Backend {
    /// An id that is not in use.
    pub const FREE: Self = Self {
        state: 0,
        generation: 0,
        hop: None,
        address: [0; 16],
        pool: 0,
        carriage: Carriage::None,
    };
}

/// An interface that packets leave by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// Index of the interface; 0 is none.
    pub interface: u32,
    /// Largest IP packet.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// VLAN tags, as on the wire; 0 is none.
    pub tags: [u32; 2],
    /// Whether the device map has it.
    pub has_device: bool,
}

/// Outer sources of tunnels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// IPv4.
    pub source_v4: [u8; 4],
    /// IPv6.
    pub source_v6: Ip,
    /// Bits that the hash fills.
    pub fill_v4: [u8; 4],
    /// Bits of the last four bytes that the hash fills.
    pub fill_v6: [u8; 4],
}

/// All of it.
#[derive(Clone, Debug)]
pub struct World {
    /// Services.
    pub services: Map<ServiceKey, Service>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Backends, by id; further ids are nobody's.
    pub backends: Vec<Backend>,
    /// Ports, by index.
    pub ports: Vec<Port>,
    /// Settings.
    pub settings: Settings,
    /// Monotonic nanoseconds.
    pub now: u64,
    /// When the agent last gave a sign of life; 0 for never.
    pub heartbeat: u64,
}

impl World {
    /// The state of a backend, whatever the id.
    #[must_use]
    pub fn state(&self, id: u16) -> u32 {
        self.backends
            .get(usize::from(id))
            .map_or(0, |backend| backend.state)
    }

    /// The time in units of 2²⁷ ns, which records keep.
    #[must_use]
    pub fn tick(&self) -> u32 {
        (self.now >> 27) as u32
    }
}

/// The backend on a rung.
#[must_use]
pub fn rung(ladder: u64, rung: usize) -> u16 {
    (ladder >> (16 * rung)) as u16 & 0x7fff
}

impl std::hash::Hash for ServiceKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let mut low = [0; 8];
        low.copy_from_slice(&self.vip[8..]);
        state.write_u64(
            (u64::from_le_bytes(low)
                ^ u64::from(self.port) << 8
                ^ u64::from(self.protocol) << 1
                ^ u64::from(self.later))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
    }
}
