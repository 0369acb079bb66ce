//! Whatever comes: a frame that passes is unchanged (G7), a frame that is dropped is counted, and
//! nothing aborts.

use anyhow::Result;
use lb_common::backend::Encapsulation;
use lb_common::pool::OnEmpty;
use lb_tests::datapath::{Gateway, Verdict};
use lb_tests::packet::{self, Frame};

use crate::setup::{CLIENT_V4, VIP_V4, VIP_V6, WEB_V4, empty, one_pool, served, slot};

const FRAMES: u64 = 20_000;

fn dropped(gateway: &Gateway) -> Result<u64> {
    Ok(gateway.counters.drops()?.values().sum())
}

/// A frame near to one that is ours: some bytes of its headers changed, its end moved.
fn damaged(random: &mut fastrand::Rng, seeds: &[Frame]) -> Frame {
    let mut frame = random.choice(seeds).expect("there are seeds").clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(12..frame.len().min(80));
        frame.0[at] = match random.u8(0..4) {
            0 => 0,
            1 => 0xff,
            2 => frame.0[at] ^ 1 << random.u8(0..8),
            _ => random.u8(..),
        };
    }
    if random.u8(0..4) == 0 {
        let length = random.usize(14..frame.len() + 20);
        frame.0.resize(length, 0);
    }
    frame
}

#[test]
fn damaged_frames_pass_unchanged_or_are_counted() -> Result<()> {
    let seeds: Vec<Frame> = served()
        .into_iter()
        .map(|(_, packet)| packet)
        .chain([
            packet::echo_request("203.0.113.7", VIP_V4, 1, 1).payload(&[1; 32]),
            packet::echo_request("2001:db8:7::7", VIP_V6, 1, 1).payload(&[1; 32]),
            packet::tcp(CLIENT_V4, WEB_V4).ip_options(&[1; 8]),
            packet::ip("203.0.113.7", VIP_V4, 17)
                .fragment(8, false)
                .payload(&[0; 24]),
            packet::ip("2001:db8:7::7", VIP_V6, 17)
                .fragment(8, false)
                .payload(&[0; 24]),
        ])
        .map(|packet| packet.build())
        .collect();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for mut gateway in [
        one_pool(
            OnEmpty::Reset,
            &[("10.0.1.1", Encapsulation::Ipv4)],
            vec![slot(&[0])],
        )?,
        one_pool(
            OnEmpty::Reset,
            &[("2001:db8::1", Encapsulation::Ipv6)],
            vec![slot(&[0])],
        )?,
        empty(OnEmpty::Reset)?,
    ] {
        let (mut drops, before) = (0, dropped(&gateway)?);
        for number in 0..FRAMES {
            let frame = damaged(&mut random, &seeds);
            let outcome = gateway.run(&frame)?;
            let says = || format!("seed {seed}, frame {number}: {frame:?}");
            match outcome.verdict {
                Verdict::Pass => assert!(outcome.frame == frame, "{}", says()),
                Verdict::Drop => drops += 1,
                Verdict::Transmit => assert!(outcome.frame != frame, "{}", says()),
                Verdict::Aborted | Verdict::Redirect => panic!("{}", says()),
            }
        }
        assert_eq!(dropped(&gateway)? - before, drops, "seed {seed}");
        assert_eq!(gateway.counters.drops()?["internal"], 0, "seed {seed}");
    }
    Ok(())
}
