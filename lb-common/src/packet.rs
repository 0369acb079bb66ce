//! From a frame to what the gateway needs to know of it.
//!
//! [`parse`] is generic over a [`Cursor`], so that the code which the kernel runs is the code
//! that host tests run. It never writes. Whatever it does not understand, it does not claim:
//! `None` means "not ours, or too odd to be ours", and such a frame is passed on untouched.

use core::mem::offset_of;

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::address::Address;

/// Read access to a frame, checked against its end.
///
/// The verifier does not follow slices built from a pointer and a length; it follows a fixed
/// number of bytes at an offset, compared with the end just before.
pub trait Cursor {
    /// The `N` bytes at `offset` from the start of the frame; `None` if it ends before.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// Length of the frame in bytes, Ethernet header included.
    fn len(&self) -> usize;

    /// Whether the frame has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Cursor for [u8] {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..)?.first_chunk()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// EtherType of IPv4, in network order.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of IPv6, in network order.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const ICMP: u8 = crate::service::ICMP;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = crate::service::ICMPV6;
/// Next-header number of the IPv6 fragment header (RFC 8200 §4.5).
const IPV6_FRAGMENT: u8 = 44;

/// Offset of the IP header: right behind the Ethernet header.
pub const NETWORK_OFFSET: usize = EthHdr::LEN;

/// "More fragments" and the fragment offset of an IPv4 header (RFC 791 §3.1).
const IPV4_FRAGMENT_MASK: u16 = 0x3fff;
const IPV4_FRAGMENT_OFFSET_MASK: u16 = 0x1fff;
/// The fragment offset of an IPv6 fragment header (RFC 8200 §4.5).
const IPV6_FRAGMENT_OFFSET_MASK: u16 = 0xfff8;
const IPV6_FRAGMENT_HEADER_LEN: usize = 8;

const TCP_FLAG_FIN: u8 = 0x01;
const TCP_FLAG_SYN: u8 = 0x02;
const TCP_FLAG_RST: u8 = 0x04;
const TCP_FLAG_ACK: u8 = 0x10;

/// Internet protocol version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a packet carries, as far as the gateway tells packets apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, with the flags byte of its header.
    Tcp(TcpFlags),
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    EchoRequest,
    /// A fragment that is not the first: it has no ports.
    LaterFragment,
}

/// The flags byte of a TCP header (RFC 9293 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Whether the packet asks for a new connection: SYN and not ACK.
    #[inline(always)]
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (TCP_FLAG_SYN | TCP_FLAG_ACK) == TCP_FLAG_SYN
    }

    /// Whether it says that its sender is done: FIN or RST.
    #[inline(always)]
    #[must_use]
    pub const fn closes(self) -> bool {
        self.0 & (TCP_FLAG_FIN | TCP_FLAG_RST) != 0
    }

    /// Whether it is a reset.
    #[inline(always)]
    #[must_use]
    pub const fn resets(self) -> bool {
        self.0 & TCP_FLAG_RST != 0
    }

    /// Whether the acknowledgement number counts.
    #[inline(always)]
    #[must_use]
    pub const fn acknowledges(self) -> bool {
        self.0 & TCP_FLAG_ACK != 0
    }

    /// Sequence numbers that SYN and FIN take up.
    #[inline(always)]
    #[must_use]
    pub const fn sequence_length(self) -> u32 {
        (self.0 & TCP_FLAG_SYN != 0) as u32 + (self.0 & TCP_FLAG_FIN != 0) as u32
    }
}

/// What the gateway knows of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// IPv4 or IPv6.
    pub family: Family,
    /// IP source.
    pub source: Address,
    /// IP destination: the VIP, if the packet is ours.
    pub destination: Address,
    /// IP protocol number; of an IPv6 fragment the one behind the fragment header.
    pub protocol: u8,
    /// Type of service of IPv4, traffic class of IPv6.
    pub traffic_class: u8,
    /// What it carries.
    pub transport: Transport,
    /// Whether it is one fragment of a larger packet, first or later.
    pub is_fragment: bool,
    /// Source and destination port as on the wire; zeros where there are none.
    pub ports: [u8; 4],
    /// Sequence number of a TCP segment; 0 where there is none.
    pub sequence: u32,
    /// Offset of the IP header from the start of the frame: [`NETWORK_OFFSET`], and what VLAN tags
    /// add to it.
    pub network_offset: usize,
    /// Offset of the transport header from the start of the frame.
    pub transport_offset: usize,
    /// Length of the IP packet in bytes, header included, by its own account. The frame may be
    /// longer (Ethernet pads to 60 bytes), never shorter.
    pub length: u32,
}

impl Packet {
    /// The destination port as on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn destination_port(&self) -> [u8; 2] {
        [self.ports[2], self.ports[3]]
    }

    /// Whether it asks for a new TCP connection.
    #[inline(always)]
    #[must_use]
    pub const fn opens_flow(&self) -> bool {
        matches!(self.transport, Transport::Tcp(flags) if flags.opens())
    }

    /// Whether it is TCP and has FIN or RST.
    #[inline(always)]
    #[must_use]
    pub const fn closes(&self) -> bool {
        matches!(self.transport, Transport::Tcp(flags) if flags.closes())
    }
}

/// Reads a frame. `None`: not IP, not for a transport that we serve, cut short, or inconsistent.
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
    match family(frame)? {
        Family::V4 => parse_ipv4(frame),
        Family::V6 => parse_ipv6(frame),
    }
}

/// What the Ethernet header says that the frame carries; `None` if it is not IP.
#[inline(always)]
pub fn family<C: Cursor + ?Sized>(frame: &C) -> Option<Family> {
    let ethernet: &[u8; EthHdr::LEN] = frame.bytes(0)?;
    const ETHERTYPE: usize = offset_of!(EthHdr, ether_type);
    match [ethernet[ETHERTYPE], ethernet[ETHERTYPE + 1]] {
        ETHERTYPE_IPV4 => Some(Family::V4),
        ETHERTYPE_IPV6 => Some(Family::V6),
        _ => None,
    }
}

/// As [`parse`], of a frame known to carry IPv4.
#[inline(always)]
pub fn parse_ipv4<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
    let header: &[u8; Ipv4Hdr::LEN] = frame.bytes(NETWORK_OFFSET)?;
    let version_and_length = header[offset_of!(Ipv4Hdr, vihl)];
    let header_len = usize::from(version_and_length & 0x0f) * 4;
    let length = u32::from(be16(header, offset_of!(Ipv4Hdr, tot_len)));
    if version_and_length >> 4 != 4
        || header_len < Ipv4Hdr::LEN
        || (length as usize) < header_len
        || NETWORK_OFFSET + length as usize > frame.len()
    {
        return None;
    }
    let fragment = be16(header, offset_of!(Ipv4Hdr, frags)) & IPV4_FRAGMENT_MASK;
    let packet = Packet {
        family: Family::V4,
        source: Address::v4(*header[offset_of!(Ipv4Hdr, src_addr)..].first_chunk()?),
        destination: Address::v4(*header[offset_of!(Ipv4Hdr, dst_addr)..].first_chunk()?),
        protocol: header[offset_of!(Ipv4Hdr, proto)],
        traffic_class: header[offset_of!(Ipv4Hdr, tos)],
        transport: Transport::LaterFragment,
        is_fragment: fragment != 0,
        ports: [0; 4],
        sequence: 0,
        network_offset: NETWORK_OFFSET,
        transport_offset: NETWORK_OFFSET + header_len,
        length,
    };
    if fragment & IPV4_FRAGMENT_OFFSET_MASK != 0 {
        return Some(packet);
    }
    parse_transport(frame, packet)
}

/// As [`parse`], of a frame known to carry IPv6.
#[inline(always)]
pub fn parse_ipv6<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
    let header: &[u8; Ipv6Hdr::LEN] = frame.bytes(NETWORK_OFFSET)?;
    let payload_length = u32::from(be16(header, offset_of!(Ipv6Hdr, payload_len)));
    let length = payload_length + Ipv6Hdr::LEN as u32;
    if header[0] >> 4 != 6 || NETWORK_OFFSET + length as usize > frame.len() {
        return None;
    }
    let packet = Packet {
        family: Family::V6,
        source: Address::v6(*header[offset_of!(Ipv6Hdr, src_addr)..].first_chunk()?),
        destination: Address::v6(*header[offset_of!(Ipv6Hdr, dst_addr)..].first_chunk()?),
        protocol: header[offset_of!(Ipv6Hdr, next_hdr)],
        traffic_class: header[0] << 4 | header[1] >> 4,
        transport: Transport::LaterFragment,
        is_fragment: false,
        ports: [0; 4],
        sequence: 0,
        network_offset: NETWORK_OFFSET,
        transport_offset: NETWORK_OFFSET + Ipv6Hdr::LEN,
        length,
    };
    // An IPv4-mapped address has no business in a packet (RFC 5156 §2.2), and here it would be
    // taken for the IPv4 address.
    if packet.destination.is_v4() {
        return None;
    }
    if packet.protocol == IPV6_FRAGMENT {
        return parse_ipv6_fragment(frame, packet);
    }
    parse_transport(frame, packet)
}

/// Behind a fragment header: the first fragment has a transport header, the later ones do not.
#[inline(always)]
fn parse_ipv6_fragment<C: Cursor + ?Sized>(frame: &C, packet: Packet) -> Option<Packet> {
    let offset = NETWORK_OFFSET + Ipv6Hdr::LEN;
    let header: &[u8; IPV6_FRAGMENT_HEADER_LEN] = frame.bytes(offset)?;
    let packet = Packet {
        protocol: header[0],
        is_fragment: true,
        transport_offset: offset + IPV6_FRAGMENT_HEADER_LEN,
        ..packet
    };
    if be16(header, 2) & IPV6_FRAGMENT_OFFSET_MASK != 0 {
        return Some(packet);
    }
    parse_transport(frame, packet)
}

#[inline(always)]
fn parse_transport<C: Cursor + ?Sized>(frame: &C, mut packet: Packet) -> Option<Packet> {
    const TCP_HEADER_LEN: usize = 20;
    const TCP_FLAGS: usize = 13;
    const UDP_HEADER_LEN: usize = 8;
    const ICMP_HEADER_LEN: usize = 8;
    const ECHO_REQUEST: [u8; 2] = [8, 0];
    const ECHO_REQUEST_V6: [u8; 2] = [128, 0];

    let offset = packet.transport_offset;
    let room = NETWORK_OFFSET + packet.length as usize;
    match packet.protocol {
        TCP if offset + TCP_HEADER_LEN <= room => {
            let header: &[u8; TCP_HEADER_LEN] = frame.bytes(offset)?;
            packet.ports = *header.first_chunk()?;
            packet.sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            packet.transport = Transport::Tcp(TcpFlags(header[TCP_FLAGS]));
        }
        UDP if offset + UDP_HEADER_LEN <= room => {
            let header: &[u8; UDP_HEADER_LEN] = frame.bytes(offset)?;
            packet.ports = *header.first_chunk()?;
            packet.transport = Transport::Udp;
        }
        ICMP | ICMPV6 if offset + ICMP_HEADER_LEN <= room => {
            let header: &[u8; ICMP_HEADER_LEN] = frame.bytes(offset)?;
            let request = match packet.family {
                Family::V4 if packet.protocol == ICMP => ECHO_REQUEST,
                Family::V6 if packet.protocol == ICMPV6 => ECHO_REQUEST_V6,
                _ => return None,
            };
            if [header[0], header[1]] != request {
                return None;
            }
            packet.transport = Transport::EchoRequest;
        }
        _ => return None,
    }
    Some(packet)
}

#[inline(always)]
fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests;
