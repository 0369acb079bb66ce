//! Packets that reach their backend: nothing of them changes but an MSS that is too large.

use lb_tests::packet::{
    self, ACK, AH, Builder, DESTINATION_OPTIONS, FIN, HOP_BY_HOP, PSH, ROUTING, RST, SYN, URG,
};

use super::{
    Case, Expected, FRAGMENTS_V4, FRAGMENTS_V6, MSS, Setup, TAGS_IN, TAGS_OUT, WAYS, tagged,
};
use crate::setup::{CLIENT_V4, CLIENT_V6, DNS_V4, DNS_V6, VIP_V4, VIP_V6, WEB_V4, WEB_V6};

const MSS_V4: &str = "198.51.100.10:81";
const MSS_V6: &str = "[2001:db8:100::a]:81";
const ROUTER_V4: &str = "192.0.2.254";
const ROUTER_V6: &str = "2001:db8:fe::1";
/// DSCP 46 and ECN 2.
const CLASS: u8 = 0xba;

/// A packet as it comes and as its backend must get it.
struct Passage {
    name: &'static str,
    came: Builder,
    gets: Builder,
}

/// Every passage, through every tunnel, with every number of tags before and after.
pub fn tables() -> Vec<(Setup, Vec<Case>)> {
    let mut tables = Vec::new();
    for backend in WAYS {
        for tags in TAGS_OUT {
            let setup = Setup {
                backend,
                tags,
                ..Setup::PLAIN
            };
            let cases = TAGS_IN.into_iter().flat_map(|tags_in| {
                let case = move |passage: Passage| Case {
                    name: format!(
                        "{}, {} tags in, {}",
                        passage.name,
                        tags_in.len(),
                        setup.name()
                    ),
                    frame: tagged(passage.came.traffic_class(CLASS).hop_limit(7), tags_in).build(),
                    expected: Expected::Sent(
                        setup.sent(&passage.gets.traffic_class(CLASS).hop_limit(7), CLASS),
                    ),
                };
                passages().into_iter().map(case)
            });
            tables.push((setup, cases.collect()));
        }
    }
    tables
}

fn passages() -> Vec<Passage> {
    let same = |(name, packet): (&'static str, Builder)| Passage {
        name,
        gets: packet.clone(),
        came: packet,
    };
    let mut all: Vec<Passage> = segments().into_iter().map(same).collect();
    all.extend(headers().into_iter().map(same));
    all.extend(errors().into_iter().map(same));
    all.extend(fragments().into_iter().map(same));
    all.extend(lowered());
    all
}

fn segments() -> Vec<(&'static str, Builder)> {
    let mut all = Vec::new();
    for (client, web, dns) in [(CLIENT_V4, WEB_V4, DNS_V4), (CLIENT_V6, WEB_V6, DNS_V6)] {
        let tcp = |flags| packet::tcp(client, web).flags(flags).sequence(0xfedc_ba98);
        all.extend([
            ("syn", tcp(SYN).tcp_options(&[2, 4, 5, 180])),
            ("data", tcp(ACK | PSH).payload(&[0xd0; 700])),
            ("fin", tcp(FIN | ACK)),
            ("reset", tcp(RST)),
            ("urgent", tcp(ACK | URG).payload(&[1])),
            ("datagram", packet::udp(client, dns).payload(&[3; 33])),
            ("empty datagram", packet::udp(client, dns)),
        ]);
    }
    all
}

fn headers() -> Vec<(&'static str, Builder)> {
    let v6 = || packet::tcp(CLIENT_V6, WEB_V6).payload(b"behind");
    vec![
        (
            "options",
            packet::tcp(CLIENT_V4, WEB_V4).ip_options(&[148, 4, 0, 0]),
        ),
        (
            "most options",
            packet::udp(CLIENT_V4, DNS_V4).ip_options(&[1; 40]),
        ),
        ("hop-by-hop", v6().extension(HOP_BY_HOP, &[5, 2, 0, 0])),
        (
            "long destination options",
            v6().extension(DESTINATION_OPTIONS, &[0; 600]),
        ),
        (
            "a routing header at its end",
            v6().extension(ROUTING, &[4, 0]),
        ),
        ("authentication", v6().extension(AH, &[0; 22])),
        (
            "five extension headers",
            v6().extension(HOP_BY_HOP, &[])
                .extension(DESTINATION_OPTIONS, &[])
                .extension(ROUTING, &[])
                .extension(AH, &[0; 22])
                .extension(DESTINATION_OPTIONS, &[]),
        ),
        ("the only fragment", v6().fragment(0, false)),
    ]
}

/// Errors that routers and clients send about packets of a backend.
fn errors() -> Vec<(&'static str, Builder)> {
    let about = |quoted: Builder, length: usize| {
        let packet = quoted.payload(&[0xa5; 600]).build();
        packet.network()[..length].to_vec()
    };
    let v4 = |kind, code, rest, quote: Vec<u8>| {
        packet::icmp(ROUTER_V4, VIP_V4, kind, code, rest).payload(&quote)
    };
    let v6 = |kind, code, rest, quote: Vec<u8>| {
        packet::icmp(ROUTER_V6, VIP_V6, kind, code, rest).payload(&quote)
    };
    let tcp4 = || packet::tcp(WEB_V4, CLIENT_V4);
    let tcp6 = || packet::tcp(WEB_V6, CLIENT_V6);
    vec![
        (
            "fragmentation needed",
            v4(3, 4, [0, 0, 5, 0], about(tcp4(), 28)),
        ),
        ("host unreachable", v4(3, 1, [0; 4], about(tcp4(), 548))),
        ("source quench", v4(4, 0, [0; 4], about(tcp4(), 28))),
        (
            "port unreachable",
            v4(3, 3, [0; 4], about(packet::udp(DNS_V4, CLIENT_V4), 28)),
        ),
        (
            "time exceeded, options quoted",
            v4(11, 0, [0; 4], about(tcp4().ip_options(&[1; 12]), 40)),
        ),
        (
            "parameter problem",
            v4(12, 0, [20, 0, 0, 0], about(tcp4(), 40)).ip_options(&[1; 4]),
        ),
        ("too big", v6(2, 0, [0, 0, 5, 0], about(tcp6(), 48))),
        ("no route", v6(1, 0, [0; 4], about(tcp6(), 640))),
        (
            "time exceeded",
            v6(3, 0, [0; 4], about(packet::udp(DNS_V6, CLIENT_V6), 48)),
        ),
        (
            "parameter problem, extension headers in both",
            v6(
                4,
                1,
                [0, 0, 0, 40],
                about(tcp6().extension(DESTINATION_OPTIONS, &[]), 56),
            )
            .extension(HOP_BY_HOP, &[5, 2, 0, 0]),
        ),
    ]
}

fn fragments() -> Vec<(&'static str, Builder)> {
    let (dns4, dns6) = (format!("{FRAGMENTS_V4}:53"), format!("[{FRAGMENTS_V6}]:53"));
    let later4 = || packet::ip("203.0.113.7", FRAGMENTS_V4, 17).payload(&[4; 64]);
    let later6 = || packet::ip("2001:db8:7::7", FRAGMENTS_V6, 17).payload(&[6; 64]);
    vec![
        (
            "first fragment",
            packet::udp(CLIENT_V4, dns4.as_str())
                .fragment(0, true)
                .payload(&[4; 64]),
        ),
        ("middle fragment", later4().fragment(72, true)),
        ("last fragment", later4().fragment(1480, false)),
        ("whole", packet::udp(CLIENT_V4, dns4.as_str())),
        (
            "first fragment, v6",
            packet::udp(CLIENT_V6, dns6.as_str())
                .fragment(0, true)
                .payload(&[6; 64]),
        ),
        ("last fragment, v6", later6().fragment(1448, false)),
        (
            "last fragment behind hop-by-hop options",
            later6().extension(HOP_BY_HOP, &[]).fragment(1448, false),
        ),
    ]
}

/// SYNs whose MSS is lowered, and what must not be taken for one.
fn lowered() -> Vec<Passage> {
    let mss = |value: u16| {
        let [high, low] = value.to_be_bytes();
        [2, 4, high, low]
    };
    let mut all = Vec::new();
    for (client, service) in [(CLIENT_V4, MSS_V4), (CLIENT_V6, MSS_V6)] {
        let with = |flags, before: &[u8], option: [u8; 4], after: &[u8]| {
            packet::tcp(client, service)
                .flags(flags)
                .sequence(77)
                .tcp_options(&[before, &option, after].concat())
        };
        let sack = [4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        for (name, flags, before, announced, gets) in [
            ("mss alone", SYN, &[][..], 1460, MSS),
            ("mss of a jumbo frame", SYN, &[], 8960, MSS),
            ("largest mss", SYN, &[], 0xffff, MSS),
            ("mss at an odd byte", SYN, &[1], 1460, MSS),
            ("mss behind others", SYN, &[3, 3, 7, 1, 4, 2], 1461, MSS),
            ("mss behind three bytes", SYN, &[3, 3, 7], 1460, MSS),
            ("mss just right", SYN, &[], MSS, MSS),
            ("mss below", SYN, &[], 536, 536),
            ("mss in a segment that opens nothing", ACK, &[], 1460, 1460),
            ("mss behind the end of options", SYN, &[0], 1460, 1460),
            (
                "mss behind an option of no length",
                SYN,
                &[9, 0],
                1460,
                1460,
            ),
            ("mss behind an option too long", SYN, &[9, 60], 1460, 1460),
        ] {
            all.push(Passage {
                name,
                came: with(flags, before, mss(announced), &sack),
                gets: with(flags, before, mss(gets), &sack),
            });
        }
        all.push(Passage {
            name: "no options",
            came: packet::tcp(client, service).flags(SYN),
            gets: packet::tcp(client, service).flags(SYN),
        });
    }
    all
}
