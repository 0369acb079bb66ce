//! To the backend: new Ethernet addresses, and a tunnel header if the pool wants one.
//!
//! Of the packet itself nothing changes, TTL and DSCP neither, but the MSS that a SYN announces
//! where its service says so.

mod mss;
mod outer;
mod tagged;

use lb_common::backend::{Encapsulation, NextHop};
use lb_common::flow::FlowHash;
use lb_common::packet::{NETWORK_OFFSET, Packet};
use lb_common::port::Port;
use lb_common::service::Service;
use lb_common::verdict::{DropReason, Verdict};

use self::outer::Inner;
use crate::cursor::Frame;
use crate::maps::{self, LiveBackend};
use crate::reply;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const ETHERNET: u8 = Encapsulation::Ethernet as u8;
const IPV4: u8 = Encapsulation::Ipv4 as u8;
const IPV6: u8 = Encapsulation::Ipv6 as u8;

const ETHERNET_LEN: usize = NETWORK_OFFSET;
const OUTER_V4_LEN: usize = ETHERNET_LEN + Encapsulation::Ipv4.overhead();
const OUTER_V6_LEN: usize = ETHERNET_LEN + Encapsulation::Ipv6.overhead();

/// What became of a packet that has a backend.
pub enum Sent {
    /// It leaves, changed, for the backend.
    Forwarded(Verdict),
    /// It was answered in place: it does not fit.
    Answered,
}

/// Rewrites the frame for a backend and says where it leaves.
#[inline(always)]
pub fn to(
    frame: &mut Frame<'_>,
    packet: &Packet,
    service: &Service,
    flow: FlowHash,
    backend: LiveBackend,
) -> Result<Sent, DropReason> {
    let next_hop = backend.next_hop();
    if next_hop == NextHop::UNRESOLVED {
        return Err(DropReason::NoNextHop);
    }
    let port = maps::port(next_hop.port()).ok_or(DropReason::NoDevice)?;
    let encapsulation = backend.encapsulation();
    let overhead = match encapsulation {
        ETHERNET => 0,
        IPV4 => Encapsulation::Ipv4.overhead(),
        IPV6 => Encapsulation::Ipv6.overhead(),
        _ => return Err(DropReason::Internal),
    } as u32;
    if packet.length + overhead > port.mtu {
        if port.interface_index == 0 {
            return Err(DropReason::NoDevice);
        }
        return reply::too_big(frame, port.mtu.wrapping_sub(overhead)).map(|()| Sent::Answered);
    }
    if packet.opens_flow() && service.mss != 0 {
        mss::lower(frame, packet, service.mss);
    }
    if packet.network_offset != NETWORK_OFFSET || port.tags_len() != 0 {
        tagged::rewrite(frame, packet, flow, backend, next_hop)?;
    } else {
        match encapsulation {
            IPV4 => encapsulate_v4(frame, packet, flow, backend, next_hop, port)?,
            IPV6 => encapsulate_v6(frame, packet, flow, backend, next_hop, port)?,
            _ => rewrite(frame, next_hop, port)?,
        }
    }
    Ok(Sent::Forwarded(
        if port.interface_index == frame.ingress_interface() {
            Verdict::Transmit
        } else {
            Verdict::Redirect(next_hop.port())
        },
    ))
}

#[inline(always)]
fn rewrite(frame: &mut Frame<'_>, next_hop: NextHop, port: &Port) -> Result<(), DropReason> {
    frame
        .write::<12>(0, |bytes| mac_addresses(bytes, next_hop, port))
        .ok_or(DropReason::Internal)
}

#[inline(always)]
fn encapsulate_v4(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    backend: LiveBackend,
    next_hop: NextHop,
    port: &Port,
) -> Result<(), DropReason> {
    let header = outer::v4(Inner::of(packet), flow, backend.address())?;
    frame
        .grow_head(Encapsulation::Ipv4.overhead() as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .write::<OUTER_V4_LEN>(0, |bytes| {
            ethernet(bytes, next_hop, port, ETHERTYPE_IPV4);
            outer::write(&mut bytes[ETHERNET_LEN..], &header);
        })
        .ok_or(DropReason::Internal)
}

#[inline(always)]
fn encapsulate_v6(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    backend: LiveBackend,
    next_hop: NextHop,
    port: &Port,
) -> Result<(), DropReason> {
    let header = outer::v6(Inner::of(packet), flow, backend.address())?;
    frame
        .grow_head(Encapsulation::Ipv6.overhead() as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .write::<OUTER_V6_LEN>(0, |bytes| {
            ethernet(bytes, next_hop, port, ETHERTYPE_IPV6);
            outer::write(&mut bytes[ETHERNET_LEN..], &header);
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
