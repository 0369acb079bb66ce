//! An agent that starts finds everything as the one before left it.

use anyhow::Result;
use lb_common::backend::{BackendId, BackendState, Encapsulation};
use lb_common::pool::OnEmpty;
use lb_tests::datapath::Gateway;
use lb_tests::packet::{self, SYN};
use lb_userspace::agent::datapath::Options;
use lb_userspace::agent::plan::{Contents, plan};

use crate::setup::{CLIENT_V4, POOL, WEB_V4, backend_of, one_pool, served, slot};

const BACKENDS: [(&str, Encapsulation); 2] = [
    ("10.0.1.11", Encapsulation::Ethernet),
    ("10.0.1.12", Encapsulation::Ethernet),
];

#[test]
fn maps_of_flows_keep_the_size_that_they_were_made_with() -> Result<()> {
    let gateway = Gateway::new()?;
    let sizes = gateway.datapath.flow_maps()?.sizes();
    let gateway = gateway.reopened_with(|options| Options {
        flows_max: 2 * options.flows_max,
        ..options
    })?;
    assert_eq!(gateway.datapath.flow_maps()?.sizes(), sizes);
    Ok(())
}

#[test]
fn a_data_plane_opened_again_over_its_pins_is_the_same() -> Result<()> {
    let mut gateway = one_pool(OnEmpty::Reset, &BACKENDS, vec![slot(&[0, 1]); 3])?;
    gateway
        .states
        .set_state(BackendId(0), BackendState::DRAINING);
    for (_, packet) in served() {
        gateway.run(&packet.build())?;
    }
    let actual = gateway.datapath.actual()?;
    let table = gateway.datapath.table_id(POOL)?;

    let mut gateway = gateway.reopened()?;
    assert_eq!(gateway.datapath.actual()?, actual);
    assert_eq!(gateway.datapath.table_id(POOL)?, table);
    assert_eq!(gateway.states.state(BackendId(0)), BackendState::DRAINING);
    // The middles of flows that nobody recorded are the drained backend's own; a new one is not.
    assert_eq!(gateway.counters.backend(BackendId(0))?.packets, 4);
    let frame = packet::tcp(CLIENT_V4, WEB_V4);
    assert_eq!(backend_of(&gateway.run(&frame.clone().build())?), Some(0));
    let opening = frame.flags(SYN).build();
    assert_eq!(backend_of(&gateway.run(&opening)?), Some(1));
    Ok(())
}

#[test]
fn what_a_plan_wrote_needs_no_second_plan() -> Result<()> {
    let gateway = one_pool(OnEmpty::Pass, &BACKENDS, vec![slot(&[0, 1]); 3])?;
    assert_eq!(plan(&gateway.desired, &gateway.datapath.actual()?), []);
    Ok(())
}

#[test]
fn a_plan_interrupted_after_any_write_is_finished_by_whoever_comes_next() -> Result<()> {
    let mut gateway = one_pool(OnEmpty::Pass, &BACKENDS, vec![slot(&[0, 1]); 1009])?;
    let full = gateway.desired.clone();
    gateway.desired.services.clear();
    gateway.desired.vips.fill(0);
    gateway.desired.tables.clear();
    gateway.desired.pools.clear();
    gateway.desired.backends.clear();
    let empty = gateway.desired.clone();
    for (from, to) in [(&full, &empty), (&empty, &full)] {
        let mut written = 0;
        loop {
            change(&mut gateway, from, usize::MAX)?;
            let is_whole = change(&mut gateway, to, written)?;
            gateway = gateway.reopened()?;
            change(&mut gateway, to, usize::MAX)?;
            assert_eq!(plan(to, &gateway.datapath.actual()?), [], "after {written}");
            if is_whole {
                break;
            }
            written += 1;
        }
        assert!(written > 5, "{written} writes");
    }
    Ok(())
}

/// Applies the first writes of the plan that leads to `to`; whether that was all of it.
fn change(gateway: &mut Gateway, to: &Contents, writes_max: usize) -> Result<bool> {
    let writes = plan(to, &gateway.datapath.actual()?);
    for write in writes.iter().take(writes_max) {
        gateway.datapath.apply(write)?;
    }
    Ok(writes.len() <= writes_max)
}

#[test]
fn everything_can_be_taken_away_again() -> Result<()> {
    let mut gateway = one_pool(OnEmpty::Pass, &BACKENDS, vec![slot(&[0, 1]); 3])?;
    gateway.desired.services.clear();
    gateway.desired.vips.fill(0);
    gateway.desired.tables.clear();
    gateway.desired.pools.clear();
    gateway.desired.backends.clear();
    gateway.apply()?;
    let actual = gateway.datapath.actual()?;
    assert!(actual.services.is_empty() && actual.pools.is_empty() && actual.tables.is_empty());
    assert!(
        actual
            .backends
            .values()
            .all(|backend| backend.encapsulation == 0)
    );
    assert_eq!(plan(&gateway.desired, &actual), []);
    Ok(())
}
