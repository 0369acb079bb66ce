//! Servers that fail and come back, and agents that do.

use anyhow::Result;
use lb_common::backend::BackendState;

use super::{A, B, LOST, Stage, TO_A, TO_B, WINDOW, Went};

#[test]
fn s02_a_recovered_owner_takes_no_flow_that_began_on_its_heir() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    stage.pass(LOST)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    assert_eq!(stage.records()?, 0, "nothing is recorded while it is down");
    stage.duties.recover(A);
    assert_eq!(stage.data(1)?, TO_B);
    assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_A, TO_A), "new flows");
    stage.pass_active(3 * WINDOW, 1, TO_B)
}

#[test]
fn s03_a_port_used_again_is_one_connection_with_its_own_packets() -> Result<()> {
    // The heir still takes new flows: the record of the connection before decides for both.
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    assert_eq!(stage.fin(1)?, TO_B);
    stage.duties.recover(A);
    stage.pass(10)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    // It takes none: the connection goes elsewhere, and no packet of it to the heir.
    assert_eq!(stage.fin(1)?, TO_B);
    stage.duties.drain(B);
    stage.pass(10)?;
    let sequence = super::isn(1) + 5_000_000;
    assert_eq!(stage.forged_syn(1, sequence)?, TO_A);
    let first = super::tcp(1, lb_tests::packet::ACK, sequence + 1);
    assert_eq!((stage.run(&first)?, stage.run(&first)?), (TO_A, TO_A));
    Ok(())
}

#[test]
fn s06_a_drained_server_that_fails_and_passes_its_checks_stays_down_until_undrained() -> Result<()>
{
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.drain(A);
    stage.duties.fail(A);
    stage.pass(LOST)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    stage.duties.recover(A);
    assert!(
        !stage.state(A).has(BackendState::ALIVE),
        "{:?}",
        stage.state(A)
    );
    assert_eq!(
        (stage.data(1)?, stage.syn(2)?, stage.data(2)?),
        (TO_B, TO_B, TO_B)
    );
    stage.duties.undrain(A);
    stage.pass_active(2 * WINDOW, 1, TO_B)
}

#[test]
fn s11_a_warming_server_that_fails_again_costs_no_flow_of_its_heir() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    stage.pass(LOST)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    stage.duties.recover(A);
    stage.duties.fail(A);
    assert!(
        !stage.state(A).has(BackendState::LOST),
        "{:?}",
        stage.state(A)
    );
    assert_eq!(stage.data(1)?, TO_B);
    stage.pass_active(2 * WINDOW, 1, TO_B)
}

#[test]
fn s12_a_record_leads_nobody_to_a_server_that_is_down() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    assert_eq!(stage.records()?, 1);
    stage.duties.fail(B);
    assert_eq!(stage.data(1)?, Went::Reset);
    assert_eq!(stage.records()?, 0, "and it is not followed twice");
    Ok(())
}

#[test]
fn s15_a_syn_sent_again_across_a_recovery_has_one_connection_from_the_second_on() -> Result<()> {
    // Recorded when it was first sent: always the same server.
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    assert_eq!(stage.syn(1)?, TO_B);
    stage.duties.recover(A);
    stage.pass(1)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_B, TO_B));
    // First sent through a slot in which nothing is recorded: two servers have half a connection
    // each, until the packet that follows the last SYN.
    let mut stage = Stage::new(&[0, 1, 2])?;
    stage.duties.fail(A);
    stage.pass(LOST)?;
    assert_eq!(stage.syn(1)?, TO_B);
    stage.duties.recover(A);
    stage.pass(1)?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.pass_active(2 * WINDOW, 1, TO_A)
}

#[test]
fn s16_an_agent_that_starts_again_takes_no_server_down() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.duties.drain(A);
    assert_eq!((stage.syn(2)?, stage.data(2)?), (TO_B, TO_B));
    let states = [A, B].map(|id| stage.state(id));
    stage.duties.kill();
    stage.pass(2 * WINDOW)?;
    assert_eq!((stage.data(1)?, stage.data(2)?), (TO_A, TO_B));
    stage.duties.restart()?;
    assert_eq!([A, B].map(|id| stage.state(id)), states);
    assert_eq!((stage.data(1)?, stage.data(2)?), (TO_A, TO_B));
    assert_eq!((stage.syn(3)?, stage.data(3)?), (TO_B, TO_B));
    stage.pass_active(2 * WINDOW, 1, TO_A)
}
