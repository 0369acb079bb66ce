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
    /// Always zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);

/// Value of `SERVICES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// Index of the pool in `POOLS` and `TABLES`.
    pub pool: u32,
    /// Slots of that pool's table, repeated here so that the fast path need not read the pool.
    pub slots: u32,
    /// Index of the service's counters.
    pub counters: u32,
    /// Reserved for the pool that the service pointed at before; zero.
    pub previous_pool: u32,
}

const _: () = assert!(size_of::<Service>() == 16);

/// Entries of `VIPS`.
pub const VIP_FILTER_ENTRIES: u32 = 4096;

/// One entry of `VIPS`: what may be known of the addresses that fall on it. A packet whose
/// entry is 0 is not for any service, and nothing more is looked up for it.
pub mod vip_filter {
    /// Some VIP falls on this entry.
    pub const VIP: u32 = 1 << 0;
    /// Some VIP that falls on this entry has a service on every port.
    pub const ANY_PORT: u32 = 1 << 1;
}

/// The entry of `VIPS` on which `address` falls.
#[inline(always)]
#[must_use]
pub const fn vip_filter_index(address: &Address) -> u32 {
    let [a, b, c, d] = address.words;
    let folded = a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d;
    folded.wrapping_mul(0x9e37_79b1) >> (32 - VIP_FILTER_ENTRIES.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbouring_addresses_fall_on_different_entries() {
        let entries: HashSet<u32> = (0..=255)
            .map(|last| vip_filter_index(&Address::v4([198, 51, 100, last])))
            .collect();
        assert!(entries.len() > 240, "{} of 256", entries.len());
        assert!(entries.iter().all(|entry| *entry < VIP_FILTER_ENTRIES));
    }
}
