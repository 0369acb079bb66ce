//! ICMP and ICMPv6 errors: they quote the packet that they are about. One that a backend sent, with
//! a VIP as its source, belongs to the flow of that packet.

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{Cursor, IPV4_FRAGMENT_OFFSET_MASK, Packet, TCP, Transport, UDP, be16, extension};
use crate::address::Address;

/// Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
#[inline(always)]
pub const fn is_v4(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 11 | 12)
}

/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443 §3).
#[inline(always)]
pub const fn is_v6(kind: u8) -> bool {
    matches!(kind, 1..=4)
}

/// Makes `packet`, an error whose quote begins at `offset`, the error of the flow that it quotes.
/// `None`: the quote is cut short, or of no flow from the address that the error was sent to.
#[inline(always)]
pub fn v4<C: Cursor + ?Sized>(frame: &C, packet: &mut Packet, offset: usize) -> Option<()> {
    let room = packet.network_offset + packet.length as usize;
    let header: &[u8; Ipv4Hdr::LEN] = frame.bytes(offset)?;
    let version_and_length = header[offset_of!(Ipv4Hdr, vihl)];
    let header_len = usize::from(version_and_length & 0x0f) * 4;
    let fragment = be16(header, offset_of!(Ipv4Hdr, frags));
    let sent_by = Address::v4(*header[offset_of!(Ipv4Hdr, src_addr)..].first_chunk()?);
    if version_and_length >> 4 != 4
        || header_len < Ipv4Hdr::LEN
        || fragment & IPV4_FRAGMENT_OFFSET_MASK != 0
        || sent_by != packet.destination
    {
        return None;
    }
    packet.source = Address::v4(*header[offset_of!(Ipv4Hdr, dst_addr)..].first_chunk()?);
    packet.protocol = header[offset_of!(Ipv4Hdr, proto)];
    turn_round(frame, packet, offset + header_len, room)
}

/// As [`v4`].
#[inline(always)]
pub fn v6<C: Cursor + ?Sized>(frame: &C, packet: &mut Packet, offset: usize) -> Option<()> {
    let room = packet.network_offset + packet.length as usize;
    let header: &[u8; Ipv6Hdr::LEN] = frame.bytes(offset)?;
    let sent_by = Address::v6(*header[offset_of!(Ipv6Hdr, src_addr)..].first_chunk()?);
    if header[0] >> 4 != 6 || sent_by != packet.destination {
        return None;
    }
    packet.source = Address::v6(*header[offset_of!(Ipv6Hdr, dst_addr)..].first_chunk()?);
    let next_header = header[offset_of!(Ipv6Hdr, next_hdr)];
    let behind = extension::skip(frame, next_header, offset + Ipv6Hdr::LEN, room)?;
    if behind.is_later_fragment() {
        return None;
    }
    packet.protocol = behind.protocol as u8;
    turn_round(frame, packet, behind.offset, room)
}

/// Ports of the quoted transport header, of which at least eight bytes are quoted (RFC 792).
#[inline(always)]
fn turn_round<C: Cursor + ?Sized>(
    frame: &C,
    packet: &mut Packet,
    offset: usize,
    room: usize,
) -> Option<()> {
    const QUOTED_LEN: usize = 8;
    if !matches!(packet.protocol, TCP | UDP) || offset + QUOTED_LEN > room {
        return None;
    }
    let [a, b, c, d, ..] = *frame.bytes::<QUOTED_LEN>(offset)?;
    packet.ports = [c, d, a, b];
    packet.transport = Transport::Error;
    Some(())
}
