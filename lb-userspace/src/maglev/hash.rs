//! The hashes behind every choice. A change here moves every flow of every deployment.

use super::CandidateKey;

/// 2^64 divided by the golden ratio, odd: multiples of it lie far apart.
pub(super) const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: each bit of the input reaches each bit of the output.
pub(super) const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A backend's hash for one purpose. Addresses of one pool differ in few bits, hence two rounds.
pub(super) fn of_key(key: CandidateKey, purpose: Purpose) -> u64 {
    let address = u128::from_be_bytes(key.0);
    let (high, low) = ((address >> 64) as u64, address as u64);
    mix(mix(purpose.seed() ^ high).wrapping_add(low))
}

/// A hash of bytes: eight at a time, then the rest with the length, so that no two keys that differ
/// by zeros at the end are the same.
pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
    let mut state = GOLDEN_RATIO;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN_RATIO);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(state ^ u64::from_le_bytes(last)).wrapping_add(bytes.len() as u64))
}

/// Two hashes of bytes that are independent enough for 128 bits of identity.
pub(super) fn pair_of_bytes(bytes: &[u8]) -> (u64, u64) {
    let first = of_bytes(bytes);
    (first, mix(first ^ bytes.len() as u64 ^ GOLDEN_RATIO))
}

/// A slot's hash for one purpose.
pub(super) fn of_slot(slot: usize, purpose: Purpose) -> u64 {
    mix(purpose.seed() ^ slot as u64)
}

/// What a hash is for; the rungs' hashes are independent of each other.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// The slots a backend comes by when it claims some.
    Path { rung: usize },
    /// How much a backend and a slot want each other.
    Affinity { rung: usize },
    /// Where a slot looks next when it cannot use its own entry.
    Probe { rung: usize },
}

impl Purpose {
    const fn seed(self) -> u64 {
        let (kind, rung) = match self {
            Self::Path { rung } => (1, rung),
            Self::Affinity { rung } => (2, rung),
            Self::Probe { rung } => (3, rung),
        };
        mix((kind << 32) | (rung as u64 + 1))
    }
}

/// How much a backend and a slot want each other, from the hashes of both for [`Purpose::Affinity`].
///
/// One multiplication is enough: both hashes are well mixed, and this runs millions of times.
pub(super) const fn affinity(backend: u64, slot: u64) -> u64 {
    (backend ^ slot).wrapping_mul(GOLDEN_RATIO)
}
