//! Flows: the five-tuple, its hash, and what is remembered of a flow in an unstable slot.

use crate::address::Address;
use crate::packet::{Family, Packet};

/// What makes two packets belong together: addresses, ports and protocol.
///
/// Key of `FLOWS` and `FLOWS_NEW`. Aligned, because the program builds it on its stack in words of
/// eight bytes ("misaligned stack access", LLVM 22, Linux 6.18).
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// The client.
    pub source: Address,
    /// The VIP.
    pub destination: Address,
    /// Source and destination port as on the wire.
    pub ports: [u8; 4],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// The flow of a packet. Without ports for a service that takes fragments, of which only the first
    /// has any.
    #[inline(always)]
    #[must_use]
    pub const fn of(packet: &Packet, has_ports: bool) -> Self {
        Self {
            source: packet.source,
            destination: packet.destination,
            ports: ports(packet, has_ports),
            protocol: packet.protocol,
            pad: [0; 3],
        }
    }
}

#[inline(always)]
const fn ports(packet: &Packet, has_ports: bool) -> [u8; 4] {
    if has_ports { packet.ports } else { [0; 4] }
}

/// Value of `FLOWS` and `FLOWS_NEW`: where a flow lives.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowEntry {
    /// The backend's generation when this was written: if the id has another one now, the backend
    /// that was meant is gone.
    pub generation: u32,
    /// Sequence number of the SYN that made the record; counts only with [`FlowEntry::OPENED`].
    pub isn: u32,
    /// When the flow's last packet came, in ticks of [`tick`].
    pub last: u32,
    /// The backend.
    pub backend: u16,
    /// [`FlowEntry::SUPERSEDED`], [`FlowEntry::CLOSING`], [`FlowEntry::OPENED`].
    pub flags: u16,
}

const _: () = assert!(size_of::<FlowEntry>() == 16);

impl FlowEntry {
    /// Another connection of the same five-tuple has begun: this one counts only for packets that
    /// do not belong to that.
    pub const SUPERSEDED: u16 = 1 << 0;
    /// The last packet had FIN or RST.
    pub const CLOSING: u16 = 1 << 1;
    /// Made by a packet that opens a flow, and no other packet of it was seen yet.
    pub const OPENED: u16 = 1 << 2;

    /// Whether every bit of `flags` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

/// Sequence numbers behind a SYN's own that still count as its connection's (0 excluded).
pub const FIRST_WINDOW: u32 = 65_536;

/// Monotonic nanoseconds as ticks of 2²⁷ ns, about 134 ms: fine enough for lives of a minute and
/// more, coarse enough that a busy flow writes its record seven times a second and not per packet.
#[inline(always)]
#[must_use]
pub const fn tick(now_ns: u64) -> u32 {
    (now_ns >> TICK_SHIFT) as u32
}

/// See [`tick`].
pub const TICK_SHIFT: u32 = 27;

/// The hash of a flow: 64 bits, of which the upper half picks the slot and the lower half varies
/// the outer source of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// The 32 bits that pick the slot.
    #[inline(always)]
    #[must_use]
    pub const fn slot_bits(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// 32 bits that differ among the flows of one slot.
    #[inline(always)]
    #[must_use]
    pub const fn entropy(self) -> u32 {
        self.0 as u32
    }
}

// Odd constants with well-mixed bits: the fractions of the golden ratio and of √2, √3.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0x6a09_e667_f3bc_c909;
const FINAL_MULTIPLIER: u64 = 0xbb67_ae85_84ca_a73b;

/// Hashes a packet's flow, as [`FlowKey::of`]. A rule of the data plane, not a detail: two gateways must agree on it, and a
/// changed constant moves every flow of a running fleet.
///
/// Three multiplications for IPv4, seven for IPv6: BPF has no instruction that mixes better for
/// the same time, and an attacker who chooses ports can aim at a slot under any unkeyed hash.
#[inline(always)]
#[must_use]
pub const fn hash(packet: &Packet, has_ports: bool) -> FlowHash {
    hash_of(
        matches!(packet.family, Family::V6),
        &packet.source,
        &packet.destination,
        ports(packet, has_ports),
        packet.protocol,
    )
}

/// The hash of the flow that a record is about: the same as [`hash`] of its packets.
#[must_use]
pub const fn hash_of_key(key: &FlowKey) -> FlowHash {
    let is_v6 = !(key.source.is_v4() && key.destination.is_v4());
    hash_of(
        is_v6,
        &key.source,
        &key.destination,
        key.ports,
        key.protocol,
    )
}

#[inline(always)]
const fn hash_of(
    is_v6: bool,
    source: &Address,
    destination: &Address,
    ports: [u8; 4],
    protocol: u8,
) -> FlowHash {
    let (source, destination) = (source.words, destination.words);
    let ports = u32::from_ne_bytes(ports);
    let mut state = SEED;
    if is_v6 {
        state = mix(state, pair(source[0], source[1]));
        state = mix(state, pair(source[2], destination[2]));
        state = mix(state, pair(destination[0], destination[1]));
    }
    state = mix(state, pair(source[3], destination[3]));
    state = mix(state, pair(ports, protocol as u32));
    FlowHash(finish(state))
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[inline(always)]
const fn mix(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(MULTIPLIER);
    product ^ product >> 32
}

#[inline(always)]
const fn finish(state: u64) -> u64 {
    let product = state.wrapping_mul(FINAL_MULTIPLIER);
    product ^ product >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::slot_index;
    use crate::packet::{TcpFlags, Transport};

    fn tcp(source: Address, destination: Address, source_port: u16) -> Packet {
        let [high, low] = source_port.to_be_bytes();
        Packet {
            family: if source.is_v4() {
                Family::V4
            } else {
                Family::V6
            },
            source,
            destination,
            protocol: crate::packet::TCP,
            traffic_class: 0,
            transport: Transport::Tcp(TcpFlags(0)),
            is_fragment: false,
            ports: [high, low, 0, 80],
            sequence: 0,
            network_offset: 14,
            transport_offset: 34,
            length: 40,
        }
    }

    /// Chi-square over `buckets`, divided by its expectation: near 1 for an even spread.
    fn unevenness(hashes: impl Iterator<Item = u32>, buckets: u32) -> f64 {
        let mut counts = vec![0u32; buckets as usize];
        let mut total = 0;
        for hash in hashes {
            counts[slot_index(hash, buckets) as usize] += 1;
            total += 1;
        }
        let expected = f64::from(total) / f64::from(buckets);
        let sum: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2))
            .sum();
        sum / expected / f64::from(buckets - 1)
    }

    #[test]
    fn flows_that_differ_in_one_field_spread_evenly() {
        let vip = Address::v4([198, 51, 100, 10]);
        let vip6 = Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
        let v6 = |last: u16| {
            let [high, low] = last.to_be_bytes();
            Address::v6([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, high, low])
        };
        let one_client = |entropy: bool| {
            (0..=u16::MAX).map(move |port| {
                let hash = hash(&tcp(Address::v4([203, 0, 113, 7]), vip, port), true);
                if entropy {
                    hash.entropy()
                } else {
                    hash.slot_bits()
                }
            })
        };
        let many_clients = (0..=u16::MAX).map(|host| {
            let [a, b] = host.to_be_bytes();
            hash(&tcp(Address::v4([10, 0, a, b]), vip, 40_000), true).slot_bits()
        });
        let many_clients_v6 =
            (0..=u16::MAX).map(|host| hash(&tcp(v6(host), vip6, 40_000), true).slot_bits());
        for (name, unevenness) in [
            ("ports of one client", unevenness(one_client(false), 1009)),
            ("entropy of one client", unevenness(one_client(true), 1009)),
            ("hosts of one network", unevenness(many_clients, 1009)),
            (
                "hosts of one IPv6 network",
                unevenness(many_clients_v6, 1009),
            ),
        ] {
            assert!((0.8..1.2).contains(&unevenness), "{name}: {unevenness:.3}");
        }
    }

    #[test]
    fn the_hash_never_changes_between_versions() {
        let v4 = tcp(
            Address::v4([203, 0, 113, 7]),
            Address::v4([198, 51, 100, 10]),
            40_000,
        );
        let v6 = tcp(Address::v6([1; 16]), Address::v6([2; 16]), 40_000);
        assert_eq!((hash(&v4, true).0, hash(&v6, true).0), GOLDEN);
    }

    #[test]
    fn a_record_hashes_as_its_packets_do() {
        let v4 = tcp(
            Address::v4([203, 0, 113, 7]),
            Address::v4([198, 51, 100, 10]),
            40_000,
        );
        let v6 = tcp(Address::v6([1; 16]), Address::v6([2; 16]), 40_000);
        for packet in [v4, v6] {
            for has_ports in [true, false] {
                let key = FlowKey::of(&packet, has_ports);
                assert_eq!(hash_of_key(&key), hash(&packet, has_ports));
            }
        }
    }

    /// Taken from the first release; whoever changes it moves every flow of a mixed fleet.
    const GOLDEN: (u64, u64) = (6_227_161_100_945_635_629, 6_134_138_657_549_085_210);
}
