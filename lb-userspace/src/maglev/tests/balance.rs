//! Weights are met, before a failure and after one.

use proptest::prelude::*;

use super::super::{Candidate, Ladder, Role, Spill, build};
use super::{SLOTS, candidate, in_zones, pool, primaries, slots_of};

fn weighted(weights: &[u32]) -> Vec<Candidate> {
    (1..)
        .zip(weights)
        .map(|(id, weight)| candidate(id, Role::Primary, *weight))
        .collect()
}

/// Every backend's first rungs against its share, in slots of the whole table.
fn assert_shares_are_met(candidates: &[Candidate], ladders: &[Ladder]) {
    let total: f64 = candidates
        .iter()
        .map(|candidate| f64::from(candidate.weight))
        .sum();
    for candidate in candidates {
        let share = f64::from(SLOTS) * f64::from(candidate.weight) / total;
        let slots = slots_of(ladders, 0, candidate.id) as f64;
        // Whole slots can miss a share by one however they are dealt.
        let tolerance = (share * 0.01).max(1.0);
        assert!(
            (slots - share).abs() <= tolerance,
            "{candidate:?}: {slots} slots for a share of {share:.1}"
        );
    }
}

#[test]
fn equal_weights_are_at_most_one_slot_apart() {
    for count in [1, 2, 3, 7, 10, 64, 100, 250, 500, 1000] {
        let ladders = build(&primaries(count), SLOTS, Spill::Both);
        let mut slots = vec![0_usize; usize::from(count) + 1];
        for ladder in &ladders {
            slots[usize::from(ladder[0].expect("there are primaries"))] += 1;
        }
        let (least, most) = (
            slots[1..].iter().min().unwrap(),
            slots[1..].iter().max().unwrap(),
        );
        assert!(
            most - least <= 1,
            "{count} primaries have {least} to {most} slots"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn weights_are_met_within_one_percent(weights in prop::collection::vec(1..=1000_u32, 1..200)) {
        let candidates = weighted(&weights);
        assert_shares_are_met(&candidates, &build(&candidates, SLOTS, Spill::Both));
    }
}

#[test]
fn weights_far_apart_are_met_too() {
    assert_shares_of(&[65_535, 1, 1, 1]);
    assert_shares_of(&[1, 10, 100, 1000, 10_000]);
    let one_above_all: Vec<u32> = std::iter::once(65_535).chain([1; 999]).collect();
    assert_shares_of(&one_above_all);
    let two_kinds: Vec<u32> = [100; 500].into_iter().chain([200; 500]).collect();
    assert_shares_of(&two_kinds);
}

fn assert_shares_of(weights: &[u32]) {
    let candidates = weighted(weights);
    assert_shares_are_met(&candidates, &build(&candidates, SLOTS, Spill::Both));
}

/// The slots of `failed` that each of the others takes over, against its share of them.
fn assert_spill_is_shared(candidates: &[Candidate], failed: u16, tolerance: f64) {
    let ladders = build(candidates, SLOTS, Spill::Both);
    let orphans: Vec<Ladder> = ladders
        .into_iter()
        .filter(|ladder| ladder[0] == Some(failed))
        .collect();
    let heirs = || candidates.iter().filter(|candidate| candidate.id != failed);
    let total: f64 = heirs().map(|heir| f64::from(heir.weight)).sum();
    for heir in heirs() {
        let share = orphans.len() as f64 * f64::from(heir.weight) / total;
        let slots = slots_of(&orphans, 1, heir.id) as f64;
        let off = (slots - share).abs() / share;
        assert!(
            off <= tolerance,
            "{heir:?} takes {slots} slots of {failed} for a share of {share:.0}"
        );
    }
}

#[test]
fn the_load_of_a_failed_primary_is_spread_over_both_groups_by_weight() {
    for failed in 1..=4 {
        assert_spill_is_shared(&pool(4, 1), failed, 0.05);
    }
    assert_spill_is_shared(&weighted(&[100, 100, 200, 300]), 4, 0.05);
    assert_spill_is_shared(&weighted(&[100, 100, 200, 300]), 1, 0.05);
}

#[test]
fn the_heirs_of_a_backend_that_had_nearly_everything_share_by_weight() {
    assert_spill_is_shared(&weighted(&[60_000, 10, 20, 30]), 1, 0.05);
    // The second heaviest would be drawn from its own slots all the time as well.
    let mut two_giants = weighted(&[60_000, 60_000, 10, 20, 30]);
    two_giants[1].role = Role::Standby;
    let ladders = build(&two_giants, SLOTS, Spill::StandbysFirst);
    let of_giants: Vec<Ladder> = ladders
        .into_iter()
        .filter(|ladder| ladder[0] == Some(1))
        .collect();
    for (id, share) in [(3, 10.0 / 60.0), (4, 20.0 / 60.0), (5, 30.0 / 60.0)] {
        let slots = slots_of(&of_giants, 2, id) as f64 / of_giants.len() as f64;
        assert!(
            (slots / share - 1.0).abs() < 0.05,
            "{id} takes {slots:.3} for a share of {share:.3}"
        );
    }
}

#[test]
fn no_survivor_is_overloaded_by_the_failure_of_one_of_many() {
    let candidates = pool(50, 0);
    let ladders = build(&candidates, SLOTS, Spill::Both);
    let share = f64::from(SLOTS) / 49.0;
    for survivor in 2..=50 {
        let takes = |ladder: &&Ladder| {
            ladder[0] == Some(survivor) || (ladder[0] == Some(1) && ladder[1] == Some(survivor))
        };
        let load = ladders.iter().filter(takes).count() as f64;
        assert!(
            (load / share - 1.0).abs() <= 0.03,
            "{survivor} carries {load} for a share of {share:.0}"
        );
    }
}

#[test]
fn other_zones_share_the_load_of_a_failed_primary_by_weight() {
    let candidates = in_zones(pool(9, 0), &[Some("a"), Some("b"), Some("c")]);
    let ladders = build(&candidates, SLOTS, Spill::Both);
    let orphans: Vec<Ladder> = ladders
        .into_iter()
        .filter(|ladder| ladder[0] == Some(1))
        .collect();
    for heir in [2, 3, 5, 6, 8, 9] {
        let share = orphans.len() as f64 / 6.0;
        let slots = slots_of(&orphans, 1, heir) as f64;
        assert!(
            (slots / share - 1.0).abs() <= 0.1,
            "{heir} takes {slots} for a share of {share:.0}"
        );
    }
}
