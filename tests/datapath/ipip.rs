//! Forwarding in a tunnel: IPv4 and IPv6 outside, IPv4 and IPv6 inside.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use lb_common::backend::Encapsulation;
use lb_common::pool::OnEmpty;
use lb_tests::datapath::{Gateway, Outcome, Verdict};
use lb_tests::packet::{self, ACK, Builder, Frame, SYN};

use crate::setup::{
    CLIENT_V4, GATEWAY_MAC, MTU, WEB_V4, assert_transmitted, mac, one_pool, served, slot,
};

const BACKEND_V4: &str = "10.0.1.11";
const BACKEND_V6: &str = "2001:db8:1::11";
const OUTSIDES: [(&str, Encapsulation); 2] = [
    (BACKEND_V4, Encapsulation::Ipv4),
    (BACKEND_V6, Encapsulation::Ipv6),
];
/// DSCP "expedited forwarding" with ECN "capable": both are copied.
const TRAFFIC_CLASS: u8 = 0x2e << 2 | 0x02;

fn gateway(outside: (&str, Encapsulation)) -> Result<Gateway> {
    one_pool(OnEmpty::Reset, &[outside], vec![slot(&[0])])
}

/// Source address and flow label of the outer header.
fn outer(frame: &Frame) -> (IpAddr, u32) {
    let (header, _) = frame.network().as_chunks::<4>();
    let first = u32::from_be_bytes(header[0]);
    if first >> 28 == 4 {
        (Ipv4Addr::from(header[3]).into(), 0)
    } else {
        let source = [header[2], header[3], header[4], header[5]].map(u32::from_be_bytes);
        let bits = source
            .into_iter()
            .fold(0, |bits, word| bits << 32 | u128::from(word));
        (Ipv6Addr::from_bits(bits).into(), first & 0x000f_ffff)
    }
}

/// What the tunnel must carry: everything but the parts that vary with the flow is given.
fn expected(inner: &Builder, outcome: &Outcome, backend: &str, class: u8) -> Frame {
    let (source, label) = outer(&outcome.frame);
    let backend = packet::Address::address(backend);
    let mut outer = inner
        .build()
        .in_tunnel(source, backend)
        .macs(GATEWAY_MAC, mac(0))
        .traffic_class(class)
        .hop_limit(64);
    if backend.is_ipv4() {
        outer = outer.dont_fragment();
    } else {
        outer = outer.flow_label(label);
    }
    outer.build()
}

#[test]
fn each_of_the_four_mixes_is_what_the_builder_makes() -> Result<()> {
    for outside in OUTSIDES {
        let mut gateway = gateway(outside)?;
        for (name, packet) in served() {
            let name = format!("{name} to {}", outside.0);
            for class in [0, TRAFFIC_CLASS, 0xff] {
                let packet = packet.clone().traffic_class(class);
                let outcome = gateway.run(&packet.build())?;
                assert_eq!(outcome.verdict, Verdict::Transmit, "{name}");
                assert_transmitted(
                    &name,
                    &outcome,
                    &expected(&packet, &outcome, outside.0, class),
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_outer_source_varies_with_the_flow_inside_its_prefix() -> Result<()> {
    for outside in OUTSIDES {
        let mut gateway = gateway(outside)?;
        let mut sources = HashSet::new();
        let mut labels = HashSet::new();
        for port in 1..=256 {
            let client = format!("203.0.113.7:{port}");
            let of = |flags| packet::tcp(client.as_str(), WEB_V4).flags(flags).build();
            let (source, label) = outer(&gateway.run(&of(SYN))?.frame);
            let again = outer(&gateway.run(&of(ACK))?.frame);
            assert_eq!(again, (source, label), "one flow, one outer source");
            match source {
                IpAddr::V4(source) => assert_eq!(source.octets()[..2], [198, 18], "{source}"),
                IpAddr::V6(source) => {
                    assert_eq!(source.segments()[..6], [0x100, 0, 0, 0, 0, 0], "{source}");
                    labels.insert(label);
                }
            }
            sources.insert(source);
        }
        assert!(
            sources.len() > 240,
            "{} sources of 256 flows",
            sources.len()
        );
        if outside.1 == Encapsulation::Ipv6 {
            assert!(labels.len() > 240, "{} labels of 256 flows", labels.len());
        }
    }
    Ok(())
}

#[test]
fn padding_does_not_count_in_the_outer_length() -> Result<()> {
    let mut gateway = gateway(OUTSIDES[0])?;
    let packet = packet::tcp(CLIENT_V4, WEB_V4);
    let mut padded = packet.build().0;
    let unpadded_len = padded.len();
    padded.resize(60, 0xee);
    let outcome = gateway.run(&padded)?;
    let mut expected = expected(&packet, &outcome, BACKEND_V4, 0).0;
    expected.resize(expected.len() + 60 - unpadded_len, 0xee);
    assert_transmitted("padded", &outcome, &Frame(expected));
    Ok(())
}

#[test]
fn a_packet_just_fits_or_is_dropped_as_too_big() -> Result<()> {
    for outside in OUTSIDES {
        let mut gateway = gateway(outside)?;
        let room = MTU as usize - outside.1.overhead() - 40;
        let fits = packet::tcp(CLIENT_V4, WEB_V4).payload(&vec![1; room]);
        let outcome = gateway.run(&fits.build())?;
        assert_transmitted("fits", &outcome, &expected(&fits, &outcome, outside.0, 0));
        let exceeds = fits.payload(&vec![1; room + 1]).build();
        assert_eq!(gateway.run(&exceeds)?.verdict, Verdict::Drop);
        assert_eq!(gateway.counters.drops()?["too_big"], 1);
    }
    Ok(())
}
