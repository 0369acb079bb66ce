//! Another table: changed slots, their previous owners, their windows.

use super::*;

const BOTH: u64 = Slot::CHANGED_TCP | Slot::CHANGED_UDP;

#[test]
fn a_slot_that_keeps_its_stable_owner_is_left_alone() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    let after = swap(&mut flows, &[ladder(&[A, C]), ladder(&[B, C])], 10);
    assert_eq!(
        after.iter().map(|slot| flags(*slot)).collect::<Vec<_>>(),
        [0, 0]
    );
    assert_eq!(flows.next_deadline(), None);
}

#[test]
fn a_slot_with_another_owner_remembers_the_one_before_for_a_window() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    let after = swap(&mut flows, &[ladder(&[C, A]), ladder(&[B, A])], 10);
    assert_eq!(flags(after[0]), Slot::FLAGS);
    assert_eq!(flags(after[1]), 0);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (A, A));
    assert_eq!(flows.table(POOL).unwrap().previous(1), (NOBODY, NOBODY));
    let due = flows.due(10 + UDP_WINDOW);
    assert_eq!(
        flags(due.slots[0].slots[0].1),
        Slot::CHANGED_TCP | Slot::TRACK
    );
    let due = flows.due(10 + WINDOW);
    assert_eq!(
        (due.slots[0].slots[0].0, flags(due.slots[0].slots[0].1)),
        (0, Slot::TRACK)
    );
    assert_eq!(flows.table(POOL).unwrap().previous(0), (NOBODY, NOBODY));
}

#[test]
fn the_settled_owner_stays_the_previous_one_through_overlapping_changes() {
    let mut flows = settled(&[ladder(&[A, B])]);
    swap(&mut flows, &[ladder(&[B, A])], 10);
    let after = swap(&mut flows, &[ladder(&[C, B])], 20 + UDP_WINDOW);
    // The window of UDP was not ended by anybody yet: both keep the deadline that they have.
    assert_eq!(flags(after[0]), Slot::FLAGS);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (A, A));
    assert_eq!(flows.next_deadline(), Some(10 + UDP_WINDOW));
    // And back to the owner before: still changed, as flows that began at others are recorded.
    let after = swap(&mut flows, &[ladder(&[A, B])], 30);
    assert_eq!(flags(after[0]), Slot::FLAGS);
    pass(&mut flows, 10 + WINDOW);
    assert_eq!(flags(slots(&flows)[0]), Slot::TRACK);
}

#[test]
fn an_owner_that_changes_again_after_its_window_is_the_previous_one() {
    let mut flows = settled(&[ladder(&[A, B])]);
    swap(&mut flows, &[ladder(&[B, A])], 10);
    pass(&mut flows, 10 + UDP_WINDOW);
    let later = 20 + UDP_WINDOW;
    swap(&mut flows, &[ladder(&[C, B])], later);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (A, B));
    assert_eq!(flows.next_deadline(), Some(later + UDP_WINDOW));
}

#[test]
fn a_previous_owner_that_owns_no_more_hands_on_to_the_ladder() {
    let mut flows = settled(&[ladder(&[A, B])]);
    swap(&mut flows, &[ladder(&[B, C])], 10);
    flows.fail(A, 20);
    swap(&mut flows, &[ladder(&[C, B])], 30);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (B, B));
}

#[test]
fn the_owner_of_a_slot_whose_first_rung_is_down_is_the_next_rung() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.fail(A, 1);
    pass(&mut flows, 1 + RULES.lost_for_ns);
    let after = swap(&mut flows, &[ladder(&[C, B])], WINDOW);
    assert_eq!(flags(after[0]), Slot::FLAGS);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (B, B));
}

#[test]
fn a_slot_that_no_longer_names_the_lost_backend_is_changed_for_tcp() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.fail(A, 1);
    let after = swap(&mut flows, &[ladder(&[B, C])], 2);
    assert_eq!(flags(after[0]), Slot::CHANGED_TCP | Slot::TRACK);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (B, NOBODY));
}

/// flows.md §6, sequence 8.
#[test]
fn a_new_rung_that_warms_counts_as_a_change_though_the_owner_stays() {
    let mut flows = settled(&[ladder(&[A])]);
    flows.fail(B, 1);
    flows.recover(B, 2);
    let after = swap(&mut flows, &[ladder(&[B, A])], 2 + WINDOW - 1);
    assert_eq!(flags(after[0]), Slot::FLAGS);
    assert_eq!(flows.table(POOL).unwrap().previous(0), (A, A));
}

/// flows.md §6, sequence 10.
#[test]
fn slots_that_were_unstable_look_into_the_flow_maps_after_a_change() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[C, B])]);
    flows.fail(A, 1);
    flows.recover(A, 2);
    pass(&mut flows, 2 + WINDOW);
    assert_eq!(flows.state(A), TRACKED);
    // A owns it all, but flows may be recorded elsewhere; its slot goes to C and back to A.
    let after = swap(&mut flows, &[ladder(&[A, C]), ladder(&[C, A])], 3 + WINDOW);
    assert_eq!(
        after.iter().map(|it| flags(*it)).collect::<Vec<_>>(),
        [Slot::TRACK, 0]
    );
}

#[test]
fn a_walk_that_leaves_its_slot_finds_owners_in_the_slots_that_follow() {
    let mut flows = settled(&[ladder(&[A]), ladder(&[B]), ladder(&[C])]);
    flows.fail(C, 1);
    pass(&mut flows, 1 + RULES.lost_for_ns);
    // Slot 2 holds only C, which is down: its flows are those of the slot that follows, slot 0.
    let after = swap(
        &mut flows,
        &[ladder(&[B]), ladder(&[B]), ladder(&[C])],
        WINDOW,
    );
    assert_eq!(flows.table(POOL).unwrap().previous(2), (A, A));
    assert_eq!(flags(after[2]), BOTH | Slot::TRACK);
    assert_eq!(flags(after[1]), 0);
}

#[test]
fn a_pool_of_the_default_size_is_evaluated_in_milliseconds() {
    let ids: Vec<BackendId> = (0..1000).map(BackendId).collect();
    let table = |shift: usize| -> Vec<Slot> {
        (0..65_537)
            .map(|slot: usize| {
                let at = |rung: usize| ids[(slot * 7 + rung * 13 + shift) % ids.len()];
                Slot::new([at(0), at(1), at(2), at(3)])
            })
            .collect()
    };
    let mut flows = Flows::default();
    let change = flows.evaluate(POOL, RULES, &table(0));
    flows.commit(change, 1);
    for id in &ids {
        flows.add(*id, POOL, BackendState::UP);
    }
    for id in ids.iter().step_by(3) {
        flows.fail(*id, 2);
    }
    let wanted = table(5);
    let begun = std::time::Instant::now();
    let change = flows.evaluate(POOL, RULES, &wanted);
    let took = begun.elapsed();
    assert!(change.newly_tcp.len() > 60_000);
    let limit = if cfg!(debug_assertions) { 1000 } else { 20 };
    assert!(took.as_millis() < limit, "{took:?}");
}
