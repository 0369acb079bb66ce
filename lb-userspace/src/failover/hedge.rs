//! When a read that has no answer yet is sent to a second server as well: later than nearly every
//! read takes, and only so often.

use std::time::Duration;

/// Second copies that may be sent at once, if there were none for a while.
pub const HEDGES_SAVED_MAX: u32 = 20;
/// Each so many reads allow one second copy.
const READS_PER_HEDGE: u32 = 20;
/// Never sooner: below lies the scheduler's noise.
const DELAY_MIN: Duration = Duration::from_millis(5);
/// Never later: with what a second server takes, a read stays below 250 ms.
const DELAY_MAX: Duration = Duration::from_millis(100);

/// How long reads take, and how many second copies may be sent.
#[derive(Clone, Debug)]
pub struct Hedges {
    /// Mean and mean deviation in microseconds, as TCP estimates its round trips (RFC 6298).
    mean_us: u64,
    deviation_us: u64,
    /// In parts of a hedge.
    saved: u32,
    sent: u64,
}

impl Default for Hedges {
    fn default() -> Self {
        Self {
            mean_us: 0,
            deviation_us: 0,
            saved: HEDGES_SAVED_MAX * READS_PER_HEDGE,
            sent: 0,
        }
    }
}

impl Hedges {
    /// A read was answered after so long.
    pub fn answered(&mut self, took: Duration) {
        let took_us = u64::try_from(took.as_micros())
            .unwrap_or(u64::MAX / 8)
            .min(1 << 40);
        if self.mean_us == 0 {
            self.mean_us = took_us;
            self.deviation_us = took_us / 2;
        } else {
            let off_us = self.mean_us.abs_diff(took_us);
            self.deviation_us = (self.deviation_us * 3 + off_us) / 4;
            self.mean_us = (self.mean_us * 7 + took_us) / 8;
        }
        self.saved = (self.saved + 1).min(HEDGES_SAVED_MAX * READS_PER_HEDGE);
    }

    /// After how long a read is worth a second copy.
    #[must_use]
    pub fn delay(&self) -> Duration {
        if self.mean_us == 0 {
            return DELAY_MAX;
        }
        Duration::from_micros(self.mean_us + 8 * self.deviation_us).clamp(DELAY_MIN, DELAY_MAX)
    }

    /// Takes one second copy of what is allowed; false if there is none.
    pub fn take(&mut self) -> bool {
        let Some(left) = self.saved.checked_sub(READS_PER_HEDGE) else {
            return false;
        };
        self.saved = left;
        self.sent += 1;
        true
    }

    /// How many were sent.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }
}
