//! SYNs that come again: the sign that a backend does not answer, seen without a table of flows.

use lb_common::event::{AGENT_SILENT_NS, FINGERPRINTS, REPEATED_AFTER_NS, REPEATED_UNTIL_NS};
use lb_common::flow::FlowHash;

use crate::{clock, maps};

/// Fingerprints keep the time in units of 2²⁰ ns, about a millisecond: 32 bits of them are 52 days.
const AGE_SHIFT: u32 = 20;
const AFTER: u32 = (REPEATED_AFTER_NS >> AGE_SHIFT) as u32;
const UNTIL: u32 = (REPEATED_UNTIL_NS >> AGE_SHIFT) as u32;

/// A SYN beside what its cell has: an aligned word of the map, which other CPUs write at any time.
/// Whose SYN comes last has the cell.
struct Fingerprint {
    cell: *mut u64,
    mark: u32,
    now: u32,
}

impl Fingerprint {
    #[inline(always)]
    fn of(flow: FlowHash, sequence: u32) -> Option<Self> {
        Some(Self {
            cell: maps::fingerprint(flow.entropy() & (FINGERPRINTS - 1))?,
            mark: flow.entropy() ^ sequence.wrapping_mul(0x9e37_79b1),
            now: (clock::ticking() >> AGE_SHIFT) as u32,
        })
    }

    /// How long ago the same SYN came, if it did and that is not too long ago.
    #[inline(always)]
    fn age(&self) -> Option<u32> {
        // SAFETY: as the type says.
        let seen = unsafe { self.cell.read_volatile() };
        let age = self.now.wrapping_sub(seen as u32);
        ((seen >> 32) as u32 == self.mark && age < UNTIL).then_some(age)
    }

    /// `again` is what to do if it is.
    #[inline(always)]
    fn is_repeated(&self, again: impl FnOnce()) -> bool {
        match self.age() {
            // The network doubled it.
            Some(age) if age < AFTER => false,
            Some(_) => {
                again();
                true
            }
            None => {
                self.leave();
                false
            }
        }
    }

    #[inline(always)]
    fn leave(&self) {
        // SAFETY: as the type says.
        unsafe {
            self.cell
                .write_volatile(u64::from(self.mark) << 32 | u64::from(self.now));
        }
    }
}

/// Whether a SYN of this flow with this sequence number was seen before, within seconds. If not, it is
/// remembered; if so, nothing is changed, and [`is_repeated`] will say so too.
///
/// Another SYN that falls on the same cell makes the first forgotten: then a repetition is
/// missed, once. Two SYNs with one fingerprint, of 2³², are taken for one.
#[inline(always)]
pub fn may_be_repeated(flow: FlowHash, sequence: u32) -> bool {
    match Fingerprint::of(flow, sequence) {
        Some(fingerprint) => fingerprint.is_repeated(|| ()),
        None => false,
    }
}

/// The same, and it is remembered in any case.
#[inline(always)]
pub fn is_repeated(flow: FlowHash, sequence: u32) -> bool {
    match Fingerprint::of(flow, sequence) {
        Some(fingerprint) => fingerprint.is_repeated(|| fingerprint.leave()),
        None => false,
    }
}

/// Whether an agent served here and has given no sign of life for too long.
#[inline(always)]
pub fn is_agent_silent() -> bool {
    let beat = maps::heartbeat();
    beat != 0 && clock::now().saturating_sub(beat) > AGENT_SILENT_NS
}
