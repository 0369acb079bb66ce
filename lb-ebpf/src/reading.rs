//! Reads packets of every kind. What is read lies in a map, where every stage finds it: on the stack,
//! which functions that are not inlined share with their callers, it would take too much.

use aya_ebpf::bindings::xdp_md;
use lb_common::packet::{Packet, odd};
use lb_common::verdict::DropReason;

use crate::cursor::Frame;
use crate::maps;

/// Reads the packet in the frame; `false` if it is nothing that can be ours. By the entry, not by the
/// pipeline: the deeper the calls, the less stack there is for each.
#[inline(always)]
pub fn read(frame: &mut Frame<'_>) -> bool {
    lb_read(frame.context()) != 0
}

/// The packet that was read.
#[inline(always)]
pub fn packet<'a>() -> Result<&'a Packet, DropReason> {
    let packet = maps::packet().ok_or(DropReason::Internal)?;
    // SAFETY: an element of a per-CPU array, which only this CPU refers to, and nobody writes between
    // `lb_read` and the frame's verdict.
    Ok(unsafe { &*packet })
}

/// Whether the packet could be read. Global, so that the verifier follows it once, and by itself ("BPF
/// program is too large").
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_read(context: *mut xdp_md) -> u32 {
    let frame = Frame::of(context);
    let (Some(place), Some(packet)) = (maps::packet(), odd::parse(&frame)) else {
        return 0;
    };
    // SAFETY: as above; no reference to the packet of before is left.
    unsafe { place.write(packet) };
    1
}
