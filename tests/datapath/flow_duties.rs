//! The agent's flow duties and the program over the same maps, by a clock that the test moves.

use anyhow::{Context, Result};
use lb_common::address::Address;
use lb_common::backend::{BackendId, BackendState, Encapsulation};
use lb_common::flow::{FlowEntry, FlowKey, tick};
use lb_common::ladder::Slot;
use lb_common::packet::TCP;
use lb_common::pool::OnEmpty;
use lb_tests::datapath::Gateway;
use lb_tests::duties::Duties;
use lb_tests::packet;
use lb_userspace::agent::flows::{Judgement, Listed, Rules, StateWrite};

use crate::setup::{POOL, WEB_V4, backend_of, fill_one_pool, slot};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000 * SECOND;
const RULES: Rules = Rules {
    window_ns: 300 * SECOND,
    udp_window_ns: 30 * SECOND,
    idle_ns: 3600 * SECOND,
    lost_for_ns: 60 * SECOND,
    embryo_ns: 60 * SECOND,
    resets: true,
};
const A: BackendId = BackendId(0);
const B: BackendId = BackendId(1);
const C: BackendId = BackendId(2);

/// One slot [a, b], one slot [b, a]; c is there and in neither.
fn duties() -> Result<Duties> {
    let mut gateway = Gateway::with_clock()?;
    fill_one_pool(
        &mut gateway,
        OnEmpty::Reset,
        &[
            ("10.0.1.11", Encapsulation::Ethernet),
            ("10.0.1.12", Encapsulation::Ethernet),
            ("10.0.1.13", Encapsulation::Ethernet),
        ],
        vec![slot(&[0, 1]), slot(&[1, 0])],
    )?;
    Duties::first_start(gateway, POOL, RULES, START)
}

/// A client's address whose flows to [`WEB_V4`] live in slot 0 while everything is settled.
fn client(duties: &mut Duties) -> Result<String> {
    for port in 40_000..40_100 {
        let from = format!("203.0.113.7:{port}");
        if send(duties, &from, false)? == Some(A.0) {
            return Ok(from);
        }
    }
    anyhow::bail!("no flow in slot 0")
}

/// Sends a SYN or a later packet, and gives the backend that it left for.
fn send(duties: &mut Duties, from: &str, opens: bool) -> Result<Option<u16>> {
    let (flags, sequence) = if opens { (SYN, 1_000) } else { (ACK, 1_001) };
    let packet = packet::tcp(from, WEB_V4).flags(flags).sequence(sequence);
    Ok(backend_of(&duties.gateway.run(&packet.build())?))
}

fn flags(duties: &Duties) -> Result<Vec<u64>> {
    let table = duties.gateway.datapath.table(POOL, 2)?;
    let table = table.context("a table")?;
    Ok(table.slots.iter().map(|it| it.0 & Slot::FLAGS).collect())
}

#[test]
fn a_flow_that_went_elsewhere_stays_there_until_it_ends_and_then_nothing_is_looked_up() -> Result<()>
{
    let mut duties = duties()?;
    let from = client(&mut duties)?;
    duties.fail(A);
    assert_eq!(send(&mut duties, &from, true)?, Some(B.0));
    assert_eq!(send(&mut duties, &from, false)?, Some(B.0));
    duties.recover(A);
    assert_eq!(send(&mut duties, &from, false)?, Some(B.0), "A warms");
    let id = duties.gateway.datapath.table_id(POOL)?;
    duties.pass(RULES.window_ns)?;
    let tracked = BackendState(BackendState::UP.0 | BackendState::TRACK);
    assert_eq!(duties.gateway.states.state(A), tracked);
    assert_eq!(
        send(&mut duties, &from, false)?,
        Some(B.0),
        "it is recorded"
    );
    assert_eq!(duties.sweep()?.1.settled, []);
    duties.pass(RULES.idle_ns + SECOND)?;
    let (gone, outcome) = duties.sweep()?;
    assert_eq!(gone, [Judgement::Idle]);
    assert_eq!(outcome.settled, [A]);
    assert_eq!(duties.gateway.states.state(A), BackendState::UP);
    assert_eq!(duties.gateway.datapath.table_id(POOL)?, id, "G5");
    assert!(!duties.flows.is_unstable());
    assert_eq!(send(&mut duties, &from, false)?, Some(A.0));
    assert_eq!(duties.maps.all()?, []);
    Ok(())
}

#[test]
fn slots_that_changed_get_their_flags_back_in_place() -> Result<()> {
    let mut duties = duties()?;
    let from = client(&mut duties)?;
    duties.swap(&[slot(&[2, 0]), slot(&[1, 0])])?;
    let id = duties.gateway.datapath.table_id(POOL)?;
    assert_eq!(flags(&duties)?, [Slot::FLAGS, 0]);
    assert_eq!(send(&mut duties, &from, false)?, Some(A.0), "an older flow");
    assert_eq!(send(&mut duties, &from, true)?, Some(A.0), "a SYN of it");
    duties.pass(RULES.udp_window_ns)?;
    assert_eq!(flags(&duties)?, [Slot::CHANGED_TCP | Slot::TRACK, 0]);
    duties.pass(RULES.window_ns)?;
    assert_eq!(flags(&duties)?, [Slot::TRACK, 0]);
    assert_eq!(
        send(&mut duties, &from, false)?,
        Some(A.0),
        "it is recorded"
    );
    duties.pass(RULES.idle_ns + SECOND)?;
    duties.sweep()?;
    assert_eq!(flags(&duties)?, [0, 0]);
    assert_eq!(
        duties.gateway.datapath.table_id(POOL)?,
        id,
        "no table was built"
    );
    assert_eq!(send(&mut duties, &from, false)?, Some(C.0));
    Ok(())
}

#[test]
fn an_agent_that_starts_again_keeps_every_flow_where_it_was() -> Result<()> {
    let mut duties = duties()?;
    let from = client(&mut duties)?;
    duties.swap(&[slot(&[2, 0]), slot(&[1, 0])])?;
    assert_eq!(send(&mut duties, &from, false)?, Some(A.0));
    duties.kill();
    duties.pass(2 * RULES.window_ns)?;
    assert_eq!(flags(&duties)?, [Slot::FLAGS, 0], "nobody ended the window");
    duties.restart()?;
    assert_eq!(
        duties.flows.table(POOL).context("adopted")?.previous(0),
        (A, A)
    );
    assert_eq!(send(&mut duties, &from, false)?, Some(A.0));
    duties.pass(RULES.window_ns)?;
    assert_eq!(flags(&duties)?, [Slot::TRACK, 0]);
    assert_eq!(send(&mut duties, &from, false)?, Some(A.0));
    Ok(())
}

#[test]
fn a_state_is_stored_over_what_the_program_set_and_settled_only_from_tracked() -> Result<()> {
    let duties = duties()?;
    let states = &duties.gateway.states;
    let tracked = BackendState(BackendState::UP.0 | BackendState::TRACK);
    assert!(!states.settle(A), "it is settled already");
    states.set_state(A, tracked);
    let write = StateWrite {
        id: A,
        state: BackendState::UP,
        since: [1, 2, 3],
    };
    states.store(&write);
    assert_eq!(states.state(A), tracked, "a TRACK of the program's stays");
    assert!(states.settle(A));
    assert_eq!(states.state(A), BackendState::UP);
    let down = StateWrite {
        state: BackendState::DOWN,
        ..write
    };
    states.set_state(A, tracked);
    states.store(&down);
    assert_eq!(states.state(A), BackendState::DOWN);
    let actual = duties.gateway.datapath.actual()?;
    assert_eq!(actual.backends[&A].since, [1, 2, 3]);
    Ok(())
}

#[test]
fn a_million_records_are_listed_sooner_than_they_were_written() -> Result<()> {
    const RECORDS: u32 = 1 << 20;
    let gateway = Gateway::with(|options| lb_userspace::agent::datapath::Options {
        flows_max: RECORDS,
        ..options
    })?;
    let mut maps = gateway.datapath.flow_maps()?;
    assert_eq!(
        (maps.sizes().kept, maps.sizes().new),
        (RECORDS, RECORDS / 4)
    );
    let record = |number: u32| Listed {
        key: FlowKey {
            source: Address::v4(number.to_be_bytes()),
            destination: Address::v4([198, 51, 100, 10]),
            ports: [1, 2, 0, 80],
            protocol: TCP,
            pad: [0; 3],
        },
        entry: FlowEntry {
            last: tick(u64::from(number) << 27),
            ..FlowEntry::default()
        },
        is_new: false,
    };
    let begun = std::time::Instant::now();
    for number in 0..RECORDS {
        maps.insert(&record(number))?;
    }
    let writing = begun.elapsed();
    let begun = std::time::Instant::now();
    let mut seen = vec![false; RECORDS as usize];
    let mut position = None;
    let mut longest = std::time::Duration::ZERO;
    loop {
        let step = std::time::Instant::now();
        let (batch, next) = maps.batch(false, position)?;
        longest = longest.max(step.elapsed());
        for it in batch {
            assert!(!std::mem::replace(&mut seen[it.entry.last as usize], true));
        }
        position = next;
        if position.is_none() {
            break;
        }
    }
    let took = begun.elapsed();
    assert!(seen.iter().all(|seen| *seen));
    println!("{took:?} in all, {longest:?} for the longest step");
    // One by one they would need two calls each, to find the next and to read it.
    assert!(took < writing, "{took:?}, and {writing:?} to write them");
    // A record that was used since it was listed stays.
    let mut stale = record(7);
    stale.entry.last += 1;
    assert!(!maps.delete(&stale)?);
    assert!(maps.delete(&record(7))?);
    assert_eq!(maps.get(&record(7).key, false)?, None);
    assert!(maps.delete(&record(7))?, "it is gone");
    Ok(())
}
