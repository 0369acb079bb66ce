//! Builds frames, right unless told otherwise.

use std::net::{IpAddr, SocketAddr};

use super::checksum;
use super::{Address, Endpoint, Frame};
use crate::mac::Mac;

/// TCP flag: no more data.
pub const FIN: u8 = 0x01;
/// TCP flag: begin.
pub const SYN: u8 = 0x02;
/// TCP flag: reset.
pub const RST: u8 = 0x04;
/// TCP flag: push.
pub const PSH: u8 = 0x08;
/// TCP flag: the acknowledgement number counts.
pub const ACK: u8 = 0x10;
/// TCP flag: the urgent pointer counts.
pub const URG: u8 = 0x20;

/// IPv6 extension header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// IPv6 extension header: routing.
pub const ROUTING: u8 = 43;
/// IPv6 extension header: encapsulating security payload (opaque: nothing behind it can be read).
pub const ESP: u8 = 50;
/// IPv6 extension header: authentication.
pub const AH: u8 = 51;
/// IPv6: nothing follows.
pub const NO_NEXT_HEADER: u8 = 59;
/// IPv6 extension header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

const FRAGMENT: u8 = 44;
const IPIP: u8 = 4;
const IPV6: u8 = 41;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A frame in the making.
#[derive(Clone, Debug)]
pub struct Builder {
    source_mac: Mac,
    destination_mac: Mac,
    /// Tag protocol and tag control, outermost first.
    vlans: Vec<(u16, u16)>,
    network: Network,
    transport: Transport,
    payload: Vec<u8>,
    checksum: Checksum,
}

#[derive(Clone, Debug)]
enum Network {
    Ip(Ip),
    Other { ether_type: u16 },
}

#[derive(Clone, Debug)]
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    traffic_class: u8,
    id: u32,
    flow_label: u32,
    dont_fragment: bool,
    fragment: Option<Fragment>,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    has_wrong_checksum: bool,
}

#[derive(Clone, Copy, Debug)]
struct Fragment {
    offset: u16,
    more: bool,
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp(Tcp),
    Udp { source: u16, destination: u16 },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Raw { protocol: u8 },
}

#[derive(Clone, Debug)]
struct Tcp {
    source: u16,
    destination: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Checksum {
    Right,
    Wrong,
    Absent,
}

/// A TCP segment, ACK set.
pub fn tcp(source: impl Endpoint, destination: impl Endpoint) -> Builder {
    let (source, destination) = (source.endpoint(), destination.endpoint());
    let tcp = Tcp {
        source: source.port(),
        destination: destination.port(),
        sequence: 0,
        acknowledgement: 0,
        flags: ACK,
        window: 0xffff,
        options: Vec::new(),
    };
    between(source, destination, Transport::Tcp(tcp))
}

/// A UDP datagram.
pub fn udp(source: impl Endpoint, destination: impl Endpoint) -> Builder {
    let (source, destination) = (source.endpoint(), destination.endpoint());
    let udp = Transport::Udp {
        source: source.port(),
        destination: destination.port(),
    };
    between(source, destination, udp)
}

/// An ICMP or ICMPv6 message; `rest` are the four bytes behind the checksum.
pub fn icmp(
    source: impl Address,
    destination: impl Address,
    kind: u8,
    code: u8,
    rest: [u8; 4],
) -> Builder {
    let icmp = Transport::Icmp { kind, code, rest };
    Builder::new(
        Network::Ip(Ip::new(source.address(), destination.address())),
        icmp,
    )
}

/// An echo request, ICMP or ICMPv6.
pub fn echo_request(
    source: impl Address,
    destination: impl Address,
    id: u16,
    sequence: u16,
) -> Builder {
    let (source, destination) = (source.address(), destination.address());
    let kind = if source.is_ipv4() { 8 } else { 128 };
    let [a, b] = id.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    icmp(source, destination, kind, 0, [a, b, c, d])
}

/// An IP packet of any protocol; the payload is all that follows the IP header.
pub fn ip(source: impl Address, destination: impl Address, protocol: u8) -> Builder {
    let ip = Ip::new(source.address(), destination.address());
    Builder::new(Network::Ip(ip), Transport::Raw { protocol })
}

/// A frame of another Ethernet type; the payload is all that follows.
pub fn not_ip(ether_type: u16) -> Builder {
    Builder::new(
        Network::Other { ether_type },
        Transport::Raw { protocol: 0 },
    )
}

pub(super) fn tunnel(inner: &Frame, source: IpAddr, destination: IpAddr) -> Builder {
    let protocol = if inner.network().first().is_some_and(|byte| byte >> 4 == 6) {
        IPV6
    } else {
        IPIP
    };
    let mut outer = ip(source, destination, protocol).payload(inner.network());
    let mac = |at: usize| {
        inner
            .get(at..)
            .and_then(|bytes| bytes.first_chunk())
            .copied()
            .map(Mac)
    };
    outer.destination_mac = mac(0).unwrap_or(outer.destination_mac);
    outer.source_mac = mac(6).unwrap_or(outer.source_mac);
    let tags = inner
        .get(12..inner.network_offset() - 2)
        .unwrap_or_default()
        .chunks_exact(4);
    outer.vlans = tags
        .map(|tag| {
            (
                u16::from_be_bytes([tag[0], tag[1]]),
                u16::from_be_bytes([tag[2], tag[3]]),
            )
        })
        .collect();
    outer
}

fn between(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Builder {
    Builder::new(
        Network::Ip(Ip::new(source.ip(), destination.ip())),
        transport,
    )
}

impl Ip {
    fn new(source: IpAddr, destination: IpAddr) -> Ip {
        assert_eq!(
            source.is_ipv4(),
            destination.is_ipv4(),
            "{source} and {destination}: mixed"
        );
        Ip {
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            id: 0,
            flow_label: 0,
            dont_fragment: false,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            has_wrong_checksum: false,
        }
    }
}

impl Builder {
    fn new(network: Network, transport: Transport) -> Builder {
        Builder {
            source_mac: Mac([0x02, 0, 0, 0, 0, 0x01]),
            destination_mac: Mac([0x02, 0, 0, 0, 0, 0x02]),
            vlans: Vec::new(),
            network,
            transport,
            payload: Vec::new(),
            checksum: Checksum::Right,
        }
    }

    fn ip(mut self, change: impl FnOnce(&mut Ip)) -> Builder {
        match &mut self.network {
            Network::Ip(ip) => change(ip),
            Network::Other { ether_type } => panic!("a frame of type {ether_type:#06x} is not IP"),
        }
        self
    }

    fn tcp(mut self, change: impl FnOnce(&mut Tcp)) -> Builder {
        match &mut self.transport {
            Transport::Tcp(tcp) => change(tcp),
            other => panic!("{other:?} is not TCP"),
        }
        self
    }

    /// Sets both MAC addresses.
    #[must_use]
    pub fn macs(mut self, source: Mac, destination: Mac) -> Builder {
        (self.source_mac, self.destination_mac) = (source, destination);
        self
    }

    /// Adds a VLAN tag (802.1Q) inside those already there.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Builder {
        self.vlans.push((0x8100, id & 0x0fff));
        self
    }

    /// Adds a service VLAN tag (802.1ad) inside those already there.
    #[must_use]
    pub fn service_vlan(mut self, id: u16) -> Builder {
        self.vlans.push((0x88a8, id & 0x0fff));
        self
    }

    /// Sets IPv4 time to live, IPv6 hop limit.
    #[must_use]
    pub fn hop_limit(self, hops: u8) -> Builder {
        self.ip(|ip| ip.hop_limit = hops)
    }

    /// Sets IPv4 type of service, IPv6 traffic class (DSCP and ECN).
    #[must_use]
    pub fn traffic_class(self, class: u8) -> Builder {
        self.ip(|ip| ip.traffic_class = class)
    }

    /// Sets the identification of IPv4, or of IPv6's fragment header.
    #[must_use]
    pub fn id(self, id: u32) -> Builder {
        self.ip(|ip| ip.id = id)
    }

    /// Sets the flow label (IPv6).
    #[must_use]
    pub fn flow_label(self, label: u32) -> Builder {
        self.ip(|ip| ip.flow_label = label & 0x000f_ffff)
    }

    /// Sets "don't fragment" (IPv4).
    #[must_use]
    pub fn dont_fragment(self) -> Builder {
        self.ip(|ip| ip.dont_fragment = true)
    }

    /// Makes it a fragment at `offset` bytes (a multiple of 8), with `more` to follow. A fragment
    /// behind the first is best made with [`ip`]: it has no transport header.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Builder {
        assert_eq!(offset % 8, 0, "fragment offsets count in units of 8 bytes");
        self.ip(|ip| ip.fragment = Some(Fragment { offset, more }))
    }

    /// Adds IPv4 options, padded with "end of options" to 4 bytes.
    #[must_use]
    pub fn ip_options(self, options: &[u8]) -> Builder {
        self.ip(|ip| {
            ip.options.extend(options);
            ip.options.resize(ip.options.len().next_multiple_of(4), 0);
            assert!(ip.options.len() <= 40, "at most 40 bytes of IPv4 options");
        })
    }

    /// Adds an IPv6 extension header inside those already there; `body` (what follows "next
    /// header" and length) is padded to the header's unit.
    #[must_use]
    pub fn extension(self, kind: u8, body: &[u8]) -> Builder {
        self.ip(|ip| {
            assert!(ip.destination.is_ipv6(), "extension headers are IPv6's");
            ip.extensions.push((kind, body.to_vec()));
        })
    }

    /// Makes the IPv4 header checksum wrong.
    #[must_use]
    pub fn wrong_ip_checksum(self) -> Builder {
        self.ip(|ip| ip.has_wrong_checksum = true)
    }

    /// Sets the TCP flags, all at once.
    #[must_use]
    pub fn flags(self, flags: u8) -> Builder {
        self.tcp(|tcp| tcp.flags = flags)
    }

    /// Sets the TCP sequence number.
    #[must_use]
    pub fn sequence(self, number: u32) -> Builder {
        self.tcp(|tcp| tcp.sequence = number)
    }

    /// Sets the TCP acknowledgement number.
    #[must_use]
    pub fn acknowledgement(self, number: u32) -> Builder {
        self.tcp(|tcp| tcp.acknowledgement = number)
    }

    /// Sets the TCP window.
    #[must_use]
    pub fn window(self, window: u16) -> Builder {
        self.tcp(|tcp| tcp.window = window)
    }

    /// Adds TCP options, padded with "end of options" to 4 bytes.
    #[must_use]
    pub fn tcp_options(self, options: &[u8]) -> Builder {
        self.tcp(|tcp| {
            tcp.options.extend(options);
            tcp.options.resize(tcp.options.len().next_multiple_of(4), 0);
            assert!(tcp.options.len() <= 40, "at most 40 bytes of TCP options");
        })
    }

    /// Makes the transport checksum wrong.
    #[must_use]
    pub fn wrong_checksum(mut self) -> Builder {
        self.checksum = Checksum::Wrong;
        self
    }

    /// Sends the transport checksum as zero: for UDP over IPv4, "not computed".
    #[must_use]
    pub fn without_checksum(mut self) -> Builder {
        self.checksum = Checksum::Absent;
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Builder {
        self.payload = payload.to_vec();
        self
    }

    /// The frame.
    pub fn build(&self) -> Frame {
        let mut frame = [self.destination_mac.0, self.source_mac.0].concat();
        for (protocol, control) in &self.vlans {
            frame.extend(protocol.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        match &self.network {
            Network::Other { ether_type } => {
                frame.extend(ether_type.to_be_bytes());
                frame.extend(&self.payload);
            }
            Network::Ip(ip) => {
                let segment = self.segment(ip);
                let protocol = self.protocol(ip);
                if ip.destination.is_ipv4() {
                    frame.extend(0x0800_u16.to_be_bytes());
                    frame.extend(ip.v4_header(protocol, segment.len()));
                } else {
                    frame.extend(0x86dd_u16.to_be_bytes());
                    frame.extend(ip.v6_headers(protocol, segment.len()));
                }
                frame.extend(segment);
            }
        }
        Frame(frame)
    }

    fn protocol(&self, ip: &Ip) -> u8 {
        match &self.transport {
            Transport::Tcp(_) => TCP,
            Transport::Udp { .. } => UDP,
            Transport::Icmp { .. } if ip.destination.is_ipv4() => ICMP,
            Transport::Icmp { .. } => ICMPV6,
            Transport::Raw { protocol } => *protocol,
        }
    }

    /// Transport header and payload.
    fn segment(&self, ip: &Ip) -> Vec<u8> {
        let mut segment = match &self.transport {
            Transport::Tcp(tcp) => tcp.header(),
            Transport::Udp {
                source,
                destination,
            } => {
                let length = length_field(8 + self.payload.len());
                [
                    source.to_be_bytes(),
                    destination.to_be_bytes(),
                    length,
                    [0, 0],
                ]
                .concat()
            }
            Transport::Icmp { kind, code, rest } => [&[*kind, *code, 0, 0], &rest[..]].concat(),
            Transport::Raw { .. } => Vec::new(),
        };
        segment.extend(&self.payload);
        let at = match self.transport {
            Transport::Tcp(_) => 16,
            Transport::Udp { .. } => 6,
            Transport::Icmp { .. } => 2,
            Transport::Raw { .. } => return segment,
        };
        let sum = match self.protocol(ip) {
            ICMP => checksum::internet(&segment),
            protocol => checksum::transport(ip.source, ip.destination, protocol, &segment),
        };
        // UDP writes a computed zero as ffff: zero says "not computed" (RFC 768).
        let is_udp = matches!(self.transport, Transport::Udp { .. });
        let sum = if is_udp && sum == 0 { 0xffff } else { sum };
        let sum = match self.checksum {
            Checksum::Right => sum,
            Checksum::Wrong => sum ^ 0x0101,
            Checksum::Absent => 0,
        };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }
}

impl Tcp {
    fn header(&self) -> Vec<u8> {
        let words = (20 + self.options.len()) / 4;
        let mut header = Vec::new();
        header.extend(self.source.to_be_bytes());
        header.extend(self.destination.to_be_bytes());
        header.extend(self.sequence.to_be_bytes());
        header.extend(self.acknowledgement.to_be_bytes());
        header.extend([(words as u8) << 4, self.flags]);
        header.extend(self.window.to_be_bytes());
        header.extend([0; 4]);
        header.extend(&self.options);
        header
    }
}

impl Ip {
    fn v4_header(&self, protocol: u8, segment: usize) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let (offset, more) = self
            .fragment
            .map_or((0, false), |it| (it.offset / 8, it.more));
        let fragment = u16::from(self.dont_fragment) << 14 | u16::from(more) << 13 | offset;
        let mut header = vec![0x40 | (header_length / 4) as u8, self.traffic_class];
        header.extend(length_field(header_length + segment));
        header.extend((self.id as u16).to_be_bytes());
        header.extend(fragment.to_be_bytes());
        header.extend([self.hop_limit, protocol, 0, 0]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header.extend(&self.options);
        let sum = checksum::internet(&header) ^ u16::from(self.has_wrong_checksum);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn v6_headers(&self, protocol: u8, segment: usize) -> Vec<u8> {
        let (first, extensions) = self.v6_extensions(protocol);
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut header = word.to_be_bytes().to_vec();
        header.extend(length_field(extensions.len() + segment));
        header.extend([first, self.hop_limit]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header.extend(extensions);
        header
    }

    /// All extension headers, and the kind of the first.
    fn v6_extensions(&self, protocol: u8) -> (u8, Vec<u8>) {
        let mut chain = self.extensions.clone();
        if let Some(Fragment { offset, more }) = self.fragment {
            let position = (offset | u16::from(more)).to_be_bytes();
            chain.push((FRAGMENT, [&position[..], &self.id.to_be_bytes()].concat()));
        }
        let mut following = chain
            .iter()
            .map(|(kind, _)| *kind)
            .skip(1)
            .chain([protocol]);
        let mut bytes = Vec::new();
        for (kind, body) in &chain {
            let next = following.next().unwrap_or(protocol);
            bytes.extend(extension(*kind, next, body));
        }
        (chain.first().map_or(protocol, |(kind, _)| *kind), bytes)
    }
}

fn extension(kind: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(body);
    match kind {
        // Opaque: whatever the body is.
        ESP => return body.to_vec(),
        // Counts in units of 4 bytes, less two (RFC 4302).
        AH => {
            header.resize(header.len().next_multiple_of(8).max(16), 0);
            header[1] = (header.len() / 4 - 2) as u8;
        }
        FRAGMENT => {}
        // Options that are all zero are Pad1 (RFC 8200 §4.2).
        _ => {
            header.resize(header.len().next_multiple_of(8), 0);
            header[1] = (header.len() / 8 - 1) as u8;
        }
    }
    header
}

fn length_field(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("a packet has at most 65,535 bytes")
        .to_be_bytes()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
