//! The hash of a flow and the slot that it picks, from their definition: two gateways must agree.

use crate::frame::Parsed;

/// Fractions of the golden ratio, of √2 and of √3, made odd.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0x6a09_e667_f3bc_c909;
const FINAL_MULTIPLIER: u64 = 0xbb67_ae85_84ca_a73b;

/// An IPv4 address stands in the last four bytes behind ten zeros and two `0xff`.
pub type Ip = [u8; 16];

/// Words of eight bytes are absorbed one after another: for IPv6 the first three quarters of both
/// addresses in the order given, then for both families the last quarters, then ports and protocol.
#[must_use]
pub fn flow_hash(v6: bool, source: &Ip, destination: &Ip, ports: [u8; 4], protocol: u8) -> u64 {
    let quarter = |ip: &Ip, at: usize| -> [u8; 4] { [ip[at], ip[at + 1], ip[at + 2], ip[at + 3]] };
    let join = |low: [u8; 4], high: [u8; 4]| -> u64 {
        u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32
    };
    let mut state = SEED;
    let mut absorb = |word: u64| {
        state = (state ^ word).wrapping_mul(MULTIPLIER);
        state ^= state >> 32;
    };
    if v6 {
        absorb(join(quarter(source, 0), quarter(source, 4)));
        absorb(join(quarter(source, 8), quarter(destination, 8)));
        absorb(join(quarter(destination, 0), quarter(destination, 4)));
    }
    absorb(join(quarter(source, 12), quarter(destination, 12)));
    absorb(join(ports, [protocol, 0, 0, 0]));
    let last = state.wrapping_mul(FINAL_MULTIPLIER);
    last ^ last >> 29
}

/// The upper half of the hash, scaled to the table.
#[must_use]
pub fn slot_of(hash: u64, slots: u32) -> u32 {
    (((hash >> 32) * u64::from(slots)) >> 32) as u32
}

/// The lower half, which varies tunnels' outer sources and picks a SYN's fingerprint.
#[must_use]
pub fn entropy(hash: u64) -> u32 {
    hash as u32
}

/// The key under which a flow is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Key {
    /// The client.
    pub source: Ip,
    /// The VIP.
    pub destination: Ip,
    /// Source and destination port as on the wire.
    pub ports: [u8; 4],
    /// IP protocol number.
    pub protocol: u8,
}

impl Key {
    /// The key of a packet's flow.
    #[must_use]
    pub fn of(packet: &Parsed) -> Self {
        Self {
            source: packet.source,
            destination: packet.destination,
            ports: packet.ports,
            protocol: packet.protocol,
        }
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(flow_hash(
            true,
            &self.source,
            &self.destination,
            self.ports,
            self.protocol,
        ));
    }
}

/// Hands a word that is a hash already through to the table.
#[derive(Default, Clone, Copy, Debug)]
pub struct Through(u64);

impl std::hash::Hasher for Through {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{TCP, mapped};

    /// The values that lb-common's own test holds its hash to.
    #[test]
    fn the_hash_is_that_of_the_first_release() {
        let ports = [0x9c, 0x40, 0, 80];
        let (client, vip) = (mapped(&[203, 0, 113, 7]), mapped(&[198, 51, 100, 10]));
        let v4 = flow_hash(false, &client, &vip, ports, TCP);
        let v6 = flow_hash(true, &[1; 16], &[2; 16], ports, TCP);
        assert_eq!(
            (v4, v6),
            (6_227_161_100_945_635_629, 6_134_138_657_549_085_210)
        );
    }

    #[test]
    fn a_slot_lies_in_its_table() {
        assert_eq!(slot_of(u64::MAX, 7), 6);
        assert_eq!(slot_of(0, 7), 0);
    }
}
