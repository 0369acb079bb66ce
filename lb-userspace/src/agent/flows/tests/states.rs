//! One backend's states.

use super::*;

#[test]
fn a_backend_that_fails_is_lost_for_a_while_and_then_only_down() {
    let mut flows = settled(&[ladder(&[A, B])]);
    let write = flows.fail(A, 10).unwrap();
    assert_eq!((write.state, write.since[2]), (LOST, 10));
    assert_eq!(flows.fail(A, 20), None, "a loss that runs goes on");
    assert_eq!(flows.next_deadline(), Some(10 + RULES.lost_for_ns));
    let due = flows.due(10 + RULES.lost_for_ns);
    assert_eq!(due.states[0].state, BackendState::DOWN);
    assert_eq!(flows.next_deadline(), None);
}

#[test]
fn a_recovered_backend_takes_new_flows_at_once_and_owns_old_ones_after_a_window() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.fail(A, 10);
    assert_eq!(flows.recover(A, 100).unwrap().state, WARMING);
    assert_eq!(flows.until(A), Some(100 + WINDOW));
    assert_eq!(flows.due(99 + UDP_WINDOW).states, []);
    let due = flows.due(100 + UDP_WINDOW);
    assert_eq!(due.states[0].state.0, WARMING.0 | OLD_UDP);
    assert_eq!(flows.due(99 + WINDOW).states, []);
    assert_eq!(flows.due(100 + WINDOW).states[0].state, TRACKED);
    assert_eq!(flows.next_deadline(), None);
}

#[test]
fn a_backend_that_flaps_owns_only_after_an_unbroken_window() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.fail(A, 10);
    flows.recover(A, 100);
    let almost = 99 + WINDOW;
    pass(&mut flows, almost);
    // It had no OLD: its slots' unrecorded flows live elsewhere and must not be reset.
    assert_eq!(flows.fail(A, almost).unwrap().state, BackendState::DOWN);
    flows.recover(A, almost + 1);
    pass(&mut flows, almost + WINDOW);
    assert!(!flows.state(A).has(OLD));
    pass(&mut flows, almost + 1 + WINDOW);
    assert_eq!(flows.state(A), TRACKED);
}

#[test]
fn a_drained_backend_keeps_tcp_flows_and_gives_up_udp_flows_after_the_udp_window() {
    let mut flows = settled(&[ladder(&[A, B])]);
    let write = flows.drain(A, 50).unwrap();
    assert_eq!((write.state, write.since[0]), (BackendState::DRAINING, 50));
    assert_eq!(flows.drain(A, 60), None);
    let due = flows.due(50 + UDP_WINDOW);
    assert_eq!(due.states[0].state.0, ALIVE | OLD | TRACK);
    assert_eq!(flows.next_deadline(), None);
    // What is missing comes back after a whole window; what is there stays.
    let back = 60 + UDP_WINDOW;
    let write = flows.undrain(A, back).unwrap();
    assert_eq!(write.state.0, ALIVE | NEW | OLD | TRACK);
    assert_eq!(flows.due(back + UDP_WINDOW).states[0].state, TRACKED);
}

#[test]
fn a_backend_drained_while_it_warmed_never_owns() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.fail(A, 10);
    flows.recover(A, 20);
    pass(&mut flows, 20 + UDP_WINDOW);
    let write = flows.drain(A, 21 + UDP_WINDOW).unwrap();
    assert_eq!(write.state.0, ALIVE | OLD_UDP | TRACK);
    pass(&mut flows, 21 + 2 * UDP_WINDOW);
    assert_eq!(flows.state(A).0, ALIVE | TRACK);
    pass(&mut flows, 10 * WINDOW);
    assert_eq!(flows.state(A).0, ALIVE | TRACK);
}

#[test]
fn a_drained_backend_that_failed_stays_down_until_it_is_undrained() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.drain(A, 10);
    assert_eq!(flows.fail(A, 20).unwrap().state, LOST);
    assert_eq!(flows.recover(A, 30), None);
    assert_eq!(flows.state(A), LOST);
    assert_eq!(flows.undrain(A, 40).unwrap().state, WARMING);
}

#[test]
fn a_removed_backend_is_drained_and_one_that_is_down_stays_down() {
    let mut flows = settled(&[ladder(&[A, B])]);
    assert_eq!(flows.remove(A, 10).unwrap().state, BackendState::DRAINING);
    flows.fail(B, 10);
    assert_eq!(flows.remove(B, 20), None);
    assert_eq!(flows.recover(B, 30), None);
    assert_eq!(flows.removed().collect::<Vec<_>>(), [A, B]);
}

#[test]
fn a_new_backend_waits_for_its_table_and_then_warms() {
    let mut flows = settled(&[ladder(&[A, B])]);
    let fresh = BackendId(9);
    let first = flows.first_state(POOL, Wanted::IN_SERVICE);
    assert_eq!(first, BackendState::DOWN);
    flows.add(fresh, POOL, first);
    assert_eq!(flows.recover(fresh, 7).unwrap().state, WARMING);
}

#[test]
fn a_track_that_the_program_set_is_kept_and_ends_a_settled_state() {
    let mut flows = settled(&[ladder(&[A, B])]);
    flows.observe(A, TRACKED);
    assert_eq!(flows.state(A), TRACKED);
    assert!(flows.is_unstable());
    // The program never sets it on a backend that is down.
    flows.fail(B, 1);
    flows.observe(B, TRACKED);
    assert_eq!(flows.state(B), LOST);
}

#[test]
fn an_agent_that_starts_goes_on_where_the_one_before_was() {
    let mut before = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    before.fail(A, 5);
    before.recover(A, 100);
    before.drain(B, 100);
    let changed = swap(&mut before, &[ladder(&[A, B]), ladder(&[C, B])], 110);
    let now = 200 + UDP_WINDOW;
    let mut after = Flows::default();
    after.adopt_pool(POOL, RULES, before.table(POOL).unwrap().clone(), now);
    for id in [A, B, C] {
        let left = lb_common::backend::Backend {
            state: before.state(id),
            since: before.since(id),
            pool: POOL.0,
            ..lb_common::backend::Backend::FREE
        };
        let wanted = Wanted {
            is_healthy: true,
            is_drained: id == B,
            is_removed: false,
        };
        after.adopt_backend(id, &left, wanted, now);
    }
    assert_eq!(slots(&after), changed);
    for id in [A, B, C] {
        assert_eq!(after.state(id), before.state(id));
    }
    // States go on by their own times, changed slots wait for a whole window again.
    pass(&mut after, 100 + WINDOW);
    assert_eq!(after.state(A), TRACKED);
    assert_eq!(after.state(B).0, ALIVE | OLD | TRACK);
    assert!(flags(slots(&after)[1]) & Slot::CHANGED_TCP != 0);
    pass(&mut after, now + WINDOW);
    assert_eq!(flags(slots(&after)[1]), Slot::TRACK);
}
