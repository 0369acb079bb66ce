//! Packets that the program answers by itself: echo requests to a VIP; resets and "port unreachable"
//! where no backend is left; "too big" where a packet does not fit.
//!
//! An answer goes back the way it came: Ethernet addresses swapped, VLAN tags kept, out of the same
//! interface. Answering is rare: everything here stays out of the way of packets that go on.

mod error;
mod header;

use aya_ebpf::bindings::xdp_md;
use lb_common::checksum;
use lb_common::counters::{Pass, Reply};
use lb_common::packet::{Cursor, Family, Packet, TCP, Transport};
use lb_common::pool::OnEmpty;
use lb_common::service::Service;
use lb_common::verdict::{DropReason, Verdict};

pub use self::error::too_big;
use self::header::{IPV4_LEN, IPV6_LEN, TTL};
use crate::cursor::Frame;
use crate::{count, maps};
use crate::{global, reading};

const TCP_LEN: usize = 20;
const TCP_RST: u8 = 0x04;
const TCP_RST_ACK: u8 = 0x14;

/// What the service's pool wants done where no backend is left.
#[inline(always)]
pub fn on_empty(
    frame: &mut Frame<'_>,
    packet: &Packet,
    service: &Service,
) -> Result<Verdict, DropReason> {
    const DROP: u8 = OnEmpty::Drop as u8;
    const PASS: u8 = OnEmpty::Pass as u8;
    match maps::pool(service.pool)
        .ok_or(DropReason::Internal)?
        .on_empty
    {
        PASS => Ok(Verdict::Pass(Pass::Empty)),
        DROP => Err(DropReason::NoBackend),
        _ => match packet.transport {
            Transport::Tcp(flags) if flags.resets() => Err(DropReason::NoBackend),
            Transport::Tcp(_) => reset(frame, Reply::Reset),
            _ => error::unreachable(frame),
        },
    }
}

/// A packet of a flow whose backend is gone: reset, so that the client begins anew at once. What is
/// never answered with a reset, a reset above all, is dropped.
#[inline(always)]
pub fn backend_lost(frame: &mut Frame<'_>, packet: &Packet) -> Result<Verdict, DropReason> {
    match packet.transport {
        Transport::Tcp(flags) if !flags.resets() => reset(frame, Reply::LossReset),
        _ => Err(DropReason::BackendLost),
    }
}

/// Answers an echo request in place: addresses swapped, type changed, checksums updated.
#[inline(always)]
pub fn echo(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    global::result(lb_echo(frame.context()))?;
    count::reply(Reply::Echo);
    Ok(Verdict::Transmit)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_echo(context: *mut xdp_md) -> u32 {
    global::code(echo_in(Frame::of(context)))
}

#[inline(always)]
fn echo_in(mut frame: Frame<'_>) -> Result<(), DropReason> {
    let packet = reading::packet()?;
    swap_ethernet(&mut frame)?;
    let reply_type = match packet.family {
        Family::V4 => frame.write::<IPV4_LEN>(packet.network_at(), |header| {
            let ttl = [header[8], header[9]];
            header[8] = TTL;
            let sum = checksum::update([header[10], header[11]], ttl, [TTL, header[9]]);
            header[10..12].copy_from_slice(&sum);
            header[12..16].copy_from_slice(&packet.destination.v4_octets());
            header[16..20].copy_from_slice(&packet.source.v4_octets());
        }),
        Family::V6 => frame.write::<IPV6_LEN>(packet.network_at(), |header| {
            header[7] = TTL;
            header[8..24].copy_from_slice(&packet.destination.octets());
            header[24..40].copy_from_slice(&packet.source.octets());
        }),
    }
    .map(|()| if packet.family == Family::V4 { 0 } else { 129 })
    .ok_or(DropReason::Internal)?;
    frame
        .write::<4>(packet.transport_at(), |header| {
            let old = [header[0], header[1]];
            header[0] = reply_type;
            let sum = checksum::update([header[2], header[3]], old, [reply_type, header[1]]);
            // The other zero of one's complement is as right wherever this one is, and the only
            // right one for a message that is all zeros.
            let sum = if sum == [0; 2] { [0xff; 2] } else { sum };
            header[2..4].copy_from_slice(&sum);
        })
        .ok_or(DropReason::Internal)
}

/// Answers a segment with a reset: RFC 9293 §3.10.7.1, "if the state is CLOSED".
/// Counted as `reply`.
#[inline(always)]
pub fn reset(frame: &mut Frame<'_>, reply: Reply) -> Result<Verdict, DropReason> {
    global::result(lb_reset(frame.context()))?;
    count::reply(reply);
    Ok(Verdict::Transmit)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_reset(context: *mut xdp_md) -> u32 {
    global::code(reset_in(Frame::of(context)))
}

#[inline(always)]
fn reset_in(mut frame: Frame<'_>) -> Result<(), DropReason> {
    let packet = reading::packet()?;
    let Transport::Tcp(flags) = packet.transport else {
        return Err(DropReason::Internal);
    };
    let segment: &[u8; TCP_LEN] = frame
        .bytes(packet.transport_at())
        .ok_or(DropReason::Internal)?;
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
    let acknowledged = [segment[8], segment[9], segment[10], segment[11]];
    let data_offset = u32::from(segment[12] >> 4) * 4;
    let header_end = (packet.transport_offset - packet.network_offset) as u32 + data_offset;
    // A header that claims to be longer than its packet gets an answer as if it had no data.
    let data = packet.length.checked_sub(header_end).unwrap_or(0);
    let acknowledge = sequence
        .wrapping_add(data)
        .wrapping_add(flags.sequence_length());

    let (header, checksum_at) = (TCP_LEN, 16);
    let mut answer = [0u8; TCP_LEN];
    answer[0..2].copy_from_slice(&packet.ports[2..4]);
    answer[2..4].copy_from_slice(&packet.ports[0..2]);
    answer[12] = (header as u8 / 4) << 4;
    if flags.acknowledges() {
        answer[4..8].copy_from_slice(&acknowledged);
        answer[13] = TCP_RST;
    } else {
        answer[8..12].copy_from_slice(&acknowledge.to_be_bytes());
        answer[13] = TCP_RST_ACK;
    }
    let sum = checksum::sum(&answer) + header::pseudo(packet, TCP, header as u16);
    let sum = checksum::finish(sum);
    answer[checksum_at] = sum[0];
    answer[checksum_at + 1] = sum[1];

    let ip_len = match packet.family {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    let network_offset = packet.network_at();
    let wanted = network_offset + ip_len + header;
    swap_ethernet(&mut frame)?;
    frame.resize(wanted).ok_or(DropReason::Internal)?;
    match packet.family {
        Family::V4 => {
            header::v4(&mut frame, packet, TCP, header)?;
            frame.write(network_offset + IPV4_LEN, |bytes| *bytes = answer)
        }
        Family::V6 => {
            header::v6(&mut frame, packet, TCP, header)?;
            frame.write(network_offset + IPV6_LEN, |bytes| *bytes = answer)
        }
    }
    .ok_or(DropReason::Internal)
}

#[inline(always)]
fn swap_ethernet(frame: &mut Frame<'_>) -> Result<(), DropReason> {
    frame
        .write::<12>(0, |addresses| {
            let old = *addresses;
            addresses[..6].copy_from_slice(&old[6..]);
            addresses[6..].copy_from_slice(&old[..6]);
        })
        .ok_or(DropReason::Internal)
}
