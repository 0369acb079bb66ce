//! A service as the data plane sees it: map `SERVICES`, and the filter `VIPS` before it.

use crate::address::Address;

/// The protocol number of ICMP in a [`ServiceKey`] that stands for an IPv4 VIP as such.
pub const ICMP: u8 = 1;
/// The protocol number of ICMPv6 in a [`ServiceKey`] that stands for an IPv6 VIP as such.
pub const ICMPV6: u8 = 58;

/// Key of `SERVICES`: a VIP address, port and protocol.
///
/// A port of 0 is "every port of this VIP". Beside its services every VIP has one entry with
/// port 0 and protocol ICMP or ICMPv6, which says that the address is a VIP at all.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey {
    /// The VIP.
    pub address: Address,
    /// Port in network byte order.
    pub port: [u8; 2],
    /// IP protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Zero, but [`LATER_FRAGMENTS`] in the one entry per VIP that serves later fragments, whose
    /// port is 0.
    pub pad: u8,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);

impl ServiceKey {
    /// The key of nothing.
    pub const VACANT: Self = Self {
        address: Address { words: [0; 4] },
        port: [0; 2],
        protocol: 0,
        pad: 0,
    };

    /// The key as it lies in memory, in words that compare in three steps.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> (u64, u64, u32) {
        let [a, b, c, d] = self.address.words;
        (
            a as u64 | (b as u64) << 32,
            c as u64 | (d as u64) << 32,
            self.selector(),
        )
    }

    /// Port and protocol in one word.
    #[inline(always)]
    const fn selector(&self) -> u32 {
        let [high, low] = self.port;
        u32::from_ne_bytes([high, low, self.protocol, self.pad])
    }
}

/// Value of `SERVICES`.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// Index of the pool in `POOLS` and `TABLES`.
    pub pool: u16,
    /// The pool that the service pointed at before; counts only with [`detour::PREVIOUS_POOL`].
    pub previous_pool: u16,
    /// Slots of the pool's table, repeated here so that the fast path need not read the pool.
    pub slots: u32,
    /// Index of the service's counters.
    pub counters: u32,
    /// Bits of [`detour`].
    pub detours: u8,
    /// Bits of [`option`].
    pub options: u8,
    /// The largest segment size that a SYN may announce to a backend; 0 for what the client says.
    pub mss: u16,
}

const _: () = assert!(size_of::<Service>() == 16);

/// What keeps a service's packets off the fast path, whatever their slot says.
pub mod detour {
    /// Every flow is recorded (`tracking = "always"`).
    pub const ALWAYS: u8 = 1 << 0;
    /// No flow is ever recorded (`tracking = "never"`).
    pub const NEVER: u8 = 1 << 1;
    /// Flows may still belong to the pool that the service pointed at before.
    pub const PREVIOUS_POOL: u8 = 1 << 2;
    /// Fragments are served: a flow is what one client sends to the VIP by this protocol, its
    /// ports not looked at, because later fragments have none.
    pub const FRAGMENTS: u8 = 1 << 3;
}

/// What else a service may want; none of it keeps a packet off the fast path.
pub mod option {
    /// A datagram with a QUIC Initial packet opens a flow as a SYN does (`udp = "quic"`).
    pub const QUIC: u8 = 1 << 0;
}

/// [`ServiceKey::pad`] of the entry under which the later fragments of a VIP find their service.
pub const LATER_FRAGMENTS: u8 = 1;

/// Cells of `SERVICE_CELLS`.
pub const SERVICE_CELLS: u32 = 16_384;

/// One element of `SERVICE_CELLS`: a copy of an entry of `SERVICES` at the place that its key
/// hashes to, where it is found without a call into the kernel's hash table (which costs as much
/// as everything else that is done for a packet).
///
/// Of several services that hash to one cell the first has it; the others, and whatever else is
/// not found here, are looked up in `SERVICES`. A cell's service is written before its key, and
/// its key is taken away before its service changes.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceCell {
    /// The service.
    pub service: Service,
    /// Its key; [`ServiceKey::VACANT`] in a free cell.
    pub key: ServiceKey,
    /// Always zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<ServiceCell>() == 40);

/// The cell that belongs to `key`.
#[inline(always)]
#[must_use]
pub const fn service_cell_index(key: &ServiceKey) -> u32 {
    let word = folded(&key.address) ^ key.selector().wrapping_mul(0x85eb_ca6b);
    word.wrapping_mul(0x9e37_79b1) >> (32 - SERVICE_CELLS.ilog2())
}

/// Entries of `VIPS`.
pub const VIP_FILTER_ENTRIES: u32 = 4096;

/// One entry of `VIPS`: what may be known of the addresses that fall on it. A packet whose
/// entry is 0 is not for any service, and nothing more is looked up for it.
pub mod vip_filter {
    /// Some VIP falls on this entry.
    pub const VIP: u32 = 1 << 0;
    /// Some VIP that falls on this entry has a service on every port.
    pub const ANY_PORT: u32 = 1 << 1;
    /// Some VIP that falls on this entry has a TCP service.
    pub const TCP: u32 = 1 << 2;
    /// Some VIP that falls on this entry has a UDP service.
    pub const UDP: u32 = 1 << 3;

    /// The bit that later fragments of this protocol need, to be taken for a service's: they have
    /// no port. 0 for a protocol that no service has; echo requests are the VIP's own.
    #[inline(always)]
    #[must_use]
    pub const fn of_protocol(protocol: u8) -> u32 {
        match protocol {
            crate::packet::TCP => TCP,
            crate::packet::UDP => UDP,
            super::ICMP | super::ICMPV6 => VIP,
            _ => 0,
        }
    }
}

/// The entry of `VIPS` on which `address` falls.
#[inline(always)]
#[must_use]
pub const fn vip_filter_index(address: &Address) -> u32 {
    folded(address).wrapping_mul(0x9e37_79b1) >> (32 - VIP_FILTER_ENTRIES.ilog2())
}

#[inline(always)]
const fn folded(address: &Address) -> u32 {
    let [a, b, c, d] = address.words;
    a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn most_of_a_thousand_services_have_a_cell_of_their_own() {
        let key = |vip: u8, port: u16, protocol: u8| ServiceKey {
            address: Address::v4([198, 51, 100, vip]),
            port: port.to_be_bytes(),
            protocol,
            pad: 0,
        };
        let ports = [25, 53, 80, 443, 5432, 6379, 8080, 8443];
        let cells: HashSet<u32> = (0..64)
            .flat_map(|vip| ports.map(|port| [key(vip, port, 6), key(vip, port, 17)]))
            .flatten()
            .map(|key| service_cell_index(&key))
            .collect();
        assert!(cells.len() > 960, "{} of 1024", cells.len());
        assert!(cells.iter().all(|cell| *cell < SERVICE_CELLS));
    }

    #[test]
    fn the_words_of_a_key_are_its_bytes() {
        let key = ServiceKey {
            address: Address::v6(core::array::from_fn(|byte| byte as u8)),
            port: [16, 17],
            protocol: 18,
            pad: 0,
        };
        let (first, second, third) = key.words();
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..16].copy_from_slice(&second.to_le_bytes());
        bytes[16..].copy_from_slice(&third.to_le_bytes());
        assert_eq!(&bytes[..19], (0..19).collect::<Vec<u8>>());
    }

    #[test]
    fn neighbouring_addresses_fall_on_different_entries() {
        let entries: HashSet<u32> = (0..=255)
            .map(|last| vip_filter_index(&Address::v4([198, 51, 100, last])))
            .collect();
        assert!(entries.len() > 240, "{} of 256", entries.len());
        assert!(entries.iter().all(|entry| *entry < VIP_FILTER_ENTRIES));
    }
}
