//! The time, coarse: it moves with the kernel's tick, every few milliseconds, and costs a tenth of the
//! fine clock.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::maps;

/// 1 if the loader wants the time taken from `CLOCK`. The verifier knows the value and drops the
/// branch that is not taken.
#[unsafe(no_mangle)]
static CLOCK_IN_MAP: u32 = 0;

/// Nanoseconds between two of the kernel's ticks, as the loader found them; 0 if it did not look.
#[unsafe(no_mangle)]
static TICK_NS: u32 = 0;

/// The time now, in monotonic nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    if is_in_map() {
        return maps::clock_for_tests();
    }
    // SAFETY: a helper without arguments; it reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Nanoseconds since some moment, good for short differences only: ticks, which the kernel compiles
/// into the program, where [`now`] is a call that takes as long as half of a packet.
#[inline(always)]
pub fn ticking() -> u64 {
    // SAFETY: as in `is_in_map`.
    let tick_ns = unsafe { (&raw const TICK_NS).read_volatile() };
    if is_in_map() || tick_ns == 0 {
        return now();
    }
    // SAFETY: a helper without arguments; it reads a number.
    unsafe { bpf_jiffies64() }.wrapping_mul(u64::from(tick_ns))
}

#[inline(always)]
fn is_in_map() -> bool {
    // SAFETY: a static that the loader may have changed before the program ran.
    unsafe { (&raw const CLOCK_IN_MAP).read_volatile() != 0 }
}
