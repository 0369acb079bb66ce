//! Who has which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// How many primaries, and how many standbys, the address plan has room for.
pub const BACKENDS_MAX: u8 = 90;
/// How many VIPs of each family the address plan has room for.
pub const VIPS_MAX: u8 = 200;
/// How many clients the address plan has room for.
pub(super) const CLIENTS_MAX: u8 = 200;
/// The port that servers of a site listen on, HTTP and UDP.
pub const WEB_PORT: u16 = 80;
/// The port at which servers answer on plain TCP connections, if they do.
pub const TALK_PORT: u16 = 7;

/// One host's addresses on one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub v4: Ipv4Net,
    pub v6: Ipv6Net,
}

const fn pair(third: [u8; 3], segment: [u16; 2], host: u8) -> Pair {
    let [a, b, c] = third;
    let [d, e] = segment;
    Pair {
        v4: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, host), 24),
        v6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, d, e, 0, 0, 0, 0, host as u16), 64),
    }
}

/// 10.10.n.0/24 and fd00:10:n::/64: a client's own segment; the router is host 1, the client 10.
pub(super) const fn client_segment(number: u8, host: u8) -> Pair {
    pair([10, 10, number], [0x10, number as u16], host)
}

/// 10.20.0.0/24 and fd00:20::/64: between router (host 1) and a gateway with two NICs (host 2).
pub(super) const fn front(host: u8) -> Pair {
    pair([10, 20, 0], [0x20, 0], host)
}

/// 10.0.1.0/24 and fd00:1::/64: router is host 1, gateway 2, primaries 11 …, standbys 101 ….
pub(super) const fn fabric(host: u8) -> Pair {
    pair([10, 0, 1], [1, 0], host)
}

/// The bridge in the fabric's namespace.
pub(super) const BRIDGE: &str = "br0";
/// Host number of the router on every segment.
pub(super) const ROUTER: u8 = 1;
/// Host number of the gateway.
pub(super) const GATEWAY: u8 = 2;
/// Host number of a client on its segment.
pub(super) const CLIENT: u8 = 10;
/// Host number of the first primary.
pub(super) const PRIMARIES: u8 = 11;
/// Host number of the first standby.
pub(super) const STANDBYS: u8 = 101;

/// 198.51.100.10 … (a documentation range; in no segment).
pub(super) fn vip_v4(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10 + number))
}

/// 2001:db8:100::a … (a documentation range; in no segment).
pub(super) fn vip_v6(number: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(
        0x2001,
        0xdb8,
        0x100,
        0,
        0,
        0,
        0,
        10 + u16::from(number),
    ))
}

/// A single address as a network of its own.
pub(super) fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
