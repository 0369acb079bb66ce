//! Servers that take no new flows, and servers that leave the configuration.

use anyhow::Result;
use lb_common::backend::BackendId;
use lb_userspace::agent::plan::MapWrite;

use super::{A, B, C, RULES, SECOND, Stage, TO_A, TO_B, TO_C, WINDOW, Went};

const UDP_WINDOW: u64 = RULES.udp_window_ns / SECOND;

#[test]
fn s05_a_draining_server_gets_no_new_udp_flow_after_the_udp_window() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    assert_eq!(stage.datagram(1)?, TO_A);
    stage.duties.drain(A);
    stage.pass(UDP_WINDOW - 1)?;
    assert_eq!(stage.datagram(1)?, TO_A, "it may be an old flow, and is");
    stage.pass(2)?;
    assert_eq!(stage.datagram(2)?, TO_B);
    assert_eq!(stage.datagram(1)?, TO_A, "the old one was recorded");
    Ok(())
}

#[test]
fn s07_a_removed_server_keeps_its_flows_and_no_flow_is_taken_for_its_successors() -> Result<()> {
    let mut stage = Stage::new(&[0, 1])?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.swap(&[1, 2])?;
    stage.duties.remove(A);
    assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_B, TO_B), "new flows");
    stage.pass_active(2 * WINDOW, 1, TO_A)?;
    assert_eq!(stage.duties.sweep()?.1.free, [], "a record names it");
    assert_eq!(stage.data(1)?, TO_A);

    // A record that outlived its server: the id goes to somebody else.
    let record = stage.duties.maps.all()?;
    let record = record.iter().find(|it| BackendId(it.entry.backend) == A);
    let record = *record.expect("the flow is recorded");
    stage.pass(RULES.idle_ns / SECOND + 1)?;
    assert_eq!(stage.duties.sweep()?.1.free, [A]);
    let mut successor = stage.duties.gateway.desired.backends[&A];
    successor.generation += 1;
    let write = MapWrite::Backend {
        id: A,
        backend: successor,
    };
    stage.duties.gateway.datapath.apply(&write)?;
    stage.duties.gateway.up(A, crate::setup::mac(A.0), 0);
    // The slot is unstable, so that records count.
    stage.swap(&[1, 0])?;
    stage.duties.drain(B);
    stage.duties.maps.insert(&record)?;
    assert_ne!(stage.data(1)?, TO_A);
    Ok(())
}

#[test]
fn s20_with_everybody_draining_flows_that_are_recorded_go_on_and_no_others() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    assert_eq!((stage.datagram(1)?, stage.datagram(2)?), (TO_A, TO_A));
    assert_eq!((stage.syn(3)?, stage.data(3)?), (TO_A, TO_A));
    for id in [A, B, C] {
        stage.duties.drain(id);
    }
    stage.pass(UDP_WINDOW - 1)?;
    assert_eq!(stage.datagram(1)?, TO_A, "a flow that spoke in the window");
    stage.pass(2)?;
    assert_eq!(stage.datagram(1)?, TO_A);
    assert_eq!(stage.datagram(2)?, Went::Nowhere, "one that did not");
    assert_eq!(stage.syn(4)?, Went::Nowhere);
    stage.pass_active(2 * WINDOW, 3, TO_A)?;
    stage.duties.undrain(C);
    assert_eq!(stage.datagram(2)?, TO_C, "until somebody takes flows again");
    assert_eq!(stage.datagram(1)?, TO_A);
    Ok(())
}
