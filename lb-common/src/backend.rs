//! A backend as the data plane sees it: map `BACKENDS`.

use crate::address::Address;

/// Index of a backend in `BACKENDS`. Below 32,768, because a slot of a ladder keeps 15 bits.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BackendId(pub u16);

impl BackendId {
    /// The id that no backend has: an unused rung.
    pub const NONE: Self = Self(0x7fff);

    /// Whether this is [`BackendId::NONE`].
    #[inline(always)]
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }
}

/// What the data plane may do with a backend: a set of bits in one byte.
///
/// The agent stores it in one atomic write; the program reads it again for every packet.
/// Recording flows, which most of the bits are for, is the next step of the data plane; until then the
/// agent stores only the three states named below.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BackendState(pub u32);

impl BackendState {
    /// Recorded flows may go there.
    pub const ALIVE: u32 = 1 << 0;
    /// Takes new flows.
    pub const NEW: u32 = 1 << 1;
    /// Owns the unrecorded TCP flows of its slots.
    pub const OLD: u32 = 1 << 2;
    /// Owns the unrecorded UDP flows of its slots.
    pub const OLD_UDP: u32 = 1 << 3;
    /// Died lately while it owned flows; never together with `ALIVE`.
    pub const LOST: u32 = 1 << 4;
    /// Slots that have it on rung 0 must look into the flow maps.
    pub const TRACK: u32 = 1 << 5;

    /// Takes nothing and owns nothing.
    pub const DOWN: Self = Self(0);
    /// Settled: every packet of a slot whose rung 0 is in this state goes there, nothing else asked.
    pub const UP: Self = Self(Self::ALIVE | Self::NEW | Self::OLD | Self::OLD_UDP);
    /// Keeps what it has, takes nothing new.
    pub const DRAINING: Self = Self(Self::ALIVE | Self::OLD | Self::OLD_UDP | Self::TRACK);

    /// Whether every bit of `bits` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Whether this is the settled state in which the fast path forwards.
    #[inline(always)]
    #[must_use]
    pub const fn is_stable(self) -> bool {
        self.0 == Self::UP.0
    }
}

impl core::fmt::Debug for BackendState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names = [
            (Self::ALIVE, "ALIVE"),
            (Self::NEW, "NEW"),
            (Self::OLD, "OLD"),
            (Self::OLD_UDP, "OLDU"),
            (Self::LOST, "LOST"),
            (Self::TRACK, "TRACK"),
        ];
        if self.0 == 0 {
            return f.write_str("DOWN");
        }
        let mut separator = "";
        for (_, name) in names.iter().filter(|(bit, _)| self.has(*bit)) {
            write!(f, "{separator}{name}")?;
            separator = "|";
        }
        Ok(())
    }
}

/// How a packet is carried to its backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Encapsulation {
    /// Not at all: only the Ethernet addresses change (direct server return on one segment).
    Ethernet = 1,
    /// In an IPv4 packet: protocol 4 for IPv4 inside (RFC 2003), 41 for IPv6 (RFC 4213).
    Ipv4 = 2,
    /// In an IPv6 packet (RFC 2473): next header 4 or 41.
    Ipv6 = 3,
}

impl Encapsulation {
    /// The bytes that the outer header adds to a packet.
    #[must_use]
    pub const fn overhead(self) -> usize {
        match self {
            Self::Ethernet => 0,
            Self::Ipv4 => 20,
            Self::Ipv6 => 40,
        }
    }
}

/// Where a backend's frames go: a MAC address and the port they leave by, in one aligned word, so
/// that the program never sees half of a change.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NextHop(pub u64);

impl NextHop {
    /// Not resolved: the word that a fresh backend has.
    pub const UNRESOLVED: Self = Self(0);

    /// The next hop with this MAC address behind this port (an index into `PORTS`).
    #[must_use]
    pub const fn new(mac: [u8; 6], port: u16) -> Self {
        let [a, b, c, d, e, f] = mac;
        let [low, high] = port.to_le_bytes();
        Self(u64::from_le_bytes([a, b, c, d, e, f, low, high]))
    }

    /// The MAC address.
    #[inline(always)]
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// The MAC address as a little-endian number, its first byte lowest.
    #[inline(always)]
    #[must_use]
    pub const fn mac_word(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }

    /// Index of the port in `PORTS` and `DEVICES`.
    #[inline(always)]
    #[must_use]
    pub const fn port(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// One element of `BACKENDS`: exactly one cache line.
///
/// `state` and `next_hop` change while packets flow, each by one store of its own word. The
/// rest is written before the id stands in any ladder and stays until the id is free again.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Bits of [`BackendState`].
    pub state: BackendState,
    /// Raised when the id is given to another backend, so that a record of the old one is known
    /// for what it is.
    pub generation: u32,
    /// Where frames for it go.
    pub next_hop: NextHop,
    /// Its own address: the outer destination of a tunnel.
    pub address: Address,
    /// The pool it belongs to.
    pub pool: u32,
    /// An [`Encapsulation`] as a number; 0 is an id that nobody uses.
    pub encapsulation: u8,
    /// Always zero.
    pub pad: [u8; 3],
    /// Monotonic nanoseconds at which a drain, a warming and a loss began; 0 for never.
    pub since: [u64; 3],
}

impl Backend {
    /// An id that nobody uses.
    pub const FREE: Self = Self {
        state: BackendState::DOWN,
        generation: 0,
        next_hop: NextHop::UNRESOLVED,
        address: Address { words: [0; 4] },
        pool: 0,
        encapsulation: 0,
        pad: [0; 3],
        since: [0; 3],
    };
}

const _: () = assert!(size_of::<Backend>() == 64);
const _: () = assert!(core::mem::offset_of!(Backend, state) == 0);
const _: () = assert!(core::mem::offset_of!(Backend, next_hop) == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_holds_its_mac_and_its_port() {
        let hop = NextHop::new([2, 0, 0x5e, 0x10, 0xff, 0xfe], 0xbeef);
        assert_eq!(hop.mac(), [2, 0, 0x5e, 0x10, 0xff, 0xfe]);
        assert_eq!(hop.port(), 0xbeef);
    }

    #[test]
    fn only_the_settled_state_is_stable() {
        assert!(BackendState::UP.is_stable());
        assert!(!BackendState(BackendState::UP.0 | BackendState::TRACK).is_stable());
        assert!(!BackendState::DRAINING.is_stable());
        assert!(!BackendState::DOWN.is_stable());
    }
}
