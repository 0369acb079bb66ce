//! Frames with VLAN tags, where they come in or where they leave: they leave with exactly the tags
//! of the port.

use lb_common::backend::{Encapsulation, NextHop};
use lb_common::flow::FlowHash;
use lb_common::packet::{Family, NETWORK_OFFSET, NETWORK_OFFSET_MAX, Packet, TAG_LEN};
use lb_common::port::Port;
use lb_common::verdict::DropReason;

use super::outer::{self, Inner};
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6, mac_addresses};
use crate::cursor::Frame;
use crate::maps::{self, LiveBackend};

/// Replaces everything in front of the packet: addresses, tags, and the tunnel header.
#[inline(always)]
pub fn rewrite(
    frame: &mut Frame<'_>,
    packet: &Packet,
    flow: FlowHash,
    backend: LiveBackend,
    next_hop: NextHop,
) -> Result<(), DropReason> {
    rewrite_cold(frame.lend(), Inner::of(packet), flow, backend, next_hop)
}

#[inline(never)]
fn rewrite_cold(
    mut frame: Frame<'_>,
    inner: Inner,
    flow: FlowHash,
    backend: LiveBackend,
    next_hop: NextHop,
) -> Result<(), DropReason> {
    let port = maps::port(next_hop.port()).ok_or(DropReason::NoDevice)?;
    let before = usize::from(inner.network_offset).min(NETWORK_OFFSET_MAX);
    let behind_tags = NETWORK_OFFSET + port.tags_len();
    match backend.encapsulation() {
        IPV4 => {
            let header = outer::v4(inner, flow, backend.address())?;
            let overhead = Encapsulation::Ipv4.overhead();
            link(&mut frame, before, overhead, next_hop, port, ETHERTYPE_IPV4)?;
            frame.write::<20>(behind_tags, |bytes| outer::write(bytes, &header))
        }
        IPV6 => {
            let header = outer::v6(inner, flow, backend.address())?;
            let overhead = Encapsulation::Ipv6.overhead();
            link(&mut frame, before, overhead, next_hop, port, ETHERTYPE_IPV6)?;
            frame.write::<40>(behind_tags, |bytes| outer::write(bytes, &header))
        }
        _ => {
            let ethertype = match inner.family {
                Family::V4 => ETHERTYPE_IPV4,
                Family::V6 => ETHERTYPE_IPV6,
            };
            return link(&mut frame, before, 0, next_hop, port, ethertype);
        }
    }
    .ok_or(DropReason::Internal)
}

/// Moves the head of the frame, whose packet begins at `before`, so that the port's tags and
/// `overhead` bytes fit in front, and writes all but the latter.
#[inline(always)]
fn link(
    frame: &mut Frame<'_>,
    before: usize,
    overhead: usize,
    next_hop: NextHop,
    port: &Port,
    ethertype: [u8; 2],
) -> Result<(), DropReason> {
    let after = NETWORK_OFFSET + port.tags_len() + overhead;
    frame
        .grow_head(after as i32 - before as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .write::<12>(0, |bytes| mac_addresses(bytes, next_hop, port))
        .ok_or(DropReason::Internal)?;
    let mut at = NETWORK_OFFSET - ethertype.len();
    for tag in port.tags {
        if tag != 0 {
            frame
                .write::<TAG_LEN>(at, |bytes| *bytes = tag.to_be_bytes())
                .ok_or(DropReason::Internal)?;
            at += TAG_LEN;
        }
    }
    frame
        .write::<2>(at, |bytes| *bytes = ethertype)
        .ok_or(DropReason::Internal)
}
