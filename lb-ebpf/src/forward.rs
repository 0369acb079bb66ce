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

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const ETHERNET: u8 = Encapsulation::Ethernet as u8;
const IPV4: u8 = Encapsulation::Ipv4 as u8;
const IPV6: u8 = Encapsulation::Ipv6 as u8;

const ETHERNET_LEN: usize = NETWORK_OFFSET;
const OUTER_V4_LEN: usize = ETHERNET_LEN + Encapsulation::Ipv4.overhead();
const OUTER_V6_LEN: usize = ETHERNET_LEN + Encapsulation::Ipv6.overhead();

/// How a backend is reached at this moment.
pub struct Way {
    next_hop: NextHop,
    port: &'static Port,
    encapsulation: u8,
    /// Bytes that the outer header adds.
    overhead: u32,
}

impl Way {
    /// The way to a backend, if its next hop is known.
    #[inline(always)]
    pub fn to(backend: LiveBackend) -> Result<Self, DropReason> {
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
        Ok(Self {
            next_hop,
            port,
            encapsulation,
            overhead,
        })
    }

    /// Whether the packet can go this way whole.
    #[inline(always)]
    pub fn fits(&self, packet: &Packet) -> bool {
        packet.length + self.overhead <= self.port.mtu
    }

    /// The longest packet that fits, in bytes.
    #[inline(always)]
    pub fn room(&self) -> Result<u32, DropReason> {
        if self.port.interface_index == 0 {
            return Err(DropReason::NoDevice);
        }
        Ok(self.port.mtu.wrapping_sub(self.overhead))
    }

    /// The verdict on a frame that is to go this way.
    #[inline(always)]
    fn verdict(&self, frame: &Frame<'_>) -> Verdict {
        if self.port.interface_index == frame.ingress_interface() {
            Verdict::Transmit
        } else {
            Verdict::Redirect(self.next_hop.port())
        }
    }
}

/// Rewrites the frame for a backend, to which it fits, and says where it leaves.
#[inline(always)]
pub fn to(
    frame: &mut Frame<'_>,
    packet: &Packet,
    service: &Service,
    flow: FlowHash,
    backend: LiveBackend,
    way: &Way,
) -> Result<Verdict, DropReason> {
    if packet.opens_flow() && service.mss != 0 {
        mss::lower(frame, packet, service.mss);
    }
    if packet.network_offset != NETWORK_OFFSET || way.port.tags_len() != 0 {
        tagged::rewrite(frame, packet, flow, backend, way.next_hop)?;
    } else {
        plainly(frame, packet, flow, backend, way)?;
    }
    Ok(way.verdict(frame))
}

/// The same for a plain packet that needs nothing but new addresses and an outer header. `None`, and
/// nothing is changed, if it needs anything else.
#[inline(always)]
pub fn straight_to(
    frame: &mut Frame<'_>,
    packet: &Packet,
    service: &Service,
    flow: FlowHash,
    backend: LiveBackend,
) -> Option<Result<Verdict, DropReason>> {
    let way = Way::to(backend).ok()?;
    let lowers_mss = packet.opens_flow() && service.mss != 0;
    if !way.fits(packet) || way.port.tags_len() != 0 || lowers_mss {
        return None;
    }
    Some(plainly(frame, packet, flow, backend, &way).map(|()| way.verdict(frame)))
}

/// Has the kernel take the frame where the verdict says.
#[inline(always)]
pub fn redirect(verdict: Verdict) -> Result<(), DropReason> {
    match verdict {
        Verdict::Redirect(port) => maps::redirect(port),
        _ => Ok(()),
    }
}

/// From a frame without VLAN tags to one without.
#[inline(always)]
fn plainly(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    backend: LiveBackend,
    way: &Way,
) -> Result<(), DropReason> {
    match way.encapsulation {
        IPV4 => encapsulate_v4(frame, packet, flow, backend, way),
        IPV6 => encapsulate_v6(frame, packet, flow, backend, way),
        _ => rewrite(frame, way),
    }
}

#[inline(always)]
fn rewrite(frame: &mut Frame<'_>, way: &Way) -> Result<(), DropReason> {
    frame
        .write::<12>(0, |bytes| mac_addresses(bytes, way.next_hop, way.port))
        .ok_or(DropReason::Internal)
}

#[inline(always)]
fn encapsulate_v4(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    backend: LiveBackend,
    way: &Way,
) -> Result<(), DropReason> {
    frame
        .grow_head(Encapsulation::Ipv4.overhead() as i32)
        .ok_or(DropReason::NoHeadroom)?;
    let header = outer::v4(Inner::of(packet), flow, backend.address())?;
    frame
        .write::<OUTER_V4_LEN>(0, |bytes| {
            ethernet(bytes, way, ETHERTYPE_IPV4);
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
    way: &Way,
) -> Result<(), DropReason> {
    frame
        .grow_head(Encapsulation::Ipv6.overhead() as i32)
        .ok_or(DropReason::NoHeadroom)?;
    let header = outer::v6(Inner::of(packet), flow, backend.address())?;
    frame
        .write::<OUTER_V6_LEN>(0, |bytes| {
            ethernet(bytes, way, ETHERTYPE_IPV6);
            outer::write(&mut bytes[ETHERNET_LEN..], &header);
        })
        .ok_or(DropReason::Internal)
}

#[inline(always)]
fn ethernet<const N: usize>(bytes: &mut [u8; N], way: &Way, ethertype: [u8; 2]) {
    mac_addresses(bytes, way.next_hop, way.port);
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
