//! The largest segment size that a SYN announces, lowered to what its service says.

use aya_ebpf::bindings::xdp_md;
use lb_common::checksum;
use lb_common::packet::mss::{self, Announced, TCP_CHECKSUM};
use lb_common::packet::{Packet, TRANSPORT_OFFSET_MAX};

use crate::cursor::Frame;

/// Lowers the MSS option of a SYN to `mss`, if it has one that is larger, and mends the checksum.
#[inline(always)]
pub fn lower(frame: &mut Frame<'_>, packet: &Packet, mss: u16) {
    let end = packet.network_offset as u32 + packet.length;
    lb_lower_mss(
        frame.context(),
        packet.transport_offset as u32,
        end,
        u32::from(mss),
    );
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_lower_mss(context: *mut xdp_md, segment: u32, end: u32, mss: u32) -> u32 {
    let segment = (segment as usize).min(TRANSPORT_OFFSET_MAX);
    lower_in(Frame::of(context), segment, end as usize, mss as u16);
    0
}

#[inline(always)]
fn lower_in(mut frame: Frame<'_>, segment: usize, end: usize, mss: u16) {
    let Some(Announced { at, value }) = mss::announced(&frame, segment, end) else {
        return;
    };
    if u16::from_be_bytes(value) <= mss {
        return;
    }
    let lowered = mss.to_be_bytes();
    // An option may begin at any byte, a checksum counts words from the segment's beginning. In
    // one's complement, bytes that lie across two words count as those of one word swapped.
    let word = |bytes: [u8; 2]| {
        if (at - segment).is_multiple_of(2) {
            bytes
        } else {
            [bytes[1], bytes[0]]
        }
    };
    let written = frame.write::<2>(at, |bytes| *bytes = lowered);
    if written.is_some() {
        frame.write::<2>(segment + TCP_CHECKSUM, |sum| {
            *sum = checksum::update(*sum, word(value), word(lowered));
        });
    }
}
