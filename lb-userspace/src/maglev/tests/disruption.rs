//! A change of the configuration moves little beyond what it must.

use super::super::{Candidate, Ladder, Role, Spill, build};
use super::{SLOTS, candidate, pool, primaries, slots_of};

/// What the issue promises: the part of the bystanders' slots that may change hands.
const BYSTANDERS_MOVED_MAX: f64 = 0.01;

fn ladders(candidates: &[Candidate]) -> Vec<Ladder> {
    build(candidates, SLOTS, Spill::Both)
}

/// The part of the slots that `changed` never owned, and whose owner is another now.
fn bystanders_moved(before: &[Ladder], after: &[Ladder], changed: u16) -> f64 {
    let owners = || {
        before
            .iter()
            .zip(after)
            .map(|(before, after)| (before[0], after[0]))
    };
    let of_bystanders = || owners().filter(|(before, _)| *before != Some(changed));
    let moved = of_bystanders()
        .filter(|(before, after)| before != after)
        .count();
    moved as f64 / of_bystanders().count() as f64
}

#[test]
fn removing_a_primary_leaves_the_others_slots_alone() {
    // 400 to 480 backends are the worst case: see table::TAIL_TURNS.
    for count in [2, 3, 5, 10, 30, 100, 200, 300, 400, 430, 460, 500] {
        let candidates = primaries(count);
        let before = ladders(&candidates);
        for removed in [1, count.div_ceil(2), count] {
            let rest: Vec<_> = candidates
                .iter()
                .filter(|c| c.id != removed)
                .cloned()
                .collect();
            let moved = bystanders_moved(&before, &ladders(&rest), removed);
            assert!(
                moved <= BYSTANDERS_MOVED_MAX,
                "{removed} of {count} moves {moved:.4} of the others"
            );
        }
    }
}

#[test]
fn adding_a_primary_takes_slots_for_itself_only() {
    for count in [2, 3, 10, 100, 300, 450] {
        let mut candidates = primaries(count);
        let before = ladders(&candidates);
        candidates.push(candidate(count + 1, Role::Primary, 100));
        let after = ladders(&candidates);
        // Seen from afterwards, it is the removal of the one that was added.
        let moved = bystanders_moved(&after, &before, count + 1);
        assert!(
            moved <= BYSTANDERS_MOVED_MAX,
            "one more than {count} moves {moved:.4} of the others"
        );
    }
}

#[test]
fn a_new_weight_moves_little_more_than_its_share() {
    for count in [3, 10, 100] {
        let mut candidates = primaries(count);
        let before = ladders(&candidates);
        for weight in [50, 101, 200] {
            candidates[1].weight = weight;
            let after = ladders(&candidates);
            let changed = candidates[1].id;
            let must = slots_of(&before, 0, changed).abs_diff(slots_of(&after, 0, changed));
            let moved = before
                .iter()
                .zip(&after)
                .filter(|(before, after)| before[0] != after[0])
                .count();
            let bystanders = moved.abs_diff(must) as f64 / f64::from(SLOTS);
            assert!(
                bystanders <= BYSTANDERS_MOVED_MAX,
                "{count}, weight {weight}: {moved} moved, {must} must"
            );
        }
    }
}

#[test]
fn changing_standbys_moves_no_first_rung() {
    let first = |ladders: &[Ladder]| ladders.iter().map(|ladder| ladder[0]).collect::<Vec<_>>();
    let expected = first(&ladders(&pool(5, 0)));
    for standbys in [1, 2, 7] {
        assert_eq!(first(&ladders(&pool(5, standbys))), expected);
    }
}

#[test]
fn the_later_rungs_are_consistent_as_well() {
    let candidates = pool(20, 3);
    let before = ladders(&candidates);
    let rest: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.id != 7)
        .cloned()
        .collect();
    let after = ladders(&rest);
    for rung in 1..4 {
        let kept = || {
            before
                .iter()
                .zip(&after)
                .filter(|(before, _)| !before[..=rung].contains(&Some(7)))
        };
        let moved = kept()
            .filter(|(before, after)| before[rung] != after[rung])
            .count();
        let moved = moved as f64 / kept().count() as f64;
        assert!(
            moved <= 0.02,
            "rung {rung}: {moved:.4} of the ladders without the removed one changed"
        );
    }
}
