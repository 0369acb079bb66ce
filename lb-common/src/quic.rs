//! QUIC, as far as it tells where a flow begins: the long header of an Initial packet (RFC 9000
//! §17.2.2, RFC 9369 §3.2).

use crate::packet::{Cursor, Packet, Transport};

const UDP_HEADER_LEN: usize = 8;
/// Form, fixed bit and packet type of a long header.
const TYPE_MASK: u8 = 0xf0;
/// An Initial packet of version 1, and that version.
const INITIAL_V1: (u8, [u8; 4]) = (0xc0, [0, 0, 0, 1]);
/// Version 2 numbers its packet types anew.
const INITIAL_V2: (u8, [u8; 4]) = (0xd0, [0x6b, 0x33, 0x43, 0xcf]);

/// Whether a datagram begins with an Initial packet.
#[inline(always)]
pub fn opens_flow<C: Cursor + ?Sized>(frame: &C, packet: &Packet) -> bool {
    if !matches!(packet.transport, Transport::Udp) {
        return false;
    }
    let payload = packet.transport_offset + UDP_HEADER_LEN;
    let Some([first, version @ ..]) = frame.bytes::<5>(payload) else {
        return false;
    };
    [INITIAL_V1, INITIAL_V2].contains(&(first & TYPE_MASK, *version))
}
