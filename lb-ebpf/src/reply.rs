//! Packets that the program answers by itself: echo requests to a VIP, and, where no backend is
//! left, resets and "port unreachable".
//!
//! An answer goes back the way it came: Ethernet addresses swapped, out of the same interface.

use lb_common::address::Address;
use lb_common::checksum;
use lb_common::counters::{Pass, Reply};
use lb_common::packet::{Cursor, Family, ICMPV6, NETWORK_OFFSET, Packet, TCP, Transport};
use lb_common::pool::OnEmpty;
use lb_common::service::Service;
use lb_common::verdict::{DropReason, Verdict};

use crate::cursor::Frame;
use crate::{clock, count, maps};

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const ICMP_LEN: usize = 8;
/// What an ICMP error quotes of the packet behind its IP header (RFC 792).
const QUOTED_LEN: usize = 8;
const TTL: u8 = 64;
const TCP_RST: u8 = 0x04;
const TCP_RST_ACK: u8 = 0x14;
/// ICMP errors per CPU and tick of the coarse clock: RFC 4443 §2.4 (f) wants a limit, and an
/// answer per forged datagram would make the gateway a reflector.
const UNREACHABLES_PER_TICK: u64 = 32;
/// Length of such a tick: 2²³ ns, about 8 ms.
const TICK_SHIFT: u32 = 23;

/// What the service's pool wants done where no backend is left.
#[inline(always)]
pub fn on_empty(frame: &mut Frame<'_>, service: &Service) -> Result<Verdict, DropReason> {
    let packet = maps::kept_packet()?;
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
            Transport::Tcp(_) => reset(frame, packet, Reply::Reset),
            _ => unreachable(frame, packet),
        },
    }
}

/// A packet of a flow whose backend is gone: reset, so that the client begins anew at once. What is never
/// answered with a reset, a reset above all, is dropped.
#[inline(always)]
pub fn backend_lost(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    let packet = maps::kept_packet()?;
    match packet.transport {
        Transport::Tcp(flags) if !flags.resets() => reset(frame, packet, Reply::LossReset),
        _ => Err(DropReason::BackendLost),
    }
}

/// Answers an echo request in place: addresses swapped, type changed, checksums updated.
#[inline(never)]
pub fn echo(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    let packet = maps::kept_packet()?;
    swap_ethernet(frame)?;
    let reply_type = match packet.family {
        Family::V4 => frame.write::<IPV4_LEN>(NETWORK_OFFSET, |header| {
            let ttl = [header[8], header[9]];
            header[8] = TTL;
            let sum = checksum::update([header[10], header[11]], ttl, [TTL, header[9]]);
            header[10..12].copy_from_slice(&sum);
            header[12..16].copy_from_slice(&packet.destination.v4_octets());
            header[16..20].copy_from_slice(&packet.source.v4_octets());
        }),
        Family::V6 => frame.write::<IPV6_LEN>(NETWORK_OFFSET, |header| {
            header[7] = TTL;
            header[8..24].copy_from_slice(&packet.destination.octets());
            header[24..40].copy_from_slice(&packet.source.octets());
        }),
    }
    .map(|()| if packet.family == Family::V4 { 0 } else { 129 })
    .ok_or(DropReason::Internal)?;
    frame
        .write::<4>(packet.transport_offset, |header| {
            let old = [header[0], header[1]];
            header[0] = reply_type;
            let sum = checksum::update([header[2], header[3]], old, [reply_type, header[1]]);
            // The other zero of one's complement is as right wherever this one is, and the only
            // right one for a message that is all zeros.
            let sum = if sum == [0; 2] { [0xff; 2] } else { sum };
            header[2..4].copy_from_slice(&sum);
        })
        .ok_or(DropReason::Internal)?;
    count::reply(Reply::Echo);
    Ok(Verdict::Transmit)
}

/// Answers a segment with a reset: RFC 9293 §3.10.7.1, "if the state is CLOSED".
#[inline(never)]
fn reset(frame: &mut Frame<'_>, packet: &Packet, kind: Reply) -> Result<Verdict, DropReason> {
    let Transport::Tcp(flags) = packet.transport else {
        return Err(DropReason::Internal);
    };
    let segment: &[u8; TCP_LEN] = frame
        .bytes(packet.transport_offset)
        .ok_or(DropReason::Internal)?;
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
    let acknowledged = [segment[8], segment[9], segment[10], segment[11]];
    let data_offset = u32::from(segment[12] >> 4) * 4;
    let header_end = (packet.transport_offset - NETWORK_OFFSET) as u32 + data_offset;
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
    let sum = checksum::sum(&answer) + pseudo_header(packet, TCP, header as u16);
    let sum = checksum::finish(sum);
    answer[checksum_at] = sum[0];
    answer[checksum_at + 1] = sum[1];

    let ip_len = match packet.family {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    let wanted = NETWORK_OFFSET + ip_len + header;
    swap_ethernet(frame)?;
    frame.resize(wanted).ok_or(DropReason::Internal)?;
    match packet.family {
        Family::V4 => {
            answer_header_v4(frame, packet, TCP, header)?;
            frame.write(NETWORK_OFFSET + IPV4_LEN, |bytes| *bytes = answer)
        }
        Family::V6 => {
            answer_header_v6(frame, packet, TCP, header)?;
            frame.write(NETWORK_OFFSET + IPV6_LEN, |bytes| *bytes = answer)
        }
    }
    .ok_or(DropReason::Internal)?;
    count::reply(kind);
    Ok(Verdict::Transmit)
}

/// Answers a datagram with "port unreachable", which quotes its IP header and eight bytes more.
#[inline(always)]
fn unreachable(frame: &mut Frame<'_>, packet: &Packet) -> Result<Verdict, DropReason> {
    if !unreachable_allowed() {
        return Err(DropReason::ReplyLimit);
    }
    match packet.family {
        Family::V4 => unreachable_v4(frame, packet),
        Family::V6 => unreachable_v6(frame, packet),
    }?;
    count::reply(Reply::Unreachable);
    Ok(Verdict::Transmit)
}

#[inline(never)]
fn unreachable_v4(frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    const QUOTE: usize = IPV4_LEN + QUOTED_LEN;
    const ADDED: usize = IPV4_LEN + ICMP_LEN;
    const PORT_UNREACHABLE: [u8; 2] = [3, 3];
    if packet.transport_offset != NETWORK_OFFSET + IPV4_LEN {
        // Options would make the quote longer than what is kept; rare enough to stay silent.
        return Err(DropReason::NoBackend);
    }
    let quote: &[u8; QUOTE] = frame.bytes(NETWORK_OFFSET).ok_or(DropReason::Internal)?;
    let sum = checksum::sum(quote) + u32::from(u16::from_ne_bytes(PORT_UNREACHABLE));
    let ethernet = make_room(frame, ADDED, QUOTE)?;
    write_ethernet(frame, &ethernet)?;
    answer_header_v4(frame, packet, lb_common::packet::ICMP, ICMP_LEN + QUOTE)?;
    write_icmp(frame, NETWORK_OFFSET + IPV4_LEN, PORT_UNREACHABLE, sum)
}

#[inline(never)]
fn unreachable_v6(frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    const QUOTE: usize = IPV6_LEN + QUOTED_LEN;
    const ADDED: usize = IPV6_LEN + ICMP_LEN;
    const PORT_UNREACHABLE: [u8; 2] = [1, 4];
    let quote: &[u8; QUOTE] = frame.bytes(NETWORK_OFFSET).ok_or(DropReason::Internal)?;
    let sum = checksum::sum(quote)
        + u32::from(u16::from_ne_bytes(PORT_UNREACHABLE))
        + pseudo_header(packet, ICMPV6, (ICMP_LEN + QUOTE) as u16);
    let ethernet = make_room(frame, ADDED, QUOTE)?;
    write_ethernet(frame, &ethernet)?;
    answer_header_v6(frame, packet, ICMPV6, ICMP_LEN + QUOTE)?;
    write_icmp(frame, NETWORK_OFFSET + IPV6_LEN, PORT_UNREACHABLE, sum)
}

/// Moves the head so that `added` bytes of new headers stand before the old IP header, cuts the
/// frame behind the quote, and gives back the Ethernet header that the answer needs.
#[inline(always)]
fn make_room(
    frame: &mut Frame<'_>,
    added: usize,
    quote: usize,
) -> Result<[u8; NETWORK_OFFSET], DropReason> {
    let ethernet: &[u8; NETWORK_OFFSET] = frame.bytes(0).ok_or(DropReason::Internal)?;
    let mut swapped = *ethernet;
    swapped[..6].copy_from_slice(&ethernet[6..12]);
    swapped[6..12].copy_from_slice(&ethernet[..6]);
    frame
        .grow_head(added as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .resize(NETWORK_OFFSET + added + quote)
        .ok_or(DropReason::Internal)?;
    Ok(swapped)
}

#[inline(always)]
fn write_ethernet(frame: &mut Frame<'_>, header: &[u8; NETWORK_OFFSET]) -> Result<(), DropReason> {
    frame
        .write::<NETWORK_OFFSET>(0, |bytes| *bytes = *header)
        .ok_or(DropReason::Internal)
}

#[inline(always)]
fn write_icmp(
    frame: &mut Frame<'_>,
    offset: usize,
    kind: [u8; 2],
    sum: u32,
) -> Result<(), DropReason> {
    let sum = checksum::finish(sum);
    frame
        .write::<ICMP_LEN>(offset, |bytes| {
            *bytes = [kind[0], kind[1], sum[0], sum[1], 0, 0, 0, 0];
        })
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

/// The IPv4 header of an answer to `packet` that carries `payload` bytes.
#[inline(always)]
fn answer_header_v4(
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
        .write::<IPV4_LEN>(NETWORK_OFFSET, |bytes| {
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
fn answer_header_v6(
    frame: &mut Frame<'_>,
    packet: &Packet,
    next_header: u8,
    payload: usize,
) -> Result<(), DropReason> {
    frame
        .write::<IPV6_LEN>(NETWORK_OFFSET, |bytes| {
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
fn pseudo_header(packet: &Packet, protocol: u8, length: u16) -> u32 {
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

/// Whether this CPU may send one more ICMP error in this tick.
#[inline(always)]
fn unreachable_allowed() -> bool {
    let Some(word) = maps::unreachables() else {
        return false;
    };
    let tick = clock::now() >> TICK_SHIFT << 32;
    // SAFETY: an element of a per-CPU array, which only this CPU writes.
    let seen = unsafe { *word };
    let count = if seen & !0xffff_ffff == tick {
        seen & 0xffff_ffff
    } else {
        0
    };
    if count >= UNREACHABLES_PER_TICK {
        return false;
    }
    // SAFETY: as above.
    unsafe { *word = tick | (count + 1) };
    true
}
