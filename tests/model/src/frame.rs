//! What a frame says, read by RFC 791, 8200, 9293, 768, 792, 4443 and IEEE 802.1Q.

use crate::hash::Ip;

/// IP protocol number.
pub const ICMP: u8 = 1;
/// IP protocol number.
pub const TCP: u8 = 6;
/// IP protocol number.
pub const UDP: u8 = 17;
/// IP protocol number.
pub const ICMPV6: u8 = 58;

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Which part of a fragmented packet this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment, which has the ports.
    First,
    /// One without ports.
    Later,
}

/// An IP packet to or from somebody who may concern the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    /// IPv6, and not IPv4.
    pub v6: bool,
    /// Bytes of VLAN tags.
    pub tags: usize,
    /// Where the IP header begins.
    pub network: usize,
    /// Where the transport header begins.
    pub transport: usize,
    /// Where the packet ends; what follows is padding.
    pub end: usize,
    /// Source address.
    pub source: Ip,
    /// Destination address.
    pub destination: Ip,
    /// Transport protocol.
    pub protocol: u8,
    /// DSCP and ECN.
    pub class: u8,
    /// Whether it is a fragment.
    pub part: Part,
    /// Source and destination port; zeros where there are none.
    pub ports: [u8; 4],
    /// TCP flags.
    pub flags: u8,
    /// TCP sequence number.
    pub sequence: u32,
    /// ICMP type and code.
    pub icmp: [u8; 2],
}

impl Parsed {
    /// Length of the IP packet.
    #[must_use]
    pub fn length(&self) -> usize {
        self.end - self.network
    }

    /// Whether a TCP segment asks for a new connection.
    #[must_use]
    pub fn is_syn(&self) -> bool {
        self.protocol == TCP && self.flags & (SYN | ACK) == SYN
    }

    /// Whether it is an echo request.
    #[must_use]
    pub fn is_echo_request(&self) -> bool {
        let echo = if self.v6 { [128, 0] } else { [8, 0] };
        self.is_icmp() && self.icmp == echo
    }

    /// Whether it is ICMP of its own family.
    #[must_use]
    pub fn is_icmp(&self) -> bool {
        self.protocol == if self.v6 { ICMPV6 } else { ICMP }
    }

    /// Whether it is an ICMP error that tells of another packet.
    #[must_use]
    pub fn is_icmp_error(&self) -> bool {
        self.is_icmp()
            && if self.v6 {
                matches!(self.icmp[0], 1..=4)
            } else {
                matches!(self.icmp[0], 3 | 11 | 12)
            }
    }
}

/// Two bytes as a number; 0 beyond the end.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some([high, low]) => usize::from(*high) << 8 | usize::from(*low),
        _ => 0,
    }
}

/// Four bytes as a number; 0 beyond the end.
#[must_use]
pub fn long(bytes: &[u8], at: usize) -> u32 {
    (word(bytes, at) << 16 | word(bytes, at + 2)) as u32
}

/// An IPv4 address as it is kept.
#[must_use]
pub fn mapped(bytes: &[u8]) -> Ip {
    let mut ip = [0; 16];
    ip[10] = 0xff;
    ip[11] = 0xff;
    ip[12..].copy_from_slice(&bytes[..4]);
    ip
}

/// Bytes of VLAN tags and the EtherType behind them; `None` behind more than two.
#[must_use]
pub fn ethertype(frame: &[u8]) -> Option<(usize, usize)> {
    let is_tag = |kind: usize| kind == 0x8100 || kind == 0x88a8;
    (0..=2)
        .map(|tags| (4 * tags, word(frame, 12 + 4 * tags)))
        .find(|(_, kind)| !is_tag(*kind))
}

/// Reads a frame; `None` if it is nothing that the gateway looks at.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    let (tags, kind) = ethertype(frame)?;
    let network = ETHERNET + tags;
    let packet = frame.get(network..)?;
    match kind {
        0x0800 => parse_v4(packet, network, tags, packet.len()),
        0x86dd => parse_v6(packet, network, tags, packet.len()),
        _ => None,
    }
}

/// Reads an IPv4 packet of which `available` bytes are there.
fn parse_v4(packet: &[u8], network: usize, tags: usize, available: usize) -> Option<Parsed> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = word(packet, 2);
    if packet.len() < 20 || packet[0] >> 4 != 4 || header < 20 || total < header {
        return None;
    }
    if total > available {
        return None;
    }
    let fragment = word(packet, 6);
    let part = match (fragment & 0x1fff, fragment & 0x2000) {
        (0, 0) => Part::Whole,
        (0, _) => Part::First,
        _ => Part::Later,
    };
    let parsed = Parsed {
        v6: false,
        tags,
        network,
        transport: network + header,
        end: network + total,
        source: mapped(&packet[12..16]),
        destination: mapped(&packet[16..20]),
        protocol: packet[9],
        class: packet[1],
        part,
        ports: [0; 4],
        flags: 0,
        sequence: 0,
        icmp: [0; 2],
    };
    transport(parsed, &packet[header..total])
}

/// Extension headers that are looked through.
const EXTENSIONS_MAX: usize = 6;

fn parse_v6(packet: &[u8], network: usize, tags: usize, available: usize) -> Option<Parsed> {
    let total = 40 + word(packet, 4);
    if packet.len() < 40 || packet[0] >> 4 != 6 || total > available {
        return None;
    }
    let ip = |at: usize| -> Option<Ip> { packet[at..at + 16].try_into().ok() };
    let (next, at, part) = extensions(&packet[..total], packet[6])?;
    let parsed = Parsed {
        v6: true,
        tags,
        network,
        transport: network + at,
        end: network + total,
        source: ip(8)?,
        destination: ip(24)?,
        protocol: next,
        class: packet[0] << 4 | packet[1] >> 4,
        part,
        ports: [0; 4],
        flags: 0,
        sequence: 0,
        icmp: [0; 2],
    };
    transport(parsed, packet[..total].get(at..)?)
}

/// Looks through extension headers (RFC 8200 §4): the protocol behind them, where it begins, and
/// whether a fragment header was among them. `None` for what no host on the way may see or skip.
fn extensions(packet: &[u8], first: u8) -> Option<(u8, usize, Part)> {
    let (mut next, mut at, mut part) = (first, 40, Part::Whole);
    for count in 0.. {
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        let header = packet.get(at..at + 8)?;
        let length = match next {
            // Authentication counts in words of four bytes (RFC 4302 §2.2), fragments have one size.
            51 => (usize::from(header[1]) + 2) * 4,
            44 => 8,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        // Hop-by-hop options come first or not at all; whoever is still to be visited by way of a
        // routing header is not the VIP.
        let is_odd = next == 0 && count > 0 || next == 43 && header[3] != 0;
        if count == EXTENSIONS_MAX || is_odd || at + length > packet.len() {
            return None;
        }
        if next == 44 {
            let fragment = word(header, 2);
            part = match (fragment >> 3, fragment & 1) {
                // An atomic fragment is whole (RFC 6946).
                (0, 0) => part,
                (0, _) => Part::First,
                _ => Part::Later,
            };
        }
        next = header[0];
        at += length;
        if part == Part::Later {
            break;
        }
    }
    Some((next, at, part))
}

/// Adds what the transport header says.
fn transport(mut parsed: Parsed, segment: &[u8]) -> Option<Parsed> {
    if parsed.part == Part::Later {
        return Some(parsed);
    }
    match parsed.protocol {
        TCP if segment.len() >= 20 => {
            parsed.flags = segment[13];
            parsed.sequence = long(segment, 4);
        }
        UDP if segment.len() >= 8 => {}
        protocol if parsed.is_icmp() && segment.len() >= 8 => {
            let _ = protocol;
            parsed.icmp = [segment[0], segment[1]];
            return Some(parsed);
        }
        _ => return None,
    }
    parsed.ports.copy_from_slice(&segment[..4]);
    Some(parsed)
}

/// Whether an address is an IPv4 address written as an IPv6 one.
#[must_use]
pub fn is_mapped(ip: &Ip) -> bool {
    ip[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}
