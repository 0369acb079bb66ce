//! QUIC, as far as it tells where a flow begins: the long header of an Initial packet (RFC 9000
//! §17.2.2, RFC 9369 §3.2).

use crate::packet::{Cursor, Packet, Transport};

const UDP_HEADER_LEN: usize = 8;
/// The first byte and the version.
const LONG_HEADER_START: usize = 5;
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
    let payload = packet.transport_at() + UDP_HEADER_LEN;
    // What lies behind the packet's end is padding of the Ethernet frame.
    let end = packet.network_offset + packet.length as usize;
    if payload + LONG_HEADER_START > end {
        return false;
    }
    let Some([first, version @ ..]) = frame.bytes::<LONG_HEADER_START>(payload) else {
        return false;
    };
    [INITIAL_V1, INITIAL_V2].contains(&(first & TYPE_MASK, *version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet;

    /// A datagram over IPv4 with this payload, and with `padding` behind the packet.
    fn opens(payload: &[u8], padding: &[u8]) -> bool {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0];
        frame.push(28 + payload.len() as u8);
        frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 203, 0, 113, 7, 198, 51, 100, 10]);
        frame.extend([0x9c, 0x40, 1, 0xbb, 0, 8 + payload.len() as u8, 0, 0]);
        frame.extend(payload);
        frame.extend(padding);
        let packet = packet::parse(frame.as_slice()).expect("it is a datagram");
        opens_flow(frame.as_slice(), &packet)
    }

    #[test]
    fn an_initial_packet_of_either_version_opens_a_flow() {
        for (payload, expected) in [
            ([0xc3, 0, 0, 0, 1, 8], true),
            ([0xd3, 0x6b, 0x33, 0x43, 0xcf, 8], true),
            ([0xd3, 0, 0, 0, 1, 8], false),
            ([0xc3, 0x6b, 0x33, 0x43, 0xcf, 8], false),
            ([0xc3, 0, 0, 0, 2, 8], false),
            ([0x43, 0, 0, 0, 1, 8], false),
        ] {
            assert_eq!(opens(&payload, &[]), expected, "{payload:x?}");
        }
    }

    #[test]
    fn padding_behind_a_datagram_does_not_open_a_flow() {
        let initial = [0xc3, 0, 0, 0, 1];
        for length in 0..initial.len() {
            assert!(
                !opens(&initial[..length], &initial[length..]),
                "{length} bytes"
            );
        }
    }
}
