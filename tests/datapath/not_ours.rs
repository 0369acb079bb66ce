//! What is not for a service leaves as it came (G6).

use anyhow::Result;
use lb_tests::packet::{
    self, AH, Builder, DESTINATION_OPTIONS, ESP, Frame, HOP_BY_HOP, NO_NEXT_HEADER, ROUTING, SYN,
};

use crate::setup::{
    CLIENT_V4, CLIENT_V6, DNS_V4, VIP_V4, VIP_V6, WEB_V4, WEB_V6, assert_passed, one_backend,
    served,
};

fn tcp4(to: &str) -> Builder {
    packet::tcp(CLIENT_V4, to).flags(SYN).payload(b"not ours")
}

#[test]
fn frames_for_others_pass() -> Result<()> {
    let mut gateway = one_backend()?;
    let arp = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 198, 51, 100,
        10,
    ];
    let cases: Vec<(&str, Builder)> = vec![
        ("ARP for the VIP", packet::not_ip(0x0806).payload(&arp)),
        ("LLDP", packet::not_ip(0x88cc).payload(&[2; 46])),
        ("MPLS", packet::not_ip(0x8847).payload(&[0x45; 60])),
        (
            "a length, not a type",
            packet::not_ip(46).payload(&[0x45; 46]),
        ),
        (
            "nothing behind the type of IPv4",
            packet::not_ip(0x0800).payload(&[]),
        ),
        (
            "nothing behind the type of IPv6",
            packet::not_ip(0x86dd).payload(&[]),
        ),
        (
            "tcp4 in three VLANs",
            tcp4(WEB_V4).service_vlan(7).vlan(8).vlan(9),
        ),
        (
            "tcp6 in three VLANs",
            packet::tcp(CLIENT_V6, WEB_V6).vlan(7).vlan(8).vlan(9),
        ),
        ("another address", tcp4("198.51.100.11:80")),
        (
            "another address, v6",
            packet::tcp(CLIENT_V6, "[2001:db8:100::b]:80"),
        ),
        (
            "the VIP's reflection in IPv6",
            packet::tcp(CLIENT_V6, "[::ffff:198.51.100.10]:80"),
        ),
        ("another port", tcp4("198.51.100.10:81")),
        ("the port's bytes swapped", tcp4("198.51.100.10:20480")),
        (
            "another port, v6",
            packet::tcp(CLIENT_V6, "[2001:db8:100::a]:81"),
        ),
        ("the other protocol", packet::udp(CLIENT_V4, WEB_V4)),
        ("the other protocol, back", packet::tcp(CLIENT_V4, DNS_V4)),
        ("from the VIP", packet::tcp(WEB_V4, CLIENT_V4)),
        (
            "a later fragment of GRE to the VIP",
            packet::ip("203.0.113.7", VIP_V4, 47)
                .fragment(1480, false)
                .payload(&[0; 64]),
        ),
        (
            "a later fragment of ESP to the VIP, v6",
            packet::ip("2001:db8:7::7", VIP_V6, ESP)
                .fragment(8, true)
                .payload(&[0; 64]),
        ),
        (
            "a later fragment of the other family's ICMP to the VIP",
            packet::ip("203.0.113.7", VIP_V4, 58)
                .fragment(1480, false)
                .payload(&[0; 64]),
        ),
        (
            "a later fragment of the other family's ICMP to the VIP, v6",
            packet::ip("2001:db8:7::7", VIP_V6, 1)
                .fragment(8, true)
                .payload(&[0; 64]),
        ),
        ("to everybody", packet::udp(CLIENT_V4, "255.255.255.255:53")),
        (
            "SCTP",
            packet::ip("203.0.113.7", VIP_V4, 132).payload(&[0; 32]),
        ),
        (
            "GRE",
            packet::ip("203.0.113.7", VIP_V4, 47).payload(&[0; 32]),
        ),
        (
            "IPv4 in IPv4",
            packet::ip("203.0.113.7", VIP_V4, 4).payload(&[0x45; 40]),
        ),
        (
            "protocol 0",
            packet::ip("203.0.113.7", VIP_V4, 0).payload(&[0; 32]),
        ),
        (
            "ICMP of the other family",
            packet::ip("203.0.113.7", VIP_V4, 58).payload(&[128; 16]),
        ),
        (
            "later fragment for another",
            packet::ip("203.0.113.7", "198.51.100.11", 6)
                .fragment(8, true)
                .payload(&[0; 24]),
        ),
        (
            "first fragment for another",
            tcp4("198.51.100.11:80").fragment(0, true),
        ),
        (
            "first fragment for another port",
            tcp4("198.51.100.10:81").fragment(0, true),
        ),
        (
            "later fragment for another, v6",
            packet::ip("2001:db8:7::7", "2001:db8:100::b", 6)
                .fragment(8, true)
                .payload(&[0; 24]),
        ),
        (
            "hop-by-hop options behind others",
            packet::tcp(CLIENT_V6, WEB_V6)
                .extension(DESTINATION_OPTIONS, &[])
                .extension(HOP_BY_HOP, &[]),
        ),
        (
            "a routing header with a segment left",
            packet::tcp(CLIENT_V6, WEB_V6).extension(ROUTING, &[0, 1]),
        ),
        (
            "seven extension headers",
            (0..7).fold(packet::tcp(CLIENT_V6, WEB_V6), |packet, _| {
                packet.extension(AH, &[0; 10])
            }),
        ),
        (
            "a later fragment behind six extension headers",
            (0..6)
                .fold(packet::ip("2001:db8:7::7", VIP_V6, 6), |packet, _| {
                    packet.extension(AH, &[0; 10])
                })
                .fragment(8, true)
                .payload(&[0; 24]),
        ),
        (
            "ESP",
            packet::ip("2001:db8:7::7", VIP_V6, ESP).payload(&[9; 40]),
        ),
        (
            "no next header",
            packet::ip("2001:db8:7::7", VIP_V6, NO_NEXT_HEADER).payload(&[]),
        ),
    ];
    for (name, packet) in cases {
        let frame = packet.build();
        assert_passed(name, &gateway.run(&frame)?, &frame);
    }
    assert!(gateway.counters.drops()?.values().all(|count| *count == 0));
    Ok(())
}

#[test]
fn a_frame_cut_at_any_byte_passes() -> Result<()> {
    /// BPF_PROG_TEST_RUN takes nothing shorter than an Ethernet header.
    const SHORTEST: usize = 14;
    let mut gateway = one_backend()?;
    let echoes = [
        ("echo4", packet::echo_request("203.0.113.7", VIP_V4, 1, 1)),
        ("echo6", packet::echo_request("2001:db8:7::7", VIP_V6, 1, 1)),
        (
            "fragment4",
            packet::udp(CLIENT_V4, DNS_V4).fragment(0, true),
        ),
        (
            "fragment6",
            packet::tcp(CLIENT_V6, WEB_V6).fragment(0, true),
        ),
        (
            "options4",
            packet::tcp(CLIENT_V4, WEB_V4).ip_options(&[1; 40]),
        ),
    ];
    for (name, packet) in served().into_iter().chain(echoes) {
        let frame = packet.build();
        for length in SHORTEST..frame.len() {
            let cut = frame.cut(length);
            assert_passed(
                &format!("{name} cut to {length}"),
                &gateway.run(&cut)?,
                &cut,
            );
        }
    }
    Ok(())
}

#[test]
fn headers_that_contradict_themselves_pass() -> Result<()> {
    let mut gateway = one_backend()?;
    let v4 = tcp4(WEB_V4).build();
    let v6 = packet::tcp(CLIENT_V6, WEB_V6).payload(b"six").build();
    let with = |frame: &Frame, at: usize, bytes: &[u8]| {
        let mut changed = frame.clone();
        changed.0[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let too_long = u16::try_from(v4.len() - 13)?.to_be_bytes();
    let too_long_v6 = u16::try_from(v6.len() - 53)?.to_be_bytes();
    for (name, frame) in [
        ("version 0", with(&v4, 14, &[0x05])),
        ("version 6 in the type of IPv4", with(&v4, 14, &[0x65])),
        ("version 4 in the type of IPv6", with(&v6, 14, &[0x45])),
        ("a header of 0 bytes", with(&v4, 14, &[0x40])),
        ("a header of 16 bytes", with(&v4, 14, &[0x44])),
        ("a header beyond the packet", with(&v4, 14, &[0x4f])),
        ("total length 0", with(&v4, 16, &[0, 0])),
        ("total length below the header", with(&v4, 16, &[0, 19])),
        ("total length without all of TCP", with(&v4, 16, &[0, 39])),
        ("total length beyond the frame", with(&v4, 16, &too_long)),
        ("total length far beyond", with(&v4, 16, &[0xff, 0xff])),
        ("payload length 0", with(&v6, 18, &[0, 0])),
        ("payload length without all of TCP", with(&v6, 18, &[0, 19])),
        (
            "payload length beyond the frame",
            with(&v6, 18, &too_long_v6),
        ),
        ("payload length far beyond", with(&v6, 18, &[0xff, 0xff])),
    ] {
        assert_passed(name, &gateway.run(&frame)?, &frame);
    }
    Ok(())
}
