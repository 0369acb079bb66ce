//! What every ladder looks like, whatever the pool.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::{Candidate, Ladder, RUNGS, Role, Spill, build};
use super::{any_pool, in_zones, pool, primaries, with_id};

/// Enough slots for every case to occur, few enough for many pools.
const SLOTS: u32 = 1009;

const SPILLS: [Spill; 3] = [Spill::Both, Spill::StandbysFirst, Spill::PrimariesFirst];

fn any_spill() -> impl Strategy<Value = Spill> {
    prop::sample::select(SPILLS.as_slice())
}

fn named(ladder: &Ladder) -> Vec<u16> {
    ladder.iter().flatten().copied().collect()
}

fn serving(candidates: &[Candidate]) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(|candidate| candidate.weight > 0)
}

proptest! {
    #[test]
    fn no_backend_is_named_twice_in_a_slot(pool in any_pool(), spill in any_spill()) {
        for ladder in build(&pool, SLOTS, spill) {
            let ids = named(&ladder);
            prop_assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        }
    }

    #[test]
    fn a_ladder_names_as_many_backends_as_there_are(pool in any_pool(), spill in any_spill()) {
        let primaries = serving(&pool).filter(|candidate| candidate.role == Role::Primary).count();
        let others = serving(&pool).count() - usize::from(primaries > 0);
        for ladder in build(&pool, SLOTS, spill) {
            prop_assert_eq!(ladder[0].is_some(), primaries > 0);
            prop_assert_eq!(ladder[1..].iter().flatten().count(), others.min(RUNGS - 1));
            // No gap: what ends a ladder ends it for good.
            prop_assert!(ladder[1..].is_sorted_by_key(Option::is_none));
        }
    }

    #[test]
    fn the_first_rung_is_a_primary(pool in any_pool(), spill in any_spill()) {
        for id in build(&pool, SLOTS, spill).iter().filter_map(|ladder| ladder[0]) {
            prop_assert_eq!(with_id(&pool, id).role, Role::Primary);
        }
    }

    #[test]
    fn a_backend_without_weight_is_in_no_ladder(pool in any_pool(), spill in any_spill()) {
        for id in build(&pool, SLOTS, spill).iter().flatten().flatten() {
            prop_assert!(with_id(&pool, *id).weight > 0);
        }
    }

    #[test]
    fn the_order_in_the_file_changes_nothing(
        (pool, shuffled) in any_pool().prop_flat_map(|pool| (Just(pool.clone()), Just(pool).prop_shuffle())),
        spill in any_spill(),
    ) {
        prop_assert_eq!(build(&pool, SLOTS, spill), build(&shuffled, SLOTS, spill));
    }

    #[test]
    fn the_numbers_of_the_ids_change_nothing_but_themselves(pool in any_pool(), spill in any_spill()) {
        let other_id = |id: u16| 20_000 - 7 * id;
        let mut renumbered = pool.clone();
        renumbered.iter_mut().for_each(|candidate| candidate.id = other_id(candidate.id));
        let expected: Vec<Ladder> =
            build(&pool, SLOTS, spill).iter().map(|ladder| ladder.map(|rung| rung.map(other_id))).collect();
        prop_assert_eq!(build(&renumbered, SLOTS, spill), expected);
    }

    #[test]
    fn the_preferred_group_is_used_up_before_the_other_is_asked(
        pool in any_pool(),
        (spill, preferred) in prop_oneof![
            Just((Spill::StandbysFirst, Role::Standby)),
            Just((Spill::PrimariesFirst, Role::Primary)),
        ],
    ) {
        let preferred_in_pool = serving(&pool).filter(|candidate| candidate.role == preferred).count();
        for ladder in build(&pool, SLOTS, spill) {
            let is_preferred = |id: &u16| with_id(&pool, *id).role == preferred;
            let spilled: Vec<bool> = ladder[1..].iter().flatten().map(is_preferred).collect();
            prop_assert!(spilled.is_sorted_by_key(|is_preferred| !is_preferred));
            let left = preferred_in_pool - ladder[0].iter().filter(|id| is_preferred(id)).count();
            prop_assert_eq!(spilled.iter().filter(|is| **is).count(), left.min(spilled.len()));
        }
    }

    #[test]
    fn a_zone_is_repeated_only_when_no_other_is_left(pool in any_pool()) {
        for ladder in build(&pool, SLOTS, Spill::Both) {
            let ids = named(&ladder);
            for (rung, id) in ids.iter().enumerate().skip(1) {
                let before = &ids[..rung];
                let zone_is_new = |candidate: &Candidate| {
                    candidate.zone.is_none()
                        || before.iter().all(|id| with_id(&pool, *id).zone != candidate.zone)
                };
                let another = serving(&pool).any(|c| !before.contains(&c.id) && zone_is_new(c));
                prop_assert_eq!(zone_is_new(with_id(&pool, *id)), another);
            }
        }
    }
}

#[test]
fn the_order_of_groups_outranks_the_zones() {
    let candidates = in_zones(pool(2, 1), &[Some("a"), Some("b"), Some("a")]);
    for ladder in build(&candidates, SLOTS, Spill::StandbysFirst) {
        assert_eq!(
            ladder[1],
            Some(3),
            "the standby comes first, in whichever zone the primary is"
        );
    }
}

#[test]
fn zones_that_all_are_the_same_are_as_good_as_none() {
    let same = in_zones(pool(5, 2), &[Some("only")]);
    assert_eq!(
        build(&same, SLOTS, Spill::Both),
        build(&pool(5, 2), SLOTS, Spill::Both)
    );
}

#[test]
fn a_pool_of_nobody_has_empty_ladders() {
    assert_eq!(build(&[], 251, Spill::Both), vec![[None; RUNGS]; 251]);
}

#[test]
fn a_pool_without_primaries_leaves_the_first_rung_empty() {
    for ladder in build(&pool(0, 2), 251, Spill::PrimariesFirst) {
        assert_eq!(ladder[0], None);
        assert_eq!(ladder[1..].iter().flatten().count(), 2);
    }
}

#[test]
fn tiny_tables_are_filled_too() {
    for slots in [2, 3, 5, 251] {
        for spill in SPILLS {
            let ladders = build(&pool(300, 20), slots, spill);
            assert!(
                ladders.iter().flatten().all(Option::is_some),
                "{slots} slots, {spill:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "prime")]
fn a_table_size_that_is_not_prime_is_refused() {
    let _ = build(&primaries(3), 65_536, Spill::Both);
}
