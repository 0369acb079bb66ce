//! Flows whose service goes to another pool, or whose packets go through another gateway.

use anyhow::Result;
use lb_common::backend::{BackendId, Encapsulation};
use lb_common::counters::Reply;
use lb_common::pool::OnEmpty;
use lb_common::service::detour;
use lb_tests::datapath::Gateway;
use lb_userspace::agent::flows::carry_over;
use lb_userspace::agent::plan::{MapWrite, plan};

use super::{A, RULES, Stage, TO_A, TO_B, WINDOW, Went};
use crate::setup::{POOL, mac, slot};

/// The backend of the second pool.
const D: BackendId = BackendId(9);
const TO_D: Went = Went::To(D);
const NEXT_POOL: u32 = 1;

/// A second pool, which no service points at yet.
fn second_pool(gateway: &mut Gateway) {
    let pool = gateway.pool(NEXT_POOL, OnEmpty::Drop, vec![slot(&[D.0])]);
    gateway.backend(D.0, pool, "10.0.2.11", Encapsulation::Ethernet);
}

#[test]
fn s17_a_service_that_points_at_another_pool_keeps_the_flows_of_the_one_before() -> Result<()> {
    let mut stage = Stage::with(Gateway::with_clock()?, &[0, 1, 2], second_pool)?;
    let gateway = &mut stage.duties.gateway;
    gateway.up(D, mac(D.0), 0);
    let next = lb_common::pool::PoolId(NEXT_POOL);
    let ladders = [slot(&[D.0])];
    let flows = &mut stage.duties.flows;
    let change = flows.evaluate(next, RULES, &ladders);
    flows.commit(change, super::START);
    flows.add(D, next, lb_common::backend::BackendState::UP);
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));

    let now = stage.duties.now();
    let gateway = &mut stage.duties.gateway;
    for service in gateway.desired.services.values_mut() {
        service.pool = NEXT_POOL as u16;
    }
    let actual = gateway.datapath.actual()?;
    let mut desired = gateway.desired.clone();
    let tracked = carry_over(&mut desired, &actual);
    assert!(tracked.contains(&next));
    let evaluator = stage.duties.flows.evaluator();
    let change = evaluator.evaluate(next, RULES, &ladders, true);
    let table = change.table.clone();
    gateway
        .datapath
        .apply(&MapWrite::Table { pool: next, table })?;
    stage.duties.flows.commit(change, now);
    for write in plan(&desired, &actual) {
        if matches!(write, MapWrite::Service { .. }) {
            gateway.datapath.apply(&write)?;
        }
    }
    stage.duties.flows.follow_services(&desired.services, now);

    assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_D, TO_D), "new flows");
    stage.pass_active(WINDOW - 1, 1, TO_A)?;
    // The window ends: the service no longer asks the pool of before.
    stage.pass(2)?;
    let gateway = &mut stage.duties.gateway;
    for (key, mut service) in gateway.datapath.actual()?.services {
        service.detours &= !detour::PREVIOUS_POOL;
        gateway
            .datapath
            .apply(&MapWrite::Service { key, service })?;
    }
    assert_eq!((stage.data(1)?, stage.data(2)?), (TO_A, TO_D));
    assert_eq!(stage.duties.gateway.desired.tables[&POOL].len(), 1);
    Ok(())
}

#[test]
fn s18_a_flow_may_change_gateways_where_its_slot_is_stable_and_is_nowhere_reset_by_one()
-> Result<()> {
    let (mut first, mut second) = (Stage::new(&[0, 1, 2])?, Stage::new(&[0, 1, 2])?);
    assert_eq!((first.syn(1)?, first.data(1)?), (TO_A, TO_A));
    assert_eq!((second.data(1)?, first.data(1)?), (TO_A, TO_A));
    // In a window only the gateway that saw it begin knows where a new flow lives. The other sends
    // it to the slot's owner, whose own kernel answers what it does not know.
    for stage in [&mut first, &mut second] {
        stage.duties.drain(A);
    }
    assert_eq!((first.syn(2)?, first.data(2)?), (TO_B, TO_B));
    assert_eq!(second.data(2)?, TO_A);
    assert_eq!(first.data(2)?, TO_B, "on one gateway it stays");
    for stage in [&first, &second] {
        let resets = stage.duties.gateway.counters.replies()?;
        assert_eq!(resets[Reply::LossReset.name()], 0);
    }
    // An old flow is the owner's on both.
    first.pass_active(2 * WINDOW, 1, TO_A)?;
    second.pass_active(2 * WINDOW, 1, TO_A)?;
    assert_eq!((second.data(1)?, first.data(1)?), (TO_A, TO_A));
    Ok(())
}
