//! What others send to make flows move.

use anyhow::Result;
use lb_tests::datapath::Gateway;
use lb_tests::packet::{self, ACK, SYN};
use lb_userspace::agent::datapath::Options;

use super::{B, Stage, TO_A, TO_B, WINDOW};
use crate::setup::WEB_V4;

/// Entries of `FLOWS`, and four times those of `FLOWS_NEW`.
const FLOWS_MAX: u32 = 4096;
/// Live flows, by their ports.
const LIVE: std::ops::Range<u16> = 1..200;

#[test]
fn s13_a_flood_in_a_window_pushes_out_no_flow_that_sent_two_packets() -> Result<()> {
    let gateway = Gateway::with(|options| Options {
        clock_in_map: true,
        flows_max: FLOWS_MAX,
        ..options
    })?;
    let mut stage = Stage::with(gateway, &[0, 1, 2], |_| ())?;
    for port in LIVE {
        assert_eq!((stage.syn(port)?, stage.data(port)?), (TO_A, TO_A));
    }
    stage.swap(&[1, 0, 2])?;
    for port in LIVE {
        assert_eq!((stage.data(port)?, stage.data(port)?), (TO_A, TO_A));
    }
    for number in 0..4 * FLOWS_MAX {
        let [_, a, b, c] = number.to_be_bytes();
        let flags = if number % 2 == 0 { SYN } else { ACK };
        let flood = packet::tcp(format!("10.{a}.{b}.{c}:9").as_str(), WEB_V4);
        stage.run(&flood.flags(flags).build())?;
    }
    stage.pass(WINDOW + 1)?;
    for port in LIVE {
        assert_eq!(stage.data(port)?, TO_A);
    }
    Ok(())
}

#[test]
fn s14_a_forged_syn_takes_no_live_flow_away() -> Result<()> {
    let mut stage = Stage::new(&[0, 1, 2])?;
    assert_eq!((stage.syn(1)?, stage.data(1)?), (TO_A, TO_A));
    stage.swap(&[1, 0, 2])?;
    assert_eq!((stage.data(1)?, stage.data(1)?), (TO_A, TO_A));
    // The flow's server still takes new flows: the SYN follows the flow.
    assert_eq!((stage.forged_syn(1, 77)?, stage.data(1)?), (TO_A, TO_A));
    // It takes none: the SYN goes elsewhere, the flow stays.
    stage.duties.drain(super::A);
    assert_eq!(stage.forged_syn(1, 0x8000_0000)?, TO_B);
    assert_eq!((stage.data(1)?, stage.data(1)?), (TO_A, TO_A));
    // Also when what the SYN made is all that is new.
    stage.pass_active(2 * WINDOW, 1, TO_A)?;
    stage.duties.fail(B);
    assert_eq!(stage.data(1)?, TO_A);
    Ok(())
}
