//! Which rung a flow takes, and that one store moves it.

use anyhow::Result;
use lb_common::backend::{BackendId, BackendState, Encapsulation};
use lb_common::ladder::{SLOTS_WALKED_MAX, Slot};
use lb_common::pool::OnEmpty;
use lb_tests::datapath::{Gateway, Verdict};
use lb_tests::packet::{self, Frame, SYN};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::setup::{
    CLIENT_V4, GATEWAY_MAC, POOL, WEB_V4, assert_transmitted, backend_of, mac, one_pool, slot,
};

fn gateway(backends: usize, table: Vec<Slot>) -> Result<Gateway> {
    let backends: Vec<String> = (0..backends)
        .map(|number| format!("10.0.1.{number}"))
        .collect();
    let backends: Vec<_> = backends
        .iter()
        .map(|address| (address.as_str(), Encapsulation::Ethernet))
        .collect();
    one_pool(OnEmpty::Drop, &backends, table)
}

fn frame(port: u16) -> Frame {
    packet::tcp(format!("203.0.113.7:{port}").as_str(), WEB_V4)
        .flags(SYN)
        .build()
}

fn set(gateway: &Gateway, id: u16, state: BackendState) {
    gateway.states.set_state(BackendId(id), state);
}

#[test]
fn the_first_rung_that_takes_flows_gets_the_packet() -> Result<()> {
    let mut gateway = gateway(4, vec![slot(&[2, 0, 3, 1])])?;
    let warming = BackendState(BackendState::ALIVE | BackendState::NEW | BackendState::TRACK);
    let tracked = BackendState(BackendState::UP.0 | BackendState::TRACK);
    let lost = BackendState(BackendState::LOST);
    let (up, down, draining) = (BackendState::UP, BackendState::DOWN, BackendState::DRAINING);
    // Each with a client port of its own: a flow that was seen before goes where it went.
    for (port, (states, expected)) in (1..).zip([
        ([up, up, up, up], Some(2)),
        ([down, up, up, up], Some(0)),
        ([lost, up, up, up], Some(0)),
        ([draining, up, up, up], Some(0)),
        ([tracked, up, up, up], Some(2)),
        ([warming, up, up, up], Some(2)),
        ([down, down, up, up], Some(3)),
        ([down, draining, warming, up], Some(3)),
        ([down, down, down, up], Some(1)),
        ([draining, lost, draining, tracked], Some(1)),
        ([down, down, down, down], None),
        ([draining, draining, draining, draining], None),
    ]) {
        for (id, state) in [2, 0, 3, 1].into_iter().zip(states) {
            set(&gateway, id, state);
        }
        let diverted = |gateway: &Gateway| -> Result<u64> {
            Ok(crate::setup::service_traffic(gateway)?.diverted)
        };
        let before = diverted(&gateway)?;
        let outcome = gateway.run(&frame(port))?;
        assert_eq!(backend_of(&outcome), expected, "{states:?}");
        let moved = u64::from(expected.is_some_and(|id| id != 2));
        assert_eq!(diverted(&gateway)? - before, moved, "{states:?}");
        if expected.is_none() {
            assert_eq!(outcome.verdict, Verdict::Drop);
        }
    }
    Ok(())
}

#[test]
fn flags_of_a_slot_do_not_change_where_a_healthy_owner_is() -> Result<()> {
    for flags in [
        Slot::CHANGED_TCP,
        Slot::CHANGED_UDP,
        Slot::TRACK,
        Slot::FLAGS,
    ] {
        let mut gateway = gateway(2, vec![Slot(slot(&[1, 0]).0 | flags)])?;
        assert_eq!(backend_of(&gateway.run(&frame(1))?), Some(1));
        set(&gateway, 1, BackendState::DOWN);
        assert_eq!(backend_of(&gateway.run(&frame(1))?), Some(0));
    }
    Ok(())
}

#[test]
fn failing_and_recovering_move_the_next_packet_and_write_no_slot() -> Result<()> {
    const SLOTS: u16 = 251;
    let table: Vec<Slot> = (0..SLOTS)
        .map(|n| slot(&[n % 5, (n + 1) % 5, (n + 3) % 5]))
        .collect();
    let mut gateway = gateway(5, table.clone())?;
    let flows: Vec<Frame> = (1..=500).map(frame).collect();
    let homes = homes(&mut gateway, &flows)?;
    let id = gateway.datapath.table_id(POOL)?;
    assert!(id.is_some());
    for failed in 0..5 {
        set(&gateway, failed, BackendState::DOWN);
        for (flow, home) in flows.iter().zip(&homes) {
            let now = backend_of(&gateway.run(flow)?);
            if *home == Some(failed) {
                assert_eq!(
                    now,
                    Some((failed + 1) % 5),
                    "G2: nobody reaches what is down"
                );
            } else {
                assert_eq!(now, *home, "no other flow moves");
            }
        }
        set(&gateway, failed, BackendState::UP);
        assert_eq!(
            self::homes(&mut gateway, &flows)?,
            homes,
            "everybody is home again"
        );
    }
    assert_eq!(gateway.datapath.table_id(POOL)?, id, "G5: the same table");
    let now = gateway.datapath.table(POOL, u32::from(SLOTS))?;
    let now = now.map(|now| now.slots.to_vec());
    assert_eq!(now, Some(table), "G5: with the same slots");
    Ok(())
}

#[test]
fn a_state_stored_on_one_cpu_counts_for_the_next_packet_on_every_cpu() -> Result<()> {
    let mut gateway = gateway(2, vec![slot(&[1, 0])])?;
    let pin = |cpu: usize| -> Result<()> {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    };
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect();
    for writer in &cpus {
        for reader in &cpus {
            for (state, expected) in [(BackendState::DOWN, 0), (BackendState::UP, 1)] {
                pin(*writer)?;
                set(&gateway, 1, state);
                pin(*reader)?;
                let chosen = backend_of(&gateway.run(&frame(1))?);
                assert_eq!(
                    chosen,
                    Some(expected),
                    "{state:?} from {writer} to {reader}"
                );
            }
        }
    }
    Ok(())
}

fn homes(gateway: &mut Gateway, flows: &[Frame]) -> Result<Vec<Option<u16>>> {
    flows
        .iter()
        .map(|flow| Ok(backend_of(&gateway.run(flow)?)))
        .collect()
}

#[test]
fn slots_that_follow_are_walked_as_far_as_the_bound_and_around_the_end() -> Result<()> {
    let slots = SLOTS_WALKED_MAX as u16 + 1;
    let mut gateway = gateway(
        usize::from(slots),
        (0..slots).map(|id| slot(&[id])).collect(),
    )?;
    for port in 1..=100 {
        let flow = frame(port);
        let Some(home) = backend_of(&gateway.run(&flow)?) else {
            panic!("port {port}: every backend is up");
        };
        for distance in 0..slots {
            let expected =
                (distance < SLOTS_WALKED_MAX as u16).then_some((home + distance) % slots);
            assert_eq!(
                backend_of(&gateway.run(&flow)?),
                expected,
                "{distance} slots on"
            );
            set(&gateway, (home + distance) % slots, BackendState::DOWN);
        }
        for id in 0..slots {
            set(&gateway, id, BackendState::UP);
        }
    }
    Ok(())
}

#[test]
fn empty_slots_are_walked_over() -> Result<()> {
    let mut gateway = gateway(1, [vec![Slot::EMPTY; 7], vec![slot(&[0])]].concat())?;
    for port in 1..=100 {
        assert_eq!(
            backend_of(&gateway.run(&frame(port))?),
            Some(0),
            "port {port}"
        );
    }
    Ok(())
}

#[test]
fn flows_spread_over_the_slots() -> Result<()> {
    let mut gateway = gateway(4, (0..251).map(|n| slot(&[n % 4])).collect())?;
    let mut counts = [0; 4];
    for port in 1..=4000 {
        let id = backend_of(&gateway.run(&frame(port))?).expect("every backend is up");
        counts[usize::from(id)] += 1;
    }
    assert!(
        counts.iter().all(|count| (850..1150).contains(count)),
        "{counts:?}"
    );
    Ok(())
}

#[test]
fn a_new_table_takes_the_place_of_the_old_one_with_the_next_packet() -> Result<()> {
    let mut gateway = gateway(2, vec![slot(&[0]); 3])?;
    let before = gateway.datapath.table_id(POOL)?;
    gateway
        .desired
        .tables
        .insert(POOL, vec![slot(&[1]); 3].into());
    gateway.apply()?;
    assert_ne!(gateway.datapath.table_id(POOL)?, before);
    let packet = packet::tcp(CLIENT_V4, WEB_V4);
    let outcome = gateway.run(&packet.build())?;
    assert_transmitted(
        "new table",
        &outcome,
        &packet.macs(GATEWAY_MAC, mac(1)).build(),
    );
    Ok(())
}
