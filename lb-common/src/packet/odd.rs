//! Every packet that can be ours, whatever is in front of its transport header: VLAN tags, IPv4
//! options, IPv6 extension headers; fragments, echo requests, ICMP errors.

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::extension::{self, Behind};
use super::{
    Carried, Cursor, Family, ICMP, ICMPV6, IPV4_FRAGMENT_MASK, IPV4_FRAGMENT_OFFSET_MASK,
    NETWORK_OFFSET, NETWORK_OFFSET_MAX, Packet, TAG_LEN, TCP, TCP_FLAGS, TCP_HEADER_LEN, TcpFlags,
    Transport, UDP, UDP_HEADER_LEN, be16, be32, bounded, carried, carried_by, error,
};
use crate::address::Address;

const ICMP_HEADER_LEN: usize = 8;
const ECHO_REQUEST: [u8; 2] = [8, 0];
const ECHO_REQUEST_V6: [u8; 2] = [128, 0];

/// Reads any frame. `None`: not IP, not for a transport that we serve, cut short, or inconsistent.
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
    let (carried, network_offset) = untag(frame)?;
    match carried {
        Carried::Ipv4 => ipv4(frame, network_offset),
        Carried::Ipv6 => ipv6(frame, network_offset),
        Carried::Tagged | Carried::Other => None,
    }
}

/// What stands behind at most two VLAN tags, and where.
#[inline(always)]
fn untag<C: Cursor + ?Sized>(frame: &C) -> Option<(Carried, usize)> {
    let mut found = carried(frame);
    let mut offset = NETWORK_OFFSET;
    while found == Carried::Tagged && offset < NETWORK_OFFSET_MAX {
        let tag: &[u8; TAG_LEN] = frame.bytes(offset)?;
        found = carried_by([tag[2], tag[3]]);
        offset += TAG_LEN;
    }
    Some((found, bounded(frame.forgotten(offset), NETWORK_OFFSET_MAX)))
}

#[inline(always)]
fn ipv4<C: Cursor + ?Sized>(frame: &C, network_offset: usize) -> Option<Packet> {
    let header: &[u8; Ipv4Hdr::LEN] = frame.bytes(network_offset)?;
    let version_and_length = header[offset_of!(Ipv4Hdr, vihl)];
    let header_len = usize::from(version_and_length & 0x0f) * 4;
    let length = u32::from(be16(header, offset_of!(Ipv4Hdr, tot_len)));
    if version_and_length >> 4 != 4
        || header_len < Ipv4Hdr::LEN
        || (length as usize) < header_len
        || !reaches(frame, network_offset + length as usize)
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
        network_offset,
        transport_offset: network_offset + header_len,
        length,
    };
    if fragment & IPV4_FRAGMENT_OFFSET_MASK != 0 {
        return Some(packet);
    }
    transport(frame, packet)
}

#[inline(always)]
fn ipv6<C: Cursor + ?Sized>(frame: &C, network_offset: usize) -> Option<Packet> {
    let header: &[u8; Ipv6Hdr::LEN] = frame.bytes(network_offset)?;
    let payload_length = u32::from(be16(header, offset_of!(Ipv6Hdr, payload_len)));
    let length = payload_length + Ipv6Hdr::LEN as u32;
    let end = network_offset + length as usize;
    let destination = Address::v6(*header[offset_of!(Ipv6Hdr, dst_addr)..].first_chunk()?);
    // An IPv4-mapped address has no business in a packet (RFC 5156 §2.2), and here it would be
    // taken for the IPv4 address.
    if header[0] >> 4 != 6 || destination.is_v4() || !reaches(frame, end) {
        return None;
    }
    let source = Address::v6(*header[offset_of!(Ipv6Hdr, src_addr)..].first_chunk()?);
    let traffic_class = header[0] << 4 | header[1] >> 4;
    let next_header = header[offset_of!(Ipv6Hdr, next_hdr)];
    let behind: Behind = extension::skip(frame, next_header, network_offset + Ipv6Hdr::LEN, end)?;
    let packet = Packet {
        family: Family::V6,
        source,
        destination,
        protocol: behind.protocol as u8,
        traffic_class,
        transport: Transport::LaterFragment,
        is_fragment: behind.is_fragment(),
        ports: [0; 4],
        sequence: 0,
        network_offset,
        transport_offset: behind.offset,
        length,
    };
    if behind.is_later_fragment() {
        return Some(packet);
    }
    transport(frame, packet)
}

/// Whether the frame has `end` bytes.
#[inline(always)]
fn reaches<C: Cursor + ?Sized>(frame: &C, end: usize) -> bool {
    end <= frame.len() || end <= frame.whole_len()
}

#[inline(always)]
fn transport<C: Cursor + ?Sized>(frame: &C, mut packet: Packet) -> Option<Packet> {
    let offset = packet.transport_offset;
    let room = packet.network_offset + packet.length as usize;
    match packet.protocol {
        TCP if offset + TCP_HEADER_LEN <= room => {
            let header: &[u8; TCP_HEADER_LEN] = frame.bytes(offset)?;
            packet.ports = *header.first_chunk()?;
            packet.sequence = be32(header, 4);
            packet.transport = Transport::Tcp(TcpFlags(header[TCP_FLAGS]));
        }
        UDP if offset + UDP_HEADER_LEN <= room => {
            let header: &[u8; UDP_HEADER_LEN] = frame.bytes(offset)?;
            packet.ports = *header.first_chunk()?;
            packet.transport = Transport::Udp;
        }
        ICMP | ICMPV6 if offset + ICMP_HEADER_LEN <= room => {
            let header: &[u8; ICMP_HEADER_LEN] = frame.bytes(offset)?;
            let (kind, quoted) = ([header[0], header[1]], offset + ICMP_HEADER_LEN);
            match packet.family {
                Family::V4 if packet.protocol == ICMP => match kind {
                    ECHO_REQUEST => packet.transport = Transport::EchoRequest,
                    [kind, _] if error::is_v4(kind) => error::v4(frame, &mut packet, quoted)?,
                    _ => return None,
                },
                Family::V6 if packet.protocol == ICMPV6 => match kind {
                    ECHO_REQUEST_V6 => packet.transport = Transport::EchoRequest,
                    [kind, _] if error::is_v6(kind) => error::v6(frame, &mut packet, quoted)?,
                    _ => return None,
                },
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(packet)
}
