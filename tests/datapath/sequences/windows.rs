//! Slots whose owner changes: re-weighting, servers added, flows that are silent.

use anyhow::Result;
use lb_common::service::detour;
use lb_tests::datapath::Gateway;

use super::{A, ACTIVE, B, LOST, RULES, SECOND, Stage, TO_A, TO_B, TO_C, WINDOW};

#[test]
fn s01_two_changes_within_a_window_keep_the_settled_owner() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.swap(&[1, 2, 0])?;
    stage.pass(10)?;
    stage.swap(&[2, 0, 1])?;
    stage.pass(10)?;
    assert_eq!(stage.data(1)?, TO_A, "not to the table in between");
    assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_C, TO_C), "new flows");
    stage.pass_active(2 * WINDOW, 1, TO_A)
}

#[test]
fn s04_a_busy_flow_stays_however_old_it_grows() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.swap(&[1, 0, 2])?;
    // Longer than any time in the rules.
    let rounds = 3 * RULES.idle_ns / SECOND / WINDOW;
    for _ in 0..rounds {
        stage.pass_active(WINDOW, 1, TO_A)?;
        stage.duties.sweep()?;
    }
    assert_eq!(stage.records()?, 1, "it and no other is remembered");
    assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_B, TO_B));
    Ok(())
}

#[test]
fn s08_a_ladder_that_changes_before_a_warming_server_owns_opens_a_window_of_its_own() -> Result<()>
{
    let mut stage = Stage::new(&[0, 2])?;
    stage.duties.fail(B);
    stage.pass(LOST)?;
    stage.duties.recover(B);
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.pass(WINDOW - 10)?;
    assert_eq!(stage.data(1)?, TO_A);
    // The owner is `a` before and after, but only until `b` has warmed.
    stage.swap(&[1, 0, 2])?;
    stage.pass(20)?;
    assert_eq!(stage.data(1)?, TO_A, "it had no time to be recorded");
    stage.pass_active(2 * WINDOW, 1, TO_A)
}

#[test]
fn s09_a_slot_that_a_draining_server_gets_records_its_flows_before_that_owns_them() -> Result<()> {
    let mut stage = Stage::new(&[2, 0])?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_C, TO_C));
    stage.duties.drain(A);
    stage.swap(&[0, 2])?;
    stage.pass_active(2 * WINDOW, 1, TO_C)
}

#[test]
fn s10_a_slot_that_changes_while_it_has_records_looks_for_them_under_its_new_owner() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    stage.pass(LOST)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    stage.duties.recover(A);
    assert_eq!(stage.data(1)?, TO_B);
    stage.swap(&[2, 0, 1])?;
    stage.pass_active(3 * WINDOW, 1, TO_B)?;
    stage.duties.sweep()?;
    stage.pass_active(WINDOW, 1, TO_B)
}

#[test]
fn s19_a_flow_that_is_silent_through_the_whole_window_is_kept_only_where_all_are_recorded()
-> Result<()> {
    for (detours, expected) in [(0, TO_B), (detour::ALWAYS, TO_A)] {
        let recording = |gateway: &mut Gateway| {
            for service in gateway.desired.services.values_mut() {
                service.detours = detours;
            }
        };
        let mut stage = Stage::with(Gateway::with_clock()?, &[0, 1, 2], recording)?;
        assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
        assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_A, TO_A));
        stage.swap(&[1, 0, 2])?;
        stage.pass_active(WINDOW + ACTIVE, 2, TO_A)?;
        assert_eq!(stage.data(1)?, expected, "detours {detours}");
        stage.pass_active(WINDOW, 2, TO_A)?;
    }
    Ok(())
}
