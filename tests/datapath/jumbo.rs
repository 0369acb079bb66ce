//! Frames longer than a page: the program sees their first part only, and handles them whole.

use anyhow::Result;
use lb_common::backend::Encapsulation;
use lb_common::pool::OnEmpty;
use lb_tests::datapath::{Gateway, LOOPBACK};
use lb_tests::mac::Mac;
use lb_tests::packet::{self, Builder, RST};

use crate::setup::{
    CLIENT_V4, CLIENT_V6, DNS_V6, GATEWAY_MAC, VIP_V4, VIP_V6, WEB_V4, WEB_V6, assert_passed,
    assert_transmitted, empty, mac, one_pool, slot,
};

const JUMBO_MTU: u32 = 9000;

fn gateway(address: &str, encapsulation: Encapsulation) -> Result<Gateway> {
    let mut gateway = one_pool(
        OnEmpty::Reset,
        &[(address, encapsulation)],
        vec![slot(&[0])],
    )?;
    gateway.port(0, LOOPBACK, GATEWAY_MAC, JUMBO_MTU)?;
    Ok(gateway)
}

/// Data that differs from byte to byte.
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn back(answer: Builder) -> Builder {
    let [client, gateway] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].map(Mac);
    answer.macs(gateway, client).hop_limit(64)
}

#[test]
fn a_jumbo_frame_is_forwarded_whole() -> Result<()> {
    let mut plain = gateway("10.0.1.11", Encapsulation::Ethernet)?;
    let mut tunnel = gateway("10.0.1.11", Encapsulation::Ipv4)?;
    for packet in [
        packet::tcp(CLIENT_V4, WEB_V4).payload(&data(8900)),
        packet::tcp(CLIENT_V4, WEB_V4).vlan(7).payload(&data(8940)),
        packet::tcp(CLIENT_V4, WEB_V4)
            .ip_options(&[1; 8])
            .payload(&data(4000)),
        packet::tcp(CLIENT_V6, WEB_V6).payload(&data(8920)),
    ] {
        let frame = packet.build();
        let untagged = frame.network_offset() == 14;
        let outcome = plain.run(&frame)?;
        if untagged {
            let expected = packet.clone().macs(GATEWAY_MAC, mac(0)).build();
            assert_transmitted("without a tunnel", &outcome, &expected);
        } else {
            assert_eq!(outcome.frame.network(), frame.network());
        }
        let outcome = tunnel.run(&frame)?;
        assert_eq!(outcome.frame.network()[20..], *frame.network());
        assert_eq!(outcome.frame.len(), 14 + 20 + frame.network().len());
    }
    Ok(())
}

#[test]
fn answers_to_jumbo_frames_are_short() -> Result<()> {
    let mut gateway = gateway("10.0.1.11", Encapsulation::Ipv4)?;
    let long = packet::tcp(CLIENT_V4, WEB_V4)
        .dont_fragment()
        .payload(&data(8941));
    let [high, low] = (JUMBO_MTU as u16 - 20).to_be_bytes();
    let answer = packet::icmp(VIP_V4, "203.0.113.7", 3, 4, [0, 0, high, low])
        .dont_fragment()
        .payload(&long.build().network()[..512]);
    let outcome = gateway.run(&long.build())?;
    assert_transmitted("too big", &outcome, &back(answer).build());

    let mut empty = empty(OnEmpty::Reset)?;
    let segment = packet::tcp(CLIENT_V6, WEB_V6)
        .acknowledgement(5)
        .payload(&data(8000));
    let answer = packet::tcp(WEB_V6, CLIENT_V6)
        .flags(RST)
        .sequence(5)
        .window(0);
    let outcome = empty.run(&segment.build())?;
    assert_transmitted("reset", &outcome, &back(answer).build());

    let datagram = packet::udp(CLIENT_V6, DNS_V6).payload(&data(8000)).build();
    let answer =
        packet::icmp(VIP_V6, "2001:db8:7::7", 1, 4, [0; 4]).payload(&datagram.network()[..512]);
    assert_transmitted("unreachable", &empty.run(&datagram)?, &back(answer).build());
    Ok(())
}

#[test]
fn a_jumbo_packet_longer_than_its_frame_passes() -> Result<()> {
    let mut gateway = gateway("10.0.1.11", Encapsulation::Ethernet)?;
    for packet in [
        packet::tcp(CLIENT_V4, WEB_V4),
        packet::tcp(CLIENT_V6, WEB_V6).vlan(7),
    ] {
        let whole = packet.payload(&data(8000)).build();
        for length in [whole.len() - 1, 5000, 3000] {
            let cut = whole.cut(length);
            assert_passed(&format!("cut to {length}"), &gateway.run(&cut)?, &cut);
        }
    }
    Ok(())
}
