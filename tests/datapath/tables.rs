//! Tables of packets: what comes in, under which configuration, and every byte of what goes out.
//!
//! Expected frames are made by the packet builder alone. The same packets go through every mix of
//! families, tunnels and VLAN tags.

mod answers;
mod forwarded;
mod passed;

use anyhow::Result;
use lb_common::address::Address;
use lb_common::backend::{BackendId, Encapsulation};
use lb_common::packet::{TCP, UDP};
use lb_common::pool::OnEmpty;
use lb_common::port::Port;
use lb_common::service::{LATER_FRAGMENTS, ServiceKey, detour};
use lb_common::settings::Settings;
use lb_tests::datapath::{Gateway, LOOPBACK, Verdict};
use lb_tests::packet::{self, Builder, Frame};
use lb_userspace::agent::plan::MapWrite;

use crate::setup::{GATEWAY_MAC, POOL, VIP_V4, VIP_V6, bare, mac, slot};

/// The fewest packets that the tables must hold together.
const CASES_MIN: usize = 2000;

/// VIPs with a UDP service that takes fragments.
const FRAGMENTS_V4: &str = "198.51.100.20";
const FRAGMENTS_V6: &str = "2001:db8:100::14";
/// The MSS to which the TCP services of port 81 lower, and the port of these.
const MSS: u16 = 1200;
const MSS_PORT: u16 = 81;
const TUNNEL_SOURCES: (&str, &str) = ("198.18.0.0", "100::");

/// VLAN tags of a frame, the outer one first: tag protocol and VLAN id.
type Tags = &'static [(u16, u16)];
/// No tag, one, two.
const TAGS_IN: [Tags; 3] = [&[], &[(0x8100, 7)], &[(0x88a8, 100), (0x8100, 8)]];
const TAGS_OUT: [Tags; 3] = [&[], &[(0x8100, 21)], &[(0x88a8, 200), (0x8100, 22)]];

/// How a backend is reached.
const WAYS: [(&str, Encapsulation); 3] = [
    ("10.0.1.11", Encapsulation::Ethernet),
    ("10.0.1.11", Encapsulation::Ipv4),
    ("2001:db8:1::11", Encapsulation::Ipv6),
];

/// One configuration.
#[derive(Clone, Copy)]
struct Setup {
    backend: (&'static str, Encapsulation),
    tags: Tags,
    mtu: u32,
    has_backend: bool,
}

struct Case {
    name: String,
    frame: Frame,
    expected: Expected,
}

enum Expected {
    /// Out of the port that it came in by, as this frame. What varies with the flow in an outer IPv6
    /// header, the flow label, is not compared.
    Sent(Frame),
    Passed,
    /// With this reason counted.
    Dropped(&'static str),
}

#[test]
fn every_packet_of_the_tables_becomes_what_stands_there() -> Result<()> {
    let mut cases = 0;
    for (setup, table) in forwarded::tables()
        .into_iter()
        .chain(answers::tables())
        .chain(passed::tables())
    {
        let mut gateway = setup.gateway()?;
        for case in &table {
            check(&mut gateway, case)?;
        }
        cases += table.len();
    }
    assert!(cases >= CASES_MIN, "the tables hold {cases} packets");
    Ok(())
}

fn check(gateway: &mut Gateway, case: &Case) -> Result<()> {
    let name = &case.name;
    let drops = gateway.counters.drops()?;
    let outcome = gateway.run(&case.frame)?;
    match &case.expected {
        Expected::Sent(expected) => {
            assert_eq!(outcome.verdict, Verdict::Transmit, "{name}");
            let expected = with_flow_label_of(&outcome.frame, expected);
            if let Some(difference) = packet::difference(&outcome.frame, &expected) {
                panic!("{name}:\n{difference}{:?}", outcome.frame);
            }
        }
        Expected::Passed => {
            assert_eq!(outcome.verdict, Verdict::Pass, "{name}");
            assert!(outcome.frame == case.frame, "{name}: {:?}", outcome.frame);
        }
        Expected::Dropped(reason) => {
            assert_eq!(outcome.verdict, Verdict::Drop, "{name}");
            for (counted, count) in gateway.counters.drops()? {
                let expected = drops[counted] + u64::from(counted == *reason);
                assert_eq!(count, expected, "{name}: {counted}");
            }
        }
    }
    Ok(())
}

/// `expected` with the 20 bits of the outermost IPv6 flow label as in `actual`, if both are IPv6 and
/// expected to carry a tunnel.
fn with_flow_label_of(actual: &Frame, expected: &Frame) -> Frame {
    const TUNNELLED: [u8; 2] = [4, 41];
    let (at, network) = (expected.network_offset(), expected.network());
    let mut patched = expected.clone();
    let is_tunnel = network[0] >> 4 == 6 && TUNNELLED.contains(&network[6]);
    if is_tunnel && actual.len() == expected.len() {
        patched.0[at + 1] = expected[at + 1] & 0xf0 | actual[at + 1] & 0x0f;
        patched.0[at + 2..at + 4].copy_from_slice(&actual[at + 2..at + 4]);
    }
    patched
}

impl Setup {
    const PLAIN: Self = Self {
        backend: WAYS[0],
        tags: &[],
        mtu: 1500,
        has_backend: true,
    };

    fn gateway(&self) -> Result<Gateway> {
        let mut gateway = bare()?;
        gateway.settings(Settings {
            tunnel_source_v4: Address::from(packet::Address::address(TUNNEL_SOURCES.0)),
            tunnel_source_v6: Address::from(packet::Address::address(TUNNEL_SOURCES.1)),
            tunnel_fill_v4: 0,
            tunnel_fill_v6: 0,
        });
        let ids: &[u16] = if self.has_backend { &[0] } else { &[] };
        gateway.pool(POOL.0, OnEmpty::Reset, vec![slot(ids)]);
        gateway.backend(0, POOL, self.backend.0, self.backend.1);
        for vip in [VIP_V4, VIP_V6] {
            gateway.service(vip.parse()?, 80, TCP, POOL);
            gateway.service(vip.parse()?, 53, UDP, POOL);
            gateway.service(vip.parse()?, MSS_PORT, TCP, POOL);
        }
        for service in &mut gateway.desired.services {
            if service.0.port == MSS_PORT.to_be_bytes() {
                service.1.mss = MSS;
            }
        }
        for vip in [FRAGMENTS_V4, FRAGMENTS_V6] {
            takes_fragments(&mut gateway, vip)?;
        }
        gateway.apply()?;
        let mut tags = [0; 2];
        for (tag, (protocol, id)) in tags.iter_mut().zip(self.tags) {
            *tag = u32::from(*protocol) << 16 | u32::from(*id);
        }
        gateway.datapath.apply(&MapWrite::Port {
            index: 0,
            port: Port {
                interface_index: LOOPBACK,
                mtu: self.mtu,
                mac: GATEWAY_MAC.0,
                pad: [0; 2],
                tags,
            },
        })?;
        if self.has_backend {
            gateway.up(BackendId(0), mac(0), 0);
        }
        Ok(gateway)
    }

    /// What `packet` (without tags) must leave as.
    fn sent(&self, packet: &Builder, class: u8) -> Frame {
        let outer = match self.backend.1 {
            Encapsulation::Ethernet => packet.clone(),
            Encapsulation::Ipv4 => tunnel(packet, TUNNEL_SOURCES.0, self.backend.0)
                .dont_fragment()
                .traffic_class(class),
            Encapsulation::Ipv6 => {
                tunnel(packet, TUNNEL_SOURCES.1, self.backend.0).traffic_class(class)
            }
        };
        tagged(outer.macs(GATEWAY_MAC, mac(0)), self.tags).build()
    }

    fn name(&self) -> String {
        format!("{:?}, {} tags out", self.backend.1, self.tags.len())
    }
}

fn takes_fragments(gateway: &mut Gateway, vip: &str) -> Result<()> {
    let vip = vip.parse()?;
    gateway.service(vip, 53, UDP, POOL);
    let key = ServiceKey {
        address: vip.into(),
        port: 53u16.to_be_bytes(),
        protocol: UDP,
        pad: 0,
    };
    let services = &mut gateway.desired.services;
    let mut service = services[&key];
    service.detours = detour::FRAGMENTS;
    services.insert(key, service);
    let later = ServiceKey {
        port: [0; 2],
        pad: LATER_FRAGMENTS,
        ..key
    };
    services.insert(later, service);
    Ok(())
}

fn tunnel(packet: &Builder, source: &str, destination: &str) -> Builder {
    packet.build().in_tunnel(source, destination).hop_limit(64)
}

/// The packet with these tags.
fn tagged(packet: Builder, tags: Tags) -> Builder {
    tags.iter().fold(packet, |packet, tag| match tag {
        (0x8100, id) => packet.vlan(*id),
        (_, id) => packet.service_vlan(*id),
    })
}
