//! Reads packets of every kind. What is read lies in a map: it is too much for the stack of functions
//! that are not inlined, which hand it to each other.

use aya_ebpf::bindings::xdp_md;
use lb_common::packet::{Packet, odd};
use lb_common::verdict::DropReason;

use crate::cursor::Frame;
use crate::maps;

/// Where a packet lies that goes through the pipeline.
const PIPELINE: u32 = 0;
/// Where a packet lies that is answered: a place of its own, because the pipeline still refers to
/// the other.
const REPLY: u32 = 1;

/// The packet in the frame; `None` if it is nothing that can be ours.
#[inline(always)]
pub fn packet<'a>(frame: &mut Frame<'_>) -> Option<&'a mut Packet> {
    if lb_read(frame.context(), PIPELINE) == 0 {
        return None;
    }
    let packet = maps::packet(PIPELINE)?;
    // SAFETY: an element of a per-CPU array, which only this CPU refers to, and it does so here only,
    // once for each frame.
    Some(unsafe { &mut *packet })
}

/// Reads the packet once more for a function that is to answer it: the many packets that are not
/// answered need not be kept in memory for the few that are. By the caller, not by that function: the
/// deeper the calls, the less stack there is for each.
#[inline(always)]
pub fn again(frame: &mut Frame<'_>) -> Result<(), DropReason> {
    if lb_read(frame.context(), REPLY) == 0 {
        return Err(DropReason::Internal);
    }
    Ok(())
}

/// The packet as [`again`] read it.
#[inline(always)]
pub fn packet_to_answer<'a>() -> Result<&'a Packet, DropReason> {
    let packet = maps::packet(REPLY).ok_or(DropReason::Internal)?;
    // SAFETY: as above; it is read once more only when the frame is answered.
    Ok(unsafe { &*packet })
}

/// Whether the packet could be read. Global, so that the verifier follows it once and not again from
/// each place where it is called ("BPF program is too large").
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn lb_read(context: *mut xdp_md, index: u32) -> u32 {
    let frame = Frame::of(context);
    let (Some(place), Some(packet)) = (maps::packet(index), odd::parse(&frame)) else {
        return 0;
    };
    // SAFETY: as above.
    unsafe { place.write(packet) };
    1
}
