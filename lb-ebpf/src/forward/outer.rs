//! The outer header of a tunnel, in words as they lie in memory.

use lb_common::address::Address;
use lb_common::backend::Encapsulation;
use lb_common::checksum;
use lb_common::flow::FlowHash;
use lb_common::packet::{Family, Packet};
use lb_common::settings::Settings;
use lb_common::verdict::DropReason;

use crate::maps;

/// "IPv4 in …" and "IPv6 in …" as an IP protocol number or next header.
const PROTOCOL_IPV4: u8 = 4;
const PROTOCOL_IPV6: u8 = 41;
/// TTL and hop limit.
const TTL: u8 = 64;

/// What must be known of the packet inside: one word, for a function that takes five at most.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Inner {
    pub length: u32,
    pub traffic_class: u8,
    /// Where it begins in the frame that came in.
    pub network_offset: u8,
    pub family: Family,
}

impl Inner {
    #[inline(always)]
    pub fn of(packet: &Packet) -> Self {
        Self {
            length: packet.length,
            traffic_class: packet.traffic_class,
            network_offset: packet.network_offset as u8,
            family: packet.family,
        }
    }
}

/// RFC 2003. DSCP and ECN are the inner packet's own (RFC 6040, normal mode).
#[inline(always)]
pub fn v4(inner: Inner, flow: FlowHash, destination: &Address) -> Result<[u32; 5], DropReason> {
    let settings: &Settings = maps::settings().ok_or(DropReason::Internal)?;
    let source = settings.tunnel_source_v4.words[3] ^ flow.entropy() & settings.tunnel_fill_v4;
    let length = inner.length as u16 + Encapsulation::Ipv4.overhead() as u16;
    let [length_high, length_low] = length.to_be_bytes();
    let mut words = [
        u32::from_ne_bytes([0x45, inner.traffic_class, length_high, length_low]),
        // Identification 0, "don't fragment": an atomic datagram (RFC 6864 §4).
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([TTL, inner_protocol(inner), 0, 0]),
        source,
        destination.words[3],
    ];
    let [high, low] = checksum::finish_words(&words);
    words[2] |= u32::from_ne_bytes([0, 0, high, low]);
    Ok(words)
}

/// RFC 2473. The flow label varies with the flow, for routers that spread by it (RFC 6438).
#[inline(always)]
pub fn v6(inner: Inner, flow: FlowHash, destination: &Address) -> Result<[u32; 10], DropReason> {
    const FLOW_LABEL: u32 = 0x000f_ffff;
    let settings: &Settings = maps::settings().ok_or(DropReason::Internal)?;
    let source = settings.tunnel_source_v6.words;
    let last = source[3] ^ flow.entropy() & settings.tunnel_fill_v6;
    let first =
        0x6000_0000 | u32::from(inner.traffic_class) << 20 | (flow.entropy() >> 12) & FLOW_LABEL;
    let [length_high, length_low] = (inner.length as u16).to_be_bytes();
    let next = inner_protocol(inner);
    let [a, b, c, d] = destination.words;
    Ok([
        first.to_be(),
        u32::from_ne_bytes([length_high, length_low, next, TTL]),
        source[0],
        source[1],
        source[2],
        last,
        a,
        b,
        c,
        d,
    ])
}

/// Writes a header; `bytes` are just as many.
#[inline(always)]
pub fn write<const WORDS: usize>(bytes: &mut [u8], header: &[u32; WORDS]) {
    for (word, bytes) in header.iter().zip(bytes.as_chunks_mut::<4>().0) {
        *bytes = word.to_ne_bytes();
    }
}

#[inline(always)]
fn inner_protocol(inner: Inner) -> u8 {
    match inner.family {
        Family::V4 => PROTOCOL_IPV4,
        Family::V6 => PROTOCOL_IPV6,
    }
}
