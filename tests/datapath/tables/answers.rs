//! Packets that the program answers: back the way they came, with the tags that they came with.

use lb_tests::mac::Mac;
use lb_tests::packet::{self, ACK, Builder, DESTINATION_OPTIONS, RST, SYN};

use super::{Case, Expected, Setup, TAGS_IN, TAGS_OUT, WAYS, tagged};
use crate::setup::{CLIENT_V4, CLIENT_V6, DNS_V4, DNS_V6, VIP_V4, VIP_V6, WEB_V4, WEB_V6};

const HOST_V4: &str = "203.0.113.7";
const HOST_V6: &str = "2001:db8:7::7";

/// Back to where the builder's frames come from.
fn back(answer: Builder) -> Builder {
    let [client, gateway] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].map(Mac);
    answer.macs(gateway, client).hop_limit(64)
}

pub fn tables() -> Vec<(Setup, Vec<Case>)> {
    let mut tables = Vec::new();
    let without_backend = Setup {
        has_backend: false,
        tags: TAGS_OUT[1],
        ..Setup::PLAIN
    };
    for tags in TAGS_IN {
        let cases = empty().into_iter().chain(echoes());
        tables.push((without_backend, with_tags(cases, tags)));
    }
    for backend in WAYS {
        for tags in TAGS_IN {
            let setup = Setup {
                backend,
                mtu: 1400,
                tags: TAGS_OUT[2],
                ..Setup::PLAIN
            };
            let room = 1400 - backend.1.overhead() as u32;
            let dropped = silent(room).into_iter().map(move |(name, packet)| Case {
                name: format!("{name}, {}", setup.name()),
                frame: tagged(packet, tags).build(),
                expected: Expected::Dropped("too_big"),
            });
            let mut cases = with_tags(too_big(room).into_iter(), tags);
            cases.extend(dropped);
            tables.push((setup, cases));
        }
    }
    tables.push(narrow());
    tables
}

fn with_tags(
    cases: impl Iterator<Item = (&'static str, Builder, Builder)>,
    tags: super::Tags,
) -> Vec<Case> {
    cases
        .map(|(name, packet, answer)| Case {
            name: format!("{name}, {} tags", tags.len()),
            frame: tagged(packet, tags).build(),
            expected: Expected::Sent(tagged(back(answer), tags).build()),
        })
        .collect()
}

/// What is answered where no backend is left.
fn empty() -> Vec<(&'static str, Builder, Builder)> {
    let mut all = Vec::new();
    for (client, service) in [(CLIENT_V4, WEB_V4), (CLIENT_V6, WEB_V6)] {
        let segment = || packet::tcp(client, service).sequence(41);
        let answer = || {
            let answer = packet::tcp(service, client).window(0);
            if client == CLIENT_V4 {
                answer.dont_fragment()
            } else {
                answer
            }
        };
        all.push((
            "syn",
            segment().flags(SYN),
            answer().flags(RST | ACK).acknowledgement(42),
        ));
        all.push((
            "data",
            segment().acknowledgement(9).payload(&[1; 200]),
            answer().flags(RST).sequence(9),
        ));
    }
    let behind = packet::tcp(CLIENT_V6, WEB_V6)
        .flags(SYN)
        .extension(DESTINATION_OPTIONS, &[0; 30]);
    let answer = packet::tcp(WEB_V6, CLIENT_V6).flags(RST | ACK).window(0);
    all.push(("syn behind options", behind, answer.acknowledgement(1)));
    for length in [0, 3, 100, 900] {
        let v4 = packet::udp(CLIENT_V4, DNS_V4).payload(&vec![3; length]);
        let v6 = packet::udp(CLIENT_V6, DNS_V6).payload(&vec![3; length]);
        all.push(("datagram", v4.clone(), about_v4(&v4, 3, [0; 4])));
        all.push(("datagram, v6", v6.clone(), about_v6(&v6, 1, 4, [0; 4])));
    }
    all
}

fn echoes() -> Vec<(&'static str, Builder, Builder)> {
    let rest = [0x12, 0x34, 0, 7];
    let v4 = |kind, from, to| packet::icmp(from, to, kind, 0, rest).payload(&[9; 56]);
    vec![
        ("echo", v4(8, HOST_V4, VIP_V4), v4(0, VIP_V4, HOST_V4)),
        (
            "echo with options",
            v4(8, HOST_V4, VIP_V4).ip_options(&[1; 4]),
            v4(0, VIP_V4, HOST_V4).ip_options(&[1; 4]),
        ),
        (
            "echo, v6",
            v4(128, HOST_V6, VIP_V6),
            v4(129, VIP_V6, HOST_V6),
        ),
    ]
}

/// Packets one byte and more too long for `room`, and what their senders are told.
fn too_big(room: u32) -> Vec<(&'static str, Builder, Builder)> {
    let [_, _, high, low] = room.to_be_bytes();
    let payload = |headers: u32, over: u32| vec![0xbb; (room - headers + over) as usize];
    let tcp4 = |over| {
        packet::tcp(CLIENT_V4, WEB_V4)
            .dont_fragment()
            .payload(&payload(40, over))
    };
    let tcp6 = |over| packet::tcp(CLIENT_V6, WEB_V6).payload(&payload(60, over));
    let udp4 = packet::udp(CLIENT_V4, DNS_V4)
        .dont_fragment()
        .ip_options(&[1; 8])
        .payload(&payload(36, 7));
    let v4 = |packet: &Builder| about_v4(packet, 4, [0, 0, high, low]);
    let v6 = |packet: &Builder| about_v6(packet, 2, 0, room.to_be_bytes());
    vec![
        ("just too big", tcp4(1), v4(&tcp4(1))),
        ("full size", tcp4(100), v4(&tcp4(100))),
        ("options", udp4.clone(), v4(&udp4)),
        ("just too big, v6", tcp6(1), v6(&tcp6(1))),
        ("full size, v6", tcp6(100), v6(&tcp6(100))),
    ]
}

/// What is dropped without a word when it does not fit.
fn silent(room: u32) -> Vec<(&'static str, Builder)> {
    let long = |headers: u32| vec![0xbb; (room - headers + 1) as usize];
    let quoted = packet::tcp(WEB_V4, CLIENT_V4).payload(&long(40)).build();
    vec![
        (
            "may be fragmented",
            packet::tcp(CLIENT_V4, WEB_V4).payload(&long(40)),
        ),
        (
            "a long error",
            packet::icmp("192.0.2.254", VIP_V4, 11, 0, [0; 4])
                .dont_fragment()
                .payload(&quoted.network()[..(room - 27) as usize]),
        ),
        (
            "from everybody",
            packet::udp("255.255.255.255:9", DNS_V4)
                .dont_fragment()
                .payload(&long(28)),
        ),
        (
            "from nobody",
            packet::udp("[::]:9", DNS_V6).payload(&long(48)),
        ),
    ]
}

/// No IPv6 sender goes below 1,280 bytes, so only what is longer is worth a word.
fn narrow() -> (Setup, Vec<Case>) {
    let setup = Setup {
        backend: WAYS[2],
        mtu: 1300,
        ..Setup::PLAIN
    };
    let of = |length: usize| packet::udp(CLIENT_V6, DNS_V6).payload(&vec![1; length - 48]);
    let long = of(1281);
    let cases = vec![
        Case {
            name: "longer than any link carries".to_owned(),
            frame: long.build(),
            expected: Expected::Sent(back(about_v6(&long, 2, 0, 1280u32.to_be_bytes())).build()),
        },
        Case {
            name: "as long as every link carries".to_owned(),
            frame: of(1280).build(),
            expected: Expected::Dropped("too_big"),
        },
    ];
    (setup, cases)
}

/// An error quotes 512 bytes, or what there is in words of four.
fn quote(packet: &Builder) -> Vec<u8> {
    let frame = packet.build();
    let network = frame.network();
    network[..network.len().min(512) / 4 * 4].to_vec()
}

fn about_v4(packet: &Builder, code: u8, rest: [u8; 4]) -> Builder {
    packet::icmp(VIP_V4, HOST_V4, 3, code, rest)
        .dont_fragment()
        .payload(&quote(packet))
}

fn about_v6(packet: &Builder, kind: u8, code: u8, rest: [u8; 4]) -> Builder {
    packet::icmp(VIP_V6, HOST_V6, kind, code, rest).payload(&quote(packet))
}
