//! Echo requests to a VIP are answered by the program.

use anyhow::Result;
use lb_common::pool::OnEmpty;
use lb_tests::mac::Mac;
use lb_tests::packet;

use crate::setup::{VIP_V4, VIP_V6, assert_passed, assert_transmitted, empty, one_backend};

const CLIENT_V4: &str = "203.0.113.7";
const CLIENT_V6: &str = "2001:db8:7::7";
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xc1]);
const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
/// Identifier 0x1234, sequence number 7.
const REST: [u8; 4] = [0x12, 0x34, 0, 7];

#[test]
fn an_echo_request_is_answered_with_its_own_data() -> Result<()> {
    let mut gateway = one_backend()?;
    for length in [0, 1, 56, 57, 1400] {
        let data = vec![0xa5; length];
        for (client, vip, request, reply) in
            [(CLIENT_V4, VIP_V4, 8, 0), (CLIENT_V6, VIP_V6, 128, 129)]
        {
            let request = packet::icmp(client, vip, request, 0, REST)
                .macs(CLIENT_MAC, ROUTER_MAC)
                .hop_limit(57)
                .traffic_class(0x10)
                .payload(&data);
            let reply = packet::icmp(vip, client, reply, 0, REST)
                .macs(ROUTER_MAC, CLIENT_MAC)
                .hop_limit(64)
                .traffic_class(0x10)
                .payload(&data);
            let outcome = gateway.run(&request.build())?;
            assert_transmitted(
                &format!("{length} bytes to {vip}"),
                &outcome,
                &reply.build(),
            );
        }
    }
    assert_eq!(gateway.counters.replies()?["echo"], 10);
    Ok(())
}

#[test]
fn every_identifier_gets_a_right_checksum() -> Result<()> {
    // One's complement has two zeros: the sums around them are where an update goes wrong. Both
    // are right but for a message that is all zeros, so this compares what they say.
    let mut gateway = one_backend()?;
    let near_zero = [0xfff7, 0xf7ff, 0xf800, 0x0800, 0x7fff, 0x7eff, u16::MAX];
    for id in (0..=u16::MAX).step_by(97).chain(near_zero) {
        let [a, b] = id.to_be_bytes();
        for (client, vip, kind, layer) in [
            (CLIENT_V4, VIP_V4, 8, "ICMP"),
            (CLIENT_V6, VIP_V6, 128, "ICMPv6"),
        ] {
            let request = packet::icmp(client, vip, kind, 0, [a, b, 0, 0]).build();
            let reply = gateway.run(&request)?.frame.explain();
            let checksum = reply.field(layer, "checksum").unwrap_or_default();
            assert!(checksum.ends_with("(right)"), "id {id:#06x}: {reply}");
        }
    }
    Ok(())
}

#[test]
fn a_vip_answers_without_any_backend() -> Result<()> {
    let mut gateway = empty(OnEmpty::Drop)?;
    let request = packet::echo_request(CLIENT_V4, VIP_V4, 1, 1).build();
    let outcome = gateway.run(&request)?;
    assert_eq!(
        outcome.frame.explain().field("ICMP", "type"),
        Some("0"),
        "{:?}",
        outcome.frame
    );
    Ok(())
}

#[test]
fn other_icmp_and_other_addresses_are_left_to_the_kernel() -> Result<()> {
    let mut gateway = one_backend()?;
    for (name, frame) in [
        (
            "another address",
            packet::echo_request(CLIENT_V4, "198.51.100.11", 1, 1),
        ),
        (
            "another address, v6",
            packet::echo_request(CLIENT_V6, "2001:db8:100::b", 1, 1),
        ),
        ("a reply", packet::icmp(CLIENT_V4, VIP_V4, 0, 0, REST)),
        (
            "an echo request with a code",
            packet::icmp(CLIENT_V4, VIP_V4, 8, 1, REST),
        ),
        (
            "unreachable",
            packet::icmp(CLIENT_V4, VIP_V4, 3, 4, [0; 4]).payload(&[0x45; 28]),
        ),
        (
            "too big, v6",
            packet::icmp(CLIENT_V6, VIP_V6, 2, 0, [0; 4]).payload(&[0x60; 48]),
        ),
        (
            "a neighbour solicitation",
            packet::icmp(CLIENT_V6, VIP_V6, 135, 0, [0; 4]),
        ),
    ] {
        let frame = frame.build();
        assert_passed(name, &gateway.run(&frame)?, &frame);
    }
    Ok(())
}
