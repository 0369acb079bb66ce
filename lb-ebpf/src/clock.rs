//! The time, in monotonic nanoseconds, coarse: it moves with the kernel's tick, every few
//! milliseconds, and costs a tenth of the fine clock.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

use crate::maps;

/// 1 if the loader wants the time taken from `CLOCK`. The verifier knows the value and drops the
/// branch that is not taken.
#[unsafe(no_mangle)]
static CLOCK_IN_MAP: u32 = 0;

/// The time now.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a static that the loader may have changed before the program ran.
    if unsafe { (&raw const CLOCK_IN_MAP).read_volatile() } != 0 {
        return maps::clock_for_tests();
    }
    // SAFETY: a helper without arguments; it reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}
