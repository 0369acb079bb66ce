//! IP headers of answers.

use lb_common::address::Address;
use lb_common::checksum;
use lb_common::packet::{Family, Packet};
use lb_common::verdict::DropReason;

use crate::cursor::Frame;

pub const IPV4_LEN: usize = 20;
pub const IPV6_LEN: usize = 40;
pub const TTL: u8 = 64;

/// The IPv4 header of an answer to `packet` that carries `payload` bytes.
#[inline(always)]
pub fn v4(
    frame: &mut Frame<'_>,
    packet: &Packet,
    protocol: u8,
    payload: usize,
) -> Result<(), DropReason> {
    let [length_high, length_low] = ((IPV4_LEN + payload) as u16).to_be_bytes();
    let words = [
        u32::from_ne_bytes([0x45, 0, length_high, length_low]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([TTL, protocol, 0, 0]),
        packet.destination.words[3],
        packet.source.words[3],
    ];
    let sum = checksum::finish_words(&words);
    frame
        .write::<IPV4_LEN>(packet.network_at(), |bytes| {
            bytes[0..4].copy_from_slice(&words[0].to_ne_bytes());
            bytes[4..8].copy_from_slice(&words[1].to_ne_bytes());
            bytes[8..12].copy_from_slice(&words[2].to_ne_bytes());
            bytes[10..12].copy_from_slice(&sum);
            bytes[12..16].copy_from_slice(&words[3].to_ne_bytes());
            bytes[16..20].copy_from_slice(&words[4].to_ne_bytes());
        })
        .ok_or(DropReason::Internal)
}

/// The IPv6 header of an answer to `packet` that carries `payload` bytes.
#[inline(always)]
pub fn v6(
    frame: &mut Frame<'_>,
    packet: &Packet,
    next_header: u8,
    payload: usize,
) -> Result<(), DropReason> {
    frame
        .write::<IPV6_LEN>(packet.network_at(), |bytes| {
            bytes[0..4].copy_from_slice(&[0x60, 0, 0, 0]);
            bytes[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
            bytes[6] = next_header;
            bytes[7] = TTL;
            bytes[8..24].copy_from_slice(&packet.destination.octets());
            bytes[24..40].copy_from_slice(&packet.source.octets());
        })
        .ok_or(DropReason::Internal)
}

/// The sum of the pseudo header of TCP (RFC 9293 §3.1) and ICMPv6 (RFC 8200 §8.1). Both give the
/// same sum for the same fields, and swapping source and destination does not change it.
#[inline(always)]
pub fn pseudo(packet: &Packet, protocol: u8, length: u16) -> u32 {
    let addresses = match packet.family {
        Family::V4 => words_sum(packet.source.words[3]) + words_sum(packet.destination.words[3]),
        Family::V6 => address_sum(&packet.source) + address_sum(&packet.destination),
    };
    addresses
        + u32::from(u16::from_ne_bytes([0, protocol]))
        + u32::from(u16::from_ne_bytes(length.to_be_bytes()))
}

#[inline(always)]
fn address_sum(address: &Address) -> u32 {
    let [a, b, c, d] = address.words;
    words_sum(a) + words_sum(b) + words_sum(c) + words_sum(d)
}

#[inline(always)]
fn words_sum(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}
