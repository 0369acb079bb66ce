//! What a packet meets when no backend of its pool is left.

use std::time::{Duration, Instant};

use anyhow::Result;
use lb_common::pool::OnEmpty;
use lb_tests::datapath::Verdict;
use lb_tests::mac::Mac;
use lb_tests::packet::{self, ACK, Builder, FIN, PSH, RST, SYN};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::setup::{
    CLIENT_V4, CLIENT_V6, DNS_V4, DNS_V6, WEB_V4, WEB_V6, assert_passed, assert_transmitted, empty,
    served,
};

/// Back to where the builder's frames come from.
fn back(answer: Builder) -> Builder {
    let [client, gateway] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].map(Mac);
    answer.macs(gateway, client).hop_limit(64)
}

#[test]
fn every_segment_but_a_reset_is_answered_as_a_closed_port_does() -> Result<()> {
    let mut gateway = empty(OnEmpty::Reset)?;
    let (sequence, acknowledgement) = (0xffff_fff0_u32, 0x8000_0001);
    // RFC 9293 §3.10.7.1: with ACK, <SEQ=SEG.ACK><CTL=RST>; else <SEQ=0><ACK=SEG.SEQ+SEG.LEN>.
    for (name, flags, data, options, expected) in [
        ("syn", SYN, 0, 0, (RST | ACK, 0, sequence.wrapping_add(1))),
        (
            "syn with options",
            SYN,
            0,
            40,
            (RST | ACK, 0, sequence.wrapping_add(1)),
        ),
        (
            "syn with data",
            SYN,
            100,
            4,
            (RST | ACK, 0, sequence.wrapping_add(101)),
        ),
        (
            "fin without ack",
            FIN,
            9,
            0,
            (RST | ACK, 0, sequence.wrapping_add(10)),
        ),
        ("nothing", 0, 9, 0, (RST | ACK, 0, sequence.wrapping_add(9))),
        ("ack", ACK, 0, 0, (RST, acknowledgement, 0)),
        (
            "ack with data",
            ACK | PSH,
            1000,
            12,
            (RST, acknowledgement, 0),
        ),
        ("fin", ACK | FIN, 0, 0, (RST, acknowledgement, 0)),
        ("syn and ack", SYN | ACK, 0, 0, (RST, acknowledgement, 0)),
    ] {
        for (client, service) in [(CLIENT_V4, WEB_V4), (CLIENT_V6, WEB_V6)] {
            let segment = packet::tcp(client, service)
                .flags(flags)
                .sequence(sequence)
                .acknowledgement(acknowledgement)
                .tcp_options(&vec![1; options])
                .payload(&vec![0x55; data])
                .hop_limit(3);
            let (flags, sequence, acknowledgement) = expected;
            let mut answer = packet::tcp(service, client)
                .flags(flags)
                .sequence(sequence)
                .acknowledgement(acknowledgement)
                .window(0);
            if client == CLIENT_V4 {
                answer = answer.dont_fragment();
            }
            let outcome = gateway.run(&segment.build())?;
            assert_transmitted(
                &format!("{name} from {client}"),
                &outcome,
                &back(answer).build(),
            );
        }
    }
    assert_eq!(gateway.counters.replies()?["reset"], 18);
    Ok(())
}

#[test]
fn ip_options_and_padding_of_a_segment_do_not_come_back() -> Result<()> {
    let mut gateway = empty(OnEmpty::Reset)?;
    let segment = packet::tcp(CLIENT_V4, WEB_V4).flags(SYN).sequence(41);
    let answer = packet::tcp(WEB_V4, CLIENT_V4)
        .flags(RST | ACK)
        .acknowledgement(42)
        .window(0);
    let answer = back(answer.dont_fragment()).build();
    let with_options = segment.clone().ip_options(&[1; 12]).payload(&[]).build();
    let mut padded = segment.build();
    padded.0.resize(60, 0xee);
    for (name, frame) in [("options", with_options), ("padding", padded)] {
        assert_transmitted(name, &gateway.run(&frame)?, &answer);
    }
    Ok(())
}

#[test]
fn a_reset_is_never_answered() -> Result<()> {
    let mut gateway = empty(OnEmpty::Reset)?;
    for flags in [RST, RST | ACK, RST | SYN] {
        for (client, service) in [(CLIENT_V4, WEB_V4), (CLIENT_V6, WEB_V6)] {
            let segment = packet::tcp(client, service).flags(flags).build();
            assert_eq!(gateway.run(&segment)?.verdict, Verdict::Drop);
        }
    }
    assert_eq!(gateway.counters.drops()?["no_backend"], 6);
    assert_eq!(gateway.counters.replies()?["reset"], 0);
    Ok(())
}

#[test]
fn a_datagram_is_answered_with_port_unreachable() -> Result<()> {
    for length in [0, 1, 8, 500] {
        // A gateway of its own each time: the limit of the answers is not the subject here.
        let mut gateway = empty(OnEmpty::Reset)?;
        let lost = packet::udp(CLIENT_V4, DNS_V4)
            .payload(&vec![3; length])
            .build();
        let answer = packet::icmp("198.51.100.10", "203.0.113.7", 3, 3, [0; 4])
            .payload(&lost.network()[..28])
            .dont_fragment();
        assert_transmitted("v4", &gateway.run(&lost)?, &back(answer).build());

        let lost = packet::udp(CLIENT_V6, DNS_V6)
            .payload(&vec![3; length])
            .build();
        let answer = packet::icmp("2001:db8:100::a", "2001:db8:7::7", 1, 4, [0; 4])
            .payload(&lost.network()[..48]);
        assert_transmitted("v6", &gateway.run(&lost)?, &back(answer).build());
        assert_eq!(gateway.counters.replies()?["unreachable"], 2);
    }
    Ok(())
}

#[test]
fn a_datagram_with_ip_options_gets_no_answer() -> Result<()> {
    let mut gateway = empty(OnEmpty::Reset)?;
    let lost = packet::udp(CLIENT_V4, DNS_V4).ip_options(&[1; 4]).build();
    assert_eq!(gateway.run(&lost)?.verdict, Verdict::Drop);
    assert_eq!(gateway.counters.drops()?["no_backend"], 1);
    Ok(())
}

#[test]
fn port_unreachable_is_limited_and_the_rest_is_dropped() -> Result<()> {
    const BURST: u64 = 32;
    const TICK: Duration = Duration::from_nanos(1 << 23);
    const DATAGRAMS: u64 = 5000;
    let mut gateway = empty(OnEmpty::Reset)?;
    // The limit is each CPU's own.
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here)?;

    let lost = packet::udp(CLIENT_V4, DNS_V4).build();
    let began = Instant::now();
    for _ in 0..DATAGRAMS {
        gateway.run(&lost)?;
    }
    // A tick may have begun just before, and the clock of the kernel is coarse.
    let ticks = (began.elapsed().as_nanos() / TICK.as_nanos()) as u64 + 3;
    let answered = gateway.counters.replies()?["unreachable"];
    assert!(
        (BURST..=BURST * ticks).contains(&answered),
        "{answered} in {ticks} ticks"
    );
    assert_eq!(
        gateway.counters.drops()?["reply_limit"],
        DATAGRAMS - answered
    );
    Ok(())
}

#[test]
fn drop_drops_and_pass_passes() -> Result<()> {
    let mut dropping = empty(OnEmpty::Drop)?;
    let mut passing = empty(OnEmpty::Pass)?;
    for (name, packet) in served() {
        let frame = packet.build();
        assert_eq!(dropping.run(&frame)?.verdict, Verdict::Drop, "{name}");
        assert_passed(name, &passing.run(&frame)?, &frame);
    }
    assert_eq!(dropping.counters.drops()?["no_backend"], 4);
    assert_eq!(passing.counters.drops()?["no_backend"], 0);
    Ok(())
}
