//! The packets that come by the million, read at constant offsets: TCP or UDP, whole, behind an IP
//! header without options or extension headers, in a frame without VLAN tags.
//!
//! `None` says "not plain", never "not ours": [`odd`](super::odd) has the last word.

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{
    Cursor, Family, IPV4_FRAGMENT_MASK, NETWORK_OFFSET, Packet, TCP, TCP_FLAGS, TCP_HEADER_LEN,
    TcpFlags, Transport, UDP, UDP_HEADER_LEN, be16, be32,
};
use crate::address::Address;

/// Version 4, and a header of five words.
const IPV4_PLAIN: u8 = 0x45;

/// Reads a frame known to carry IPv4.
#[inline(always)]
pub fn ipv4<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
    let header: &[u8; Ipv4Hdr::LEN] = frame.bytes(NETWORK_OFFSET)?;
    let length = u32::from(be16(header, offset_of!(Ipv4Hdr, tot_len)));
    let fragment = be16(header, offset_of!(Ipv4Hdr, frags)) & IPV4_FRAGMENT_MASK;
    if header[offset_of!(Ipv4Hdr, vihl)] != IPV4_PLAIN
        || fragment != 0
        || NETWORK_OFFSET + length as usize > frame.len()
    {
        return None;
    }
    let packet = Packet {
        family: Family::V4,
        source: Address::v4(*header[offset_of!(Ipv4Hdr, src_addr)..].first_chunk()?),
        destination: Address::v4(*header[offset_of!(Ipv4Hdr, dst_addr)..].first_chunk()?),
        protocol: header[offset_of!(Ipv4Hdr, proto)],
        traffic_class: header[offset_of!(Ipv4Hdr, tos)],
        transport: Transport::Udp,
        is_fragment: false,
        ports: [0; 4],
        sequence: 0,
        network_offset: NETWORK_OFFSET,
        transport_offset: NETWORK_OFFSET + Ipv4Hdr::LEN,
        length,
    };
    transport(frame, packet)
}

/// Reads a frame known to carry IPv6.
#[inline(always)]
pub fn ipv6<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
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
        transport: Transport::Udp,
        is_fragment: false,
        ports: [0; 4],
        sequence: 0,
        network_offset: NETWORK_OFFSET,
        transport_offset: NETWORK_OFFSET + Ipv6Hdr::LEN,
        length,
    };
    // `odd` says why not.
    if packet.destination.is_v4() {
        return None;
    }
    transport(frame, packet)
}

#[inline(always)]
fn transport<C: Cursor + ?Sized>(frame: &C, mut packet: Packet) -> Option<Packet> {
    let offset = packet.transport_offset;
    let room = NETWORK_OFFSET + packet.length as usize;
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
        }
        _ => return None,
    }
    Some(packet)
}
