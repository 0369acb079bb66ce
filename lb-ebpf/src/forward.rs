//! To the backend: new Ethernet addresses, and a tunnel header if the pool wants one.

use lb_common::address::Address;
use lb_common::backend::{Encapsulation, NextHop};
use lb_common::checksum;
use lb_common::flow::FlowHash;
use lb_common::packet::{Family, NETWORK_OFFSET, Packet};
use lb_common::port::Port;
use lb_common::settings::Settings;
use lb_common::verdict::{DropReason, Verdict};

use crate::cursor::Frame;
use crate::maps::{self, LiveBackend};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// "IPv4 in …" and "IPv6 in …" as an IP protocol number or next header.
const PROTOCOL_IPV4: u8 = 4;
const PROTOCOL_IPV6: u8 = 41;
/// TTL and hop limit of the outer header.
const OUTER_TTL: u8 = 64;

const ETHERNET_LEN: usize = NETWORK_OFFSET;
const OUTER_V4_LEN: usize = ETHERNET_LEN + Encapsulation::Ipv4.overhead();
const OUTER_V6_LEN: usize = ETHERNET_LEN + Encapsulation::Ipv6.overhead();

/// Rewrites the frame for a backend and says where it leaves.
#[inline(always)]
pub fn to(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    backend: LiveBackend,
) -> Result<Verdict, DropReason> {
    let next_hop = backend.next_hop();
    if next_hop == NextHop::UNRESOLVED {
        return Err(DropReason::NoNextHop);
    }
    let port = maps::port(next_hop.port()).ok_or(DropReason::NoDevice)?;
    let fits = |overhead: usize| packet.length + overhead as u32 <= port.mtu;
    const ETHERNET: u8 = Encapsulation::Ethernet as u8;
    const IPV4: u8 = Encapsulation::Ipv4 as u8;
    const IPV6: u8 = Encapsulation::Ipv6 as u8;
    match backend.encapsulation() {
        ETHERNET if fits(0) => rewrite(frame, next_hop, port)?,
        IPV4 if fits(Encapsulation::Ipv4.overhead()) => {
            encapsulate_v4(frame, packet, flow, backend.address(), next_hop, port)?;
        }
        IPV6 if fits(Encapsulation::Ipv6.overhead()) => {
            encapsulate_v6(frame, packet, flow, backend.address(), next_hop, port)?;
        }
        ETHERNET | IPV4 | IPV6 if port.interface_index != 0 => return Err(DropReason::TooBig),
        ETHERNET | IPV4 | IPV6 => return Err(DropReason::NoDevice),
        _ => return Err(DropReason::Internal),
    }
    Ok(if port.interface_index == frame.ingress_interface() {
        Verdict::Transmit
    } else {
        Verdict::Redirect(next_hop.port())
    })
}

#[inline(always)]
fn rewrite(frame: &mut Frame<'_>, next_hop: NextHop, port: &Port) -> Result<(), DropReason> {
    frame
        .write::<12>(0, |bytes| mac_addresses(bytes, next_hop, port))
        .ok_or(DropReason::Internal)
}

/// RFC 2003. DSCP and ECN are the inner packet's own (RFC 6040, normal mode).
#[inline(always)]
fn encapsulate_v4(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    destination: &Address,
    next_hop: NextHop,
    port: &Port,
) -> Result<(), DropReason> {
    let settings: &Settings = maps::settings().ok_or(DropReason::Internal)?;
    let source = settings.tunnel_source_v4.words[3] ^ flow.entropy() & settings.tunnel_fill_v4;
    let overhead = Encapsulation::Ipv4.overhead();
    let [length_high, length_low] = (packet.length as u16 + overhead as u16).to_be_bytes();
    let words = [
        u32::from_ne_bytes([0x45, packet.traffic_class, length_high, length_low]),
        // Identification 0, "don't fragment": an atomic datagram (RFC 6864 §4).
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([OUTER_TTL, inner_protocol(packet), 0, 0]),
        source,
        destination.words[3],
    ];
    let [checksum_high, checksum_low] = checksum::finish_words(&words);
    frame
        .grow_head(overhead as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .write::<OUTER_V4_LEN>(0, |bytes| {
            ethernet(bytes, next_hop, port, ETHERTYPE_IPV4);
            bytes[14..18].copy_from_slice(&words[0].to_ne_bytes());
            bytes[18..22].copy_from_slice(&words[1].to_ne_bytes());
            bytes[22..26].copy_from_slice(&words[2].to_ne_bytes());
            bytes[24] = checksum_high;
            bytes[25] = checksum_low;
            bytes[26..30].copy_from_slice(&source.to_ne_bytes());
            bytes[30..34].copy_from_slice(&destination.v4_octets());
        })
        .ok_or(DropReason::Internal)
}

/// RFC 2473. The flow label varies with the flow, for routers that spread by it (RFC 6438).
#[inline(always)]
fn encapsulate_v6(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    destination: &Address,
    next_hop: NextHop,
    port: &Port,
) -> Result<(), DropReason> {
    let settings: &Settings = maps::settings().ok_or(DropReason::Internal)?;
    let mut source = settings.tunnel_source_v6;
    source.words[3] ^= flow.entropy() & settings.tunnel_fill_v6;
    const FLOW_LABEL: u32 = 0x000f_ffff;
    let first =
        0x6000_0000 | u32::from(packet.traffic_class) << 20 | (flow.entropy() >> 12) & FLOW_LABEL;
    let payload_length = (packet.length as u16).to_be_bytes();
    frame
        .grow_head(Encapsulation::Ipv6.overhead() as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .write::<OUTER_V6_LEN>(0, |bytes| {
            ethernet(bytes, next_hop, port, ETHERTYPE_IPV6);
            bytes[14..18].copy_from_slice(&first.to_be_bytes());
            bytes[18..20].copy_from_slice(&payload_length);
            bytes[20] = inner_protocol(packet);
            bytes[21] = OUTER_TTL;
            bytes[22..38].copy_from_slice(&source.octets());
            bytes[38..54].copy_from_slice(&destination.octets());
        })
        .ok_or(DropReason::Internal)
}

#[inline(always)]
fn ethernet<const N: usize>(
    bytes: &mut [u8; N],
    next_hop: NextHop,
    port: &Port,
    ethertype: [u8; 2],
) {
    mac_addresses(bytes, next_hop, port);
    bytes[12..14].copy_from_slice(&ethertype);
}

/// Both addresses in two words: byte by byte they would be twelve loads and twelve stores.
#[inline(always)]
fn mac_addresses<const N: usize>(bytes: &mut [u8; N], next_hop: NextHop, port: &Port) {
    let source = port.mac_word();
    let first = next_hop.mac_word() | source << 48;
    let second = (source >> 16) as u32;
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..12].copy_from_slice(&second.to_le_bytes());
}

#[inline(always)]
fn inner_protocol(packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => PROTOCOL_IPV4,
        Family::V6 => PROTOCOL_IPV6,
    }
}
