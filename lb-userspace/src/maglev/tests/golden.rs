//! The bytes that gateways of different versions agree on.
//!
//! If one of these fails, the ladders changed: gateways of this version and the last would send one
//! flow to two servers while both run. Undo that. If it is meant, it is a new version of the table,
//! with a word in the CHANGELOG; only then write new numbers here.

use super::super::{Candidate, CandidateKey, Ladder, Role, Spill, build};
use super::{SLOTS, in_zones, pool};

/// FNV-1a over the ids as the slots hold them.
fn fingerprint(ladders: &[Ladder]) -> u64 {
    let ids = ladders.iter().flatten().map(|rung| rung.unwrap_or(0));
    ids.flat_map(u16::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

fn mixed_pool() -> Vec<Candidate> {
    let mut candidates = in_zones(pool(5, 2), &[Some("a"), Some("b"), None, Some("c")]);
    for (candidate, weight) in candidates.iter_mut().zip([100, 250, 1, 100, 40, 100, 300]) {
        candidate.weight = weight;
    }
    candidates[3].key = CandidateKey(0x2001_0db8_0000_0000_0000_0000_0000_0004_u128.to_be_bytes());
    candidates
}

#[test]
fn the_first_ladders_of_a_small_pool_never_change() {
    let ladders = build(&pool(3, 1), 251, Spill::Both);
    let expected = [
        [1, 3, 2, 4],
        [2, 3, 1, 4],
        [2, 4, 1, 3],
        [1, 4, 3, 2],
        [3, 4, 1, 2],
        [3, 2, 1, 4],
    ];
    assert_eq!(
        ladders[..6],
        expected.map(|ladder: [u16; 4]| ladder.map(Some))
    );
}

#[test]
fn whole_tables_never_change() {
    let of = |pool: &[Candidate], spill| fingerprint(&build(pool, SLOTS, spill));
    let found = [
        of(&pool(900, 100), Spill::Both),
        of(&mixed_pool(), Spill::Both),
        of(&mixed_pool(), Spill::StandbysFirst),
        of(&mixed_pool(), Spill::PrimariesFirst),
    ];
    assert_eq!(
        found.map(|hash| format!("{hash:016x}")),
        [
            "1f503549b3d46762",
            "ed47926df13d0683",
            "0bc248d71f7beff5",
            "5e0b6f78c08abda5",
        ]
    );
}

#[test]
fn roles_are_part_of_the_table() {
    let mut candidates = pool(3, 1);
    candidates[3].role = Role::Primary;
    assert_ne!(
        fingerprint(&build(&candidates, 251, Spill::Both)),
        fingerprint(&build(&pool(3, 1), 251, Spill::Both))
    );
}
