//! Packets that are not ours after all: cut off, contradictory, about flows that nobody has; and
//! fragments for services that take none.

use lb_tests::packet::{self, AH, Builder, DESTINATION_OPTIONS, Frame, HOP_BY_HOP, ROUTING};

use super::{Case, Expected, FRAGMENTS_V4, FRAGMENTS_V6, Setup, TAGS_IN, tagged};
use crate::setup::{CLIENT_V4, CLIENT_V6, DNS_V4, VIP_V4, VIP_V6, WEB_V4, WEB_V6};

const ROUTER_V4: &str = "192.0.2.254";
const ROUTER_V6: &str = "2001:db8:fe::1";

pub fn tables() -> Vec<(Setup, Vec<Case>)> {
    let mut cases = cut();
    cases.extend(malformed());
    cases.extend(fragments());
    vec![(Setup::PLAIN, cases)]
}

/// BPF_PROG_TEST_RUN takes nothing shorter than an Ethernet header.
const SHORTEST: usize = 14;

/// Every kind of header, cut at every byte.
fn cut() -> Vec<Case> {
    let whole = [
        (
            "two tags",
            tagged(packet::tcp(CLIENT_V4, WEB_V4), TAGS_IN[2]),
        ),
        (
            "extension headers",
            packet::tcp(CLIENT_V6, WEB_V6)
                .extension(HOP_BY_HOP, &[])
                .extension(ROUTING, &[])
                .extension(AH, &[0; 22])
                .extension(DESTINATION_OPTIONS, &[]),
        ),
        ("error", error_v4(packet::tcp(WEB_V4, CLIENT_V4))),
        ("error, v6", error_v6(packet::tcp(WEB_V6, CLIENT_V6))),
        (
            "fragment",
            packet::ip("2001:db8:7::7", FRAGMENTS_V6, 17)
                .extension(HOP_BY_HOP, &[])
                .fragment(8, false)
                .payload(&[1; 9]),
        ),
    ];
    let cut = |(name, packet): (&str, Builder)| {
        let frame = packet.build();
        (SHORTEST..frame.len())
            .map(|length| passed(format!("{name} cut to {length}"), frame.cut(length)))
            .collect::<Vec<_>>()
    };
    whole.into_iter().flat_map(cut).collect()
}

fn error_v4(quoted: Builder) -> Builder {
    packet::icmp(ROUTER_V4, VIP_V4, 3, 4, [0, 0, 5, 0]).payload(&quoted.build().network()[..28])
}

fn error_v6(quoted: Builder) -> Builder {
    packet::icmp(ROUTER_V6, VIP_V6, 2, 0, [0, 0, 5, 0]).payload(&quoted.build().network()[..48])
}

fn malformed() -> Vec<Case> {
    const QUOTE_V4: usize = 14 + 20 + 8;
    const QUOTE_V6: usize = 14 + 40 + 8;
    let v4 = error_v4(packet::tcp(WEB_V4, CLIENT_V4)).build();
    let v6 = error_v6(packet::tcp(WEB_V6, CLIENT_V6)).build();
    let with = |frame: &Frame, at: usize, bytes: &[u8]| {
        let mut changed = frame.clone();
        changed.0[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let mut cases: Vec<(&str, Frame)> = vec![
        ("quoted version 6", with(&v4, QUOTE_V4, &[0x65])),
        ("quoted header of 16 bytes", with(&v4, QUOTE_V4, &[0x44])),
        ("quoted header too long", with(&v4, QUOTE_V4, &[0x46])),
        ("quoted later fragment", with(&v4, QUOTE_V4 + 6, &[0, 1])),
        ("quoted ICMP", with(&v4, QUOTE_V4 + 9, &[1])),
        ("quoted from another", with(&v4, QUOTE_V4 + 15, &[11])),
        (
            "quoted port of no service",
            with(&v4, QUOTE_V4 + 20, &[0, 99]),
        ),
        ("redirect", with(&v4, 34, &[5])),
        ("echo reply", with(&v4, 34, &[0])),
        ("quoted version 4", with(&v6, QUOTE_V6, &[0x45])),
        ("quoted ICMPv6", with(&v6, QUOTE_V6 + 6, &[58])),
        ("quoted from another, v6", with(&v6, QUOTE_V6 + 23, &[11])),
        (
            "quoted port of no service, v6",
            with(&v6, QUOTE_V6 + 40, &[0, 99]),
        ),
        (
            "quoted extension header cut",
            with(&v6, QUOTE_V6 + 6, &[60]),
        ),
        ("private error", with(&v6, 54, &[100])),
        ("neighbour advertisement", with(&v6, 54, &[136])),
    ];
    let tagged_arp = packet::not_ip(0x0806).vlan(7).payload(&[1; 46]).build();
    cases.push(("ARP in a VLAN", tagged_arp));
    let other = packet::tcp(CLIENT_V4, "198.51.100.11:80").vlan(7).build();
    cases.push(("another address in a VLAN", other));
    let too_long = packet::tcp(CLIENT_V6, WEB_V6)
        .extension(HOP_BY_HOP, &[])
        .build();
    cases.push((
        "extension header beyond the packet",
        with(&too_long, 55, &[9]),
    ));
    let esp = packet::ip("2001:db8:7::7", VIP_V6, 50).extension(HOP_BY_HOP, &[]);
    cases.push(("ESP behind options", esp.payload(&[9; 40]).build()));
    cases
        .into_iter()
        .map(|(name, frame)| passed(name.to_owned(), frame))
        .collect()
}

fn fragments() -> Vec<Case> {
    let dropped = |name: &str, packet: Builder, tags| Case {
        name: name.to_owned(),
        frame: tagged(packet, tags).build(),
        expected: Expected::Dropped("fragment"),
    };
    let later = |to: &str| packet::ip("203.0.113.7", to, 17).fragment(1480, false);
    let error = error_v4(packet::tcp(WEB_V4, CLIENT_V4));
    let mut all = Vec::new();
    for tags in TAGS_IN {
        all.extend([
            dropped(
                "first",
                packet::udp(CLIENT_V4, DNS_V4).fragment(0, true),
                tags,
            ),
            dropped("later", later(VIP_V4).payload(&[0; 64]), tags),
            dropped("of an error", error.clone().fragment(0, true), tags),
            dropped(
                "of tcp where udp is served",
                packet::tcp(CLIENT_V6, WEB_V6).fragment(0, true),
                tags,
            ),
        ]);
    }
    let tcp = packet::ip("203.0.113.7", FRAGMENTS_V4, 6).fragment(1480, false);
    all.push(passed(
        "of a protocol without service".to_owned(),
        tcp.build(),
    ));
    all
}

fn passed(name: String, frame: Frame) -> Case {
    Case {
        name,
        frame,
        expected: Expected::Passed,
    }
}
