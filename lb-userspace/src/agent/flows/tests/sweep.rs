//! Records: which go, and what is stable again without them.

use lb_common::flow::{FlowEntry, FlowKey, hash_of_key, tick};
use lb_common::ladder::slot_index;
use lb_common::service::{LATER_FRAGMENTS, detour};

use super::*;
use crate::agent::flows::{Judgement, Listed, Live, SweepOutcome, slot_of};

/// A flow in slot `slot` of a table of `slots`.
fn key(slot: u32, slots: u32) -> FlowKey {
    (1024..=u16::MAX)
        .map(|port| FlowKey {
            source: Address::v4([203, 0, 113, 7]),
            destination: vip(),
            ports: {
                let [high, low] = port.to_be_bytes();
                [high, low, 0, 80]
            },
            protocol: TCP,
            pad: [0; 3],
        })
        .find(|key| slot_index(hash_of_key(key).slot_bits(), slots) == slot)
        .unwrap()
}

fn record(slot: u32, slots: u32, backend: BackendId, at: u64) -> Listed {
    Listed {
        key: key(slot, slots),
        entry: FlowEntry {
            last: tick(at),
            backend: backend.0,
            ..FlowEntry::default()
        },
        is_new: false,
    }
}

fn live(flows: &Flows) -> impl Fn(BackendId) -> Option<Live> {
    |id| {
        Some(Live {
            state: flows.state(id),
            generation: 0,
        })
    }
}

fn sweep(flows: &mut Flows, records: &[Listed], now: u64) -> (Vec<Judgement>, SweepOutcome) {
    let slots = slots(flows).len() as u32;
    let mut sweep = flows.begin_sweep(services(slots));
    let judged = records
        .iter()
        .map(|record| sweep.judge(record, now, live(flows)))
        .collect();
    (judged, flows.end_sweep(sweep))
}

/// A owns all again, and its slots look into the flow maps.
fn tracked() -> Flows {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    flows.fail(A, 1);
    flows.recover(A, 2);
    pass(&mut flows, 2 + WINDOW);
    assert_eq!(flows.state(A), TRACKED);
    flows
}

#[test]
fn a_backend_is_settled_when_no_record_of_its_slots_is_elsewhere() {
    let mut flows = tracked();
    let now = 3 + WINDOW;
    let elsewhere = record(0, 2, B, now);
    let (judged, outcome) = sweep(&mut flows, &[elsewhere], now);
    assert_eq!(judged, [Judgement::Keep]);
    assert_eq!(outcome, SweepOutcome::default());
    let at_home = record(0, 2, A, now);
    let (judged, outcome) = sweep(&mut flows, &[at_home], now);
    assert_eq!(judged, [Judgement::Keep]);
    assert_eq!(outcome.settled, [A]);
    assert_eq!(flows.state(A), BackendState::UP);
    // What says the same as its slot is not worth its memory.
    let (judged, outcome) = sweep(&mut flows, &[at_home], now);
    assert_eq!(judged, [Judgement::Useless]);
    assert_eq!(outcome, SweepOutcome::default());
    assert!(!flows.is_unstable());
}

#[test]
fn a_needed_record_holds_its_slot_for_as_long_as_it_lives() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    swap(&mut flows, &[ladder(&[C, B]), ladder(&[B, A])], 10);
    let mut now = 10 + WINDOW;
    pass(&mut flows, now);
    for _ in 0..100 {
        now += 50 * 60 * SECOND;
        let (judged, outcome) = sweep(&mut flows, &[record(0, 2, A, now)], now);
        assert_eq!(
            (judged, outcome),
            (vec![Judgement::Keep], SweepOutcome::default())
        );
    }
    let last = record(0, 2, A, now);
    let (judged, outcome) = sweep(&mut flows, &[last], now + RULES.idle_ns + SECOND);
    assert_eq!(judged, [Judgement::Idle]);
    assert_eq!(flags(outcome.slots[0].slots[0].1), 0);
    assert!(slots(&flows)[0].is_settled());
}

#[test]
fn a_slot_within_its_window_or_without_its_first_rung_keeps_its_flags() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    swap(&mut flows, &[ladder(&[C, B]), ladder(&[B, A])], 10);
    let (_, outcome) = sweep(&mut flows, &[], 11);
    assert_eq!(outcome, SweepOutcome::default());
    pass(&mut flows, 10 + WINDOW);
    flows.fail(C, 11 + WINDOW);
    let (_, outcome) = sweep(&mut flows, &[], 12 + WINDOW);
    assert_eq!(outcome, SweepOutcome::default());
    flows.recover(C, 13 + WINDOW);
    let (_, outcome) = sweep(&mut flows, &[], 14 + WINDOW);
    assert_eq!(
        outcome,
        SweepOutcome::default(),
        "a backend that warms does not own"
    );
}

#[test]
fn what_became_quiet_during_a_sweep_waits_for_the_next() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    swap(&mut flows, &[ladder(&[C, B]), ladder(&[B, A])], 10);
    flows.fail(A, 1);
    flows.recover(A, 2);
    let begun = flows.begin_sweep(services(2));
    pass(&mut flows, 10 + WINDOW);
    assert_eq!(flows.end_sweep(begun), SweepOutcome::default());
    let (_, outcome) = sweep(&mut flows, &[], 11 + WINDOW);
    assert_eq!((outcome.settled, outcome.slots.len()), (vec![A], 1));
}

#[test]
fn each_record_that_goes_has_its_reason() {
    let mut flows = tracked();
    flows.fail(C, 5);
    let now = 2 * WINDOW;
    pass(&mut flows, now);
    let minute = 60 * SECOND + SECOND;
    let entry = |change: &dyn Fn(&mut Listed)| {
        let mut it = record(0, 2, B, now - minute);
        change(&mut it);
        it
    };
    let plain = entry(&|_| {});
    let opened = entry(&|it| {
        it.entry.flags = FlowEntry::OPENED;
        it.is_new = true;
    });
    let answered = entry(&|it| it.is_new = true);
    let closing = entry(&|it| it.entry.flags = FlowEntry::CLOSING);
    let just_closed = entry(&|it| {
        it.entry.flags = FlowEntry::CLOSING;
        it.entry.last = tick(now);
    });
    let of_before = entry(&|it| it.entry.generation = 7);
    let down = entry(&|it| it.entry.backend = C.0);
    let stranger = entry(&|it| it.key.destination = Address::v4([192, 0, 2, 1]));
    let from_the_future = entry(&|it| it.entry.last = tick(now + minute));
    for (record, expected) in [
        (plain, Judgement::Keep),
        (opened, Judgement::Embryo),
        (answered, Judgement::Keep),
        (closing, Judgement::Closed),
        (just_closed, Judgement::Keep),
        (of_before, Judgement::Dead),
        (down, Judgement::Dead),
        (stranger, Judgement::NoService),
        (from_the_future, Judgement::Keep),
    ] {
        assert_eq!(
            sweep(&mut flows, &[record], now).0,
            [expected],
            "{record:?}"
        );
    }
}

#[test]
fn a_lost_backends_record_stays_until_its_flows_are_no_longer_reset() {
    let mut flows = tracked();
    flows.fail(B, 3 + WINDOW);
    assert_eq!(flows.state(B), BackendState(BackendState::LOST));
    let now = 4 + WINDOW;
    let of_lost = record(0, 2, B, now);
    let (judged, outcome) = sweep(&mut flows, &[of_lost], now);
    assert_eq!(judged, [Judgement::Keep]);
    assert_eq!(outcome.settled, [], "its slot looks into the flow maps");
    let mut of_before = of_lost;
    of_before.entry.generation = 7;
    let (judged, _) = sweep(&mut flows, &[of_before], now);
    assert_eq!(judged, [Judgement::Dead]);
    let end = flows.next_deadline().unwrap();
    pass(&mut flows, end);
    assert_eq!(flows.state(B), BackendState::DOWN);
    let (judged, _) = sweep(&mut flows, &[of_lost], end);
    assert_eq!(judged, [Judgement::Dead]);
}

#[test]
fn a_removed_id_is_free_when_no_ladder_no_changed_slot_and_no_record_names_it() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    flows.remove(A, 5);
    assert_eq!(sweep(&mut flows, &[], 6).1.free, [], "a ladder");
    swap(&mut flows, &[ladder(&[B, C]), ladder(&[B, C])], 10);
    assert_eq!(
        sweep(&mut flows, &[], 11).1.free,
        [],
        "the previous owner of a slot"
    );
    let now = 10 + WINDOW;
    pass(&mut flows, now);
    let recorded = record(0, 2, A, now);
    assert_eq!(sweep(&mut flows, &[recorded], now).1.free, [], "a record");
    assert_eq!(sweep(&mut flows, &[], now).1.free, [A]);
    flows.forget_backend(A);
    assert_eq!(sweep(&mut flows, &[], now).1.free, []);
    assert!(!flows.is_unstable());
}

#[test]
fn a_service_that_moved_holds_the_slots_of_its_new_pool() {
    let mut flows = settled(&[ladder(&[A, B]), ladder(&[B, A])]);
    let change = flows
        .evaluator()
        .evaluate(POOL, RULES, &[ladder(&[A, B]), ladder(&[B, A])], true);
    flows.commit(change, 10);
    let mut moved = (*services(2)).clone();
    for service in moved.values_mut() {
        service.detours = detour::PREVIOUS_POOL;
        service.previous_pool = 9;
    }
    flows.follow_services(&moved, 10);
    assert_eq!(
        flows.previous_pools().into_iter().collect::<Vec<_>>(),
        [PoolId(9)]
    );
    assert_eq!(sweep(&mut flows, &[], 11).1, SweepOutcome::default());
    // Told again of the same services: the time is not moved.
    flows.follow_services(&moved, 20);
    assert_eq!(flows.next_deadline(), Some(10 + WINDOW));
    let due = flows.due(10 + WINDOW);
    assert_eq!(due.services, moved.into_keys().collect::<Vec<_>>());
    assert_eq!(
        sweep(&mut flows, &[], 11 + WINDOW).1.slots[0].slots.len(),
        2
    );
}

#[test]
fn a_record_belongs_to_the_service_of_its_port_else_to_that_of_every_port() {
    let mut all = (*services(2)).clone();
    let any = *all.first_key_value().unwrap().0;
    let service = all[&any];
    let add = |all: &mut BTreeMap<_, _>, key, counters| {
        all.insert(
            key,
            Service {
                counters,
                ..service
            },
        );
    };
    add(
        &mut all,
        ServiceKey {
            port: [0, 80],
            ..any
        },
        1,
    );
    add(
        &mut all,
        ServiceKey {
            pad: LATER_FRAGMENTS,
            ..any
        },
        2,
    );
    let found = |ports: [u8; 4]| {
        let key = FlowKey { ports, ..key(0, 2) };
        slot_of(&key, &all).unwrap().0.counters
    };
    assert_eq!(found([9, 9, 0, 80]), 1);
    assert_eq!(found([9, 9, 0, 81]), 0);
    assert_eq!(found([0; 4]), 2);
}
