//! ICMP and ICMPv6 errors about packets for a VIP: "port unreachable" and "too big". Each quotes as
//! much of its packet as is useful.

use aya_ebpf::bindings::xdp_md;
use lb_common::checksum;
use lb_common::counters::Reply;
use lb_common::packet::{Cursor, Family, ICMP, ICMPV6, NETWORK_OFFSET_MAX, Packet};
use lb_common::verdict::{DropReason, Verdict};

use super::header::{self, IPV4_LEN, IPV6_LEN};
use crate::cursor::Frame;
use crate::{clock, count, maps};
use crate::{global, reading};

const ICMP_LEN: usize = 8;
/// Most bytes that an error quotes, its IP header included. With it an IPv4 error stays below the
/// 576 bytes of RFC 1812 §4.3.2.3 and an IPv6 error below the 1,280 of RFC 4443 §2.4 (c).
const QUOTED_MAX: usize = 512;
/// What is quoted is a multiple of this: the words that are summed.
const QUOTED_UNIT: usize = 4;
/// ICMP errors per CPU and tick of the coarse clock: RFC 4443 §2.4 (f) wants a limit, and an
/// answer per forged datagram would make the gateway a reflector.
const ERRORS_PER_TICK: u64 = 32;
/// Length of such a tick: 2²³ ns, about 8 ms.
const TICK_SHIFT: u32 = 23;

/// Where "don't fragment" stands in an IPv4 header, and its bit.
const IPV4_FLAGS: usize = 6;
const DONT_FRAGMENT: u8 = 0x40;

/// An error in the making: type and code, and the four bytes behind the checksum.
struct Message {
    kind: [u8; 2],
    rest: [u8; 4],
}

/// Answers a datagram with "port unreachable": no backend takes it.
#[inline(always)]
pub fn unreachable(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    global::result(lb_unreachable(frame.context()))?;
    Ok(Verdict::Transmit)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_unreachable(context: *mut xdp_md) -> u32 {
    global::code(unreachable_in(Frame::of(context)))
}

#[inline(always)]
fn unreachable_in(mut frame: Frame<'_>) -> Result<(), DropReason> {
    let packet = reading::packet()?;
    if !packet.is_answerable() {
        return Err(DropReason::NoBackend);
    }
    let kind = match packet.family {
        Family::V4 => [3, 3],
        Family::V6 => [1, 4],
    };
    send(&mut frame, packet, &Message { kind, rest: [0; 4] })?;
    count::reply(Reply::Unreachable);
    Ok(())
}

/// Answers a packet that does not fit with the largest that would: `room` bytes.
#[inline(always)]
pub fn too_big(frame: &mut Frame<'_>, room: u32) -> Result<Verdict, DropReason> {
    global::result(lb_too_big(frame.context(), room))?;
    Ok(Verdict::Transmit)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_too_big(context: *mut xdp_md, room: u32) -> u32 {
    global::code(too_big_in(Frame::of(context), room))
}

#[inline(always)]
fn too_big_in(mut frame: Frame<'_>, room: u32) -> Result<(), DropReason> {
    let packet = reading::packet()?;
    let mtu = packet.mtu_told(room).ok_or(DropReason::TooBig)?;
    let network_offset = packet.network_at();
    let [_, _, high, low] = mtu.to_be_bytes();
    let message = match packet.family {
        Family::V4 => {
            let [flags] = *frame
                .bytes::<1>(network_offset + IPV4_FLAGS)
                .ok_or(DropReason::Internal)?;
            // Whoever lets routers fragment does not listen for what a router cannot pass on.
            if flags & DONT_FRAGMENT == 0 {
                return Err(DropReason::TooBig);
            }
            Message {
                kind: [3, 4],
                rest: [0, 0, high, low],
            }
        }
        Family::V6 => Message {
            kind: [2, 0],
            rest: mtu.to_be_bytes(),
        },
    };
    send(&mut frame, packet, &message)?;
    count::reply(Reply::TooBig);
    Ok(())
}

/// Makes the frame an error about the packet in it, which was not changed yet.
#[inline(always)]
fn send(frame: &mut Frame<'_>, packet: &Packet, message: &Message) -> Result<(), DropReason> {
    if !is_allowed() {
        return Err(DropReason::ReplyLimit);
    }
    let network_offset = packet.network_at();
    let quoted = (packet.length as usize).min(QUOTED_MAX) & !(QUOTED_UNIT - 1);
    let ip_len = match packet.family {
        Family::V4 => IPV4_LEN,
        Family::V6 => IPV6_LEN,
    };
    let payload = ICMP_LEN + quoted;
    let [a, b, c, d] = message.rest;
    let mut sum = sum_of(frame.lend(), network_offset, quoted)
        + checksum::sum(&message.kind)
        + checksum::sum(&[a, b, c, d]);
    if packet.family == Family::V6 {
        sum += header::pseudo(packet, ICMPV6, payload as u16);
    }
    let [high, low] = checksum::finish(sum);
    make_room(frame, network_offset, ip_len + ICMP_LEN, quoted)?;
    match packet.family {
        Family::V4 => header::v4(frame, packet, ICMP, payload),
        Family::V6 => header::v6(frame, packet, ICMPV6, payload),
    }?;
    let [kind, code] = message.kind;
    frame
        .write::<ICMP_LEN>(network_offset + ip_len, |bytes| {
            *bytes = [kind, code, high, low, a, b, c, d];
        })
        .ok_or(DropReason::Internal)
}

/// The folded sum of the `length` bytes at `offset`: as many as the frame has at most, and what is
/// quoted is never more.
#[inline(never)]
fn sum_of(frame: Frame<'_>, offset: usize, length: usize) -> u32 {
    let mut sum = 0u64;
    for word in 0..QUOTED_MAX / QUOTED_UNIT {
        let at = word * QUOTED_UNIT;
        if at >= length {
            break;
        }
        let Some(bytes) = frame.bytes::<QUOTED_UNIT>(offset + at) else {
            break;
        };
        sum += u64::from(u32::from_ne_bytes(*bytes));
    }
    u32::from(checksum::fold_wide(sum))
}

/// Moves the head so that `added` bytes of new headers stand before the old IP header, cuts the
/// frame behind the quote, and writes Ethernet addresses, swapped, and tags in front again.
#[inline(always)]
fn make_room(
    frame: &mut Frame<'_>,
    network_offset: usize,
    added: usize,
    quoted: usize,
) -> Result<(), DropReason> {
    // With fewer tags than can be, the rest is the beginning of the IP header, which is written
    // over.
    let link: &[u8; NETWORK_OFFSET_MAX] = frame.bytes(0).ok_or(DropReason::Internal)?;
    let mut swapped = *link;
    swapped[..6].copy_from_slice(&link[6..12]);
    swapped[6..12].copy_from_slice(&link[..6]);
    frame
        .grow_head(added as i32)
        .ok_or(DropReason::NoHeadroom)?;
    frame
        .resize(network_offset + added + quoted)
        .ok_or(DropReason::Internal)?;
    frame
        .write::<NETWORK_OFFSET_MAX>(0, |bytes| *bytes = swapped)
        .ok_or(DropReason::Internal)
}

/// Whether this CPU may send one more ICMP error in this tick.
#[inline(always)]
fn is_allowed() -> bool {
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
    if count >= ERRORS_PER_TICK {
        return false;
    }
    // SAFETY: as above.
    unsafe { *word = tick | (count + 1) };
    true
}
