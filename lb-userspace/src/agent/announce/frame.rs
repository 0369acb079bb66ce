//! The announcing frames, byte by byte. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::agent::interface::Mac;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERNET_BYTES: usize = 14;
const ARP_BYTES: usize = 28;
const IPV6_BYTES: usize = 40;
/// Type, code, checksum, flags, target, and the target link-layer address option.
const ADVERTISEMENT_BYTES: usize = 4 + 4 + 16 + 8;

const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 4861 §4.4: receivers replace what they have cached.
const FLAG_OVERRIDE: u8 = 0x20;
/// RFC 4861 §4.6.1, its length counted in units of eight bytes.
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
/// RFC 4861 §7.1.2: anything less was forwarded by a router and is ignored.
const HOP_LIMIT: u8 = 255;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// RFC 2464 §7: 33:33 and the last four bytes of the group.
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// The two ways to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArpForm {
    /// An ARP announcement of RFC 5227 §3: a request for one's own address.
    Request,
    /// The reply form of RFC 5944 §4.6.
    Reply,
}

/// An Ethernet frame that says "`vip` is at `mac`" to everybody on the link.
pub(super) fn gratuitous_arp(
    mac: Mac,
    vip: Ipv4Addr,
    form: ArpForm,
) -> [u8; ETHERNET_BYTES + ARP_BYTES] {
    let (operation, target) = match form {
        ArpForm::Request => (1u16, Mac([0; 6])),
        ArpForm::Reply => (2u16, mac),
    };
    let mut frame = Frame::new(Mac::BROADCAST, mac, ETHERTYPE_ARP);
    frame.put(&1u16.to_be_bytes()); // Ethernet
    frame.put(&0x0800u16.to_be_bytes()); // IPv4
    frame.put(&[6, 4]); // lengths of their addresses
    frame.put(&operation.to_be_bytes());
    frame.put(&mac.0);
    frame.put(&vip.octets());
    frame.put(&target.0);
    frame.put(&vip.octets());
    frame.bytes
}

/// An Ethernet frame with the unsolicited neighbour advertisement of RFC 4861 §7.2.6.
pub(super) fn unsolicited_advertisement(
    mac: Mac,
    vip: Ipv6Addr,
) -> [u8; ETHERNET_BYTES + IPV6_BYTES + ADVERTISEMENT_BYTES] {
    let mut advertisement = [0; ADVERTISEMENT_BYTES];
    advertisement[0] = NEIGHBOUR_ADVERTISEMENT;
    advertisement[4] = FLAG_OVERRIDE;
    advertisement[8..24].copy_from_slice(&vip.octets());
    advertisement[24..26].copy_from_slice(&TARGET_LINK_LAYER_ADDRESS);
    advertisement[26..].copy_from_slice(&mac.0);
    let checksum = icmpv6_checksum(vip, ALL_NODES, &advertisement);
    advertisement[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = Frame::new(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.put(&0x6000_0000u32.to_be_bytes()); // version 6, no class, no flow label
    frame.put(&(ADVERTISEMENT_BYTES as u16).to_be_bytes());
    frame.put(&[ICMPV6, HOP_LIMIT]);
    frame.put(&vip.octets());
    frame.put(&ALL_NODES.octets());
    frame.put(&advertisement);
    frame.bytes
}

/// RFC 4443 §2.3, over a message whose checksum field is zero.
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let words = [
        &source.octets()[..],
        &destination.octets(),
        &length,
        &[0, 0, 0, ICMPV6],
        message,
    ];
    let mut sum: u32 = 0;
    for bytes in words {
        for pair in bytes.chunks(2) {
            let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u32::from(u16::from_be_bytes(word));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame of known length being written from its start.
struct Frame<const BYTES: usize> {
    bytes: [u8; BYTES],
    written: usize,
}

impl<const BYTES: usize> Frame<BYTES> {
    fn new(destination: Mac, source: Mac, ethertype: u16) -> Self {
        let mut frame = Self {
            bytes: [0; BYTES],
            written: 0,
        };
        frame.put(&destination.0);
        frame.put(&source.0);
        frame.put(&ethertype.to_be_bytes());
        frame
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.written + bytes.len();
        self.bytes[self.written..end].copy_from_slice(bytes);
        self.written = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0x00, 0x5e, 0x10, 0x20, 0x30]);

    #[test]
    fn the_request_form_asks_for_its_own_address_with_an_empty_target() {
        let frame = gratuitous_arp(MAC, Ipv4Addr::new(198, 51, 100, 10), ArpForm::Request);
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x01,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 198, 51, 100, 10,
            0, 0, 0, 0, 0, 0, 198, 51, 100, 10,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn the_reply_form_names_itself_as_sender_and_target() {
        let frame = gratuitous_arp(MAC, Ipv4Addr::new(198, 51, 100, 10), ArpForm::Reply);
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x02,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 198, 51, 100, 10,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 198, 51, 100, 10,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn the_advertisement_overrides_and_carries_the_link_layer_address() {
        let frame = unsolicited_advertisement(MAC, "2001:db8::10".parse().unwrap());
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0, 0, 0, 1, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
            136, 0, 0x7a, 0xcd,
            0x20, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            2, 1, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn a_message_with_its_checksum_in_place_sums_to_zero() {
        let vip = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let frame = unsolicited_advertisement(MAC, vip);
        let message = &frame[ETHERNET_BYTES + IPV6_BYTES..];
        assert_eq!(icmpv6_checksum(vip, ALL_NODES, message), 0);
    }
}
