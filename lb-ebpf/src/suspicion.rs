//! SYNs that come again: the sign that a backend does not answer, seen without a table of flows.

use lb_common::event::{AGENT_SILENT_NS, FINGERPRINTS, REPEATED_AFTER_NS, REPEATED_UNTIL_NS};
use lb_common::flow::FlowHash;

use crate::{clock, maps};

/// Fingerprints keep the time in units of 2²⁰ ns, about a millisecond: 32 bits of them are 52 days.
const AGE_SHIFT: u32 = 20;
const AFTER: u32 = (REPEATED_AFTER_NS >> AGE_SHIFT) as u32;
const UNTIL: u32 = (REPEATED_UNTIL_NS >> AGE_SHIFT) as u32;

/// Whether a SYN of this flow with this sequence number was seen before, within seconds; remembers it.
///
/// Another SYN that falls on the same cell makes the first forgotten: then a repetition is
/// missed, once. Two SYNs with one fingerprint, of 2³², are taken for one.
#[inline(always)]
pub fn is_repeated(flow: FlowHash, sequence: u32) -> bool {
    let Some(cell) = maps::fingerprint(flow.entropy() & (FINGERPRINTS - 1)) else {
        return false;
    };
    let mark = flow.entropy() ^ sequence.wrapping_mul(0x9e37_79b1);
    let now = (clock::now() >> AGE_SHIFT) as u32;
    // SAFETY: an aligned word of the map, which other CPUs write at any time: whose SYN comes last has
    // the cell.
    let seen = unsafe { cell.read_volatile() };
    let age = now.wrapping_sub(seen as u32);
    let is_same = (seen >> 32) as u32 == mark && age < UNTIL;
    if is_same && age < AFTER {
        return false;
    }
    // SAFETY: as above.
    unsafe { cell.write_volatile(u64::from(mark) << 32 | u64::from(now)) };
    is_same
}

/// Whether an agent served here and has given no sign of life for too long.
#[inline(always)]
pub fn is_agent_silent() -> bool {
    let beat = maps::heartbeat();
    beat != 0 && clock::now().saturating_sub(beat) > AGENT_SILENT_NS
}
