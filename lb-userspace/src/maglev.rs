//! The ladder builder: which backends a slot of a pool's table names, and in which order.
//!
//! Called by the gateway's reconciler and by `lb logic`, when a pool's backends, weights, roles or zones change in the
//! configuration. It never looks at health: a failure is answered by the next rung of a ladder that
//! was written before anything failed, so failing and recovering rewrite nothing.
//!
//! Rung 0 is a Maglev table over the primaries, by weight. Rungs 1 to 3 are drawn from further
//! tables over what is left of both groups, in the order that [`Spill`] says, other zones first.
//!
//! Every gateway with the same configuration must build the same ladders, or a flow that moves from
//! one gateway to another changes its server. Hence: integers only, no iteration over hash maps,
//! backends known by their address alone, and golden tests that no release may change unawares.

mod draw;
mod hash;
mod member;
mod rungs;
mod table;
mod turns;

use std::net::IpAddr;

use lb_common::ladder::RUNGS;

use crate::config::{Role, Spill};

/// How many backends a pool may have: a slot has 15 bits for an id.
pub const CANDIDATES_MAX: usize = 1 << 15;

/// The ids in one slot, first choice first; a short ladder ends in `None`.
///
/// Rung 0 is `None` only where no primary has any weight.
pub type Ladder = [Option<u16>; RUNGS];

/// The slot of a key of up to any length, such as a cache's: SplitMix64 over eight bytes at a time.
/// A change here moves every key of every deployment.
#[must_use]
pub fn slot_of_key(key: &[u8], slots: u32) -> usize {
    // Scales the hash down to the table, where a remainder would cost a division.
    ((u128::from(hash::of_bytes(key)) * u128::from(slots)) >> 64) as usize
}

/// What makes a backend itself for hashing: its address, never its name, id or place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CandidateKey(pub [u8; 16]);

impl From<IpAddr> for CandidateKey {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl CandidateKey {
    /// For what is known by a name: cache servers keep their keys when their addresses change.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let (high, low) = hash::pair_of_bytes(name.as_bytes());
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// A backend as the ladder builder sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What the slots will hold. It has no influence on which slots.
    pub id: u16,
    /// What is hashed; unique in the pool.
    pub key: CandidateKey,
    /// The group.
    pub role: Role,
    /// Its share relative to the others'; 0 keeps it out of every ladder.
    pub weight: u32,
    /// What fails together with it; `None` is in nobody's way.
    pub zone: Option<String>,
}

/// Builds the ladder of every slot.
///
/// # Panics
/// When `slots` is not a prime number, or there are more than [`CANDIDATES_MAX`] candidates: a
/// configuration with either is refused long before.
#[must_use]
pub fn build(candidates: &[Candidate], slots: u32, spill: Spill) -> Vec<Ladder> {
    assert!(
        is_prime(slots),
        "{slots} slots: a table has a prime number of them"
    );
    assert!(
        candidates.len() <= CANDIDATES_MAX,
        "an id in a slot has 15 bits"
    );

    let serving = in_hashing_order(candidates);
    let to_id = |index: u16| {
        serving
            .get(usize::from(index))
            .map(|candidate| candidate.id)
    };
    let rungs = rungs::choose(&serving, slots as usize, spill);
    rungs.iter().map(|indices| indices.map(to_id)).collect()
}

fn is_prime(slots: u32) -> bool {
    let divisors = 2..=slots.isqrt();
    slots >= 2
        && divisors
            .into_iter()
            .all(|divisor| !slots.is_multiple_of(divisor))
}

/// Leaves out what has no weight, and the order of the file with it.
fn in_hashing_order(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut serving: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.weight > 0)
        .collect();
    serving.sort_unstable_by_key(|candidate| (candidate.key, candidate.id));
    serving
}

#[cfg(test)]
mod tests;
