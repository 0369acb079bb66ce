//! The probes per second that all checkers of a process share.
//!
//! A probe that comes too soon is given a time of its own in the order of asking, so that every
//! target gets its turn: a tight budget makes checks slower, visibly, and starves nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Unused allowance that may be spent at once, as time: enough for the checkers whose timers
/// fall into the same few milliseconds, too little for a burst that hurts.
const BURST: Duration = Duration::from_millis(10);

/// A limit of probes per second, shared by all checkers.
#[derive(Debug)]
pub struct Budget {
    schedule: Mutex<Schedule>,
    per_second: u32,
    granted: AtomicU64,
    deferred: AtomicU64,
}

impl Budget {
    /// Allows `per_second` probes; 0 counts as 1.
    pub fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            schedule: Mutex::new(Schedule::new(per_second)),
            per_second,
            granted: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
        }
    }

    /// Waits for permission to probe. Answers how long the probe was deferred, if it was.
    ///
    /// Dropping the wait is safe: the time given to it passes unused.
    pub(super) async fn take(&self) -> Option<Duration> {
        let now = Instant::now();
        let at = self
            .schedule
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reserve(now);
        self.granted.fetch_add(1, Ordering::Relaxed);
        let wait = at
            .checked_duration_since(now)
            .filter(|wait| !wait.is_zero())?;
        self.deferred.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep_until(at.into()).await;
        Some(wait)
    }

    /// The limit.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Probes admitted so far, deferred ones included.
    pub fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Probes that had to wait so far. A number that grows steadily says that the configured
    /// intervals ask for more than the budget.
    pub fn deferred(&self) -> u64 {
        self.deferred.load(Ordering::Relaxed)
    }

    /// How long a probe that asked now would have to wait.
    pub fn backlog(&self) -> Duration {
        let schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        })
    }
}

/// A token bucket told as times: each probe takes the next free time, and times that nobody
/// took are kept for [`BURST`]. Pure.
#[derive(Debug)]
struct Schedule {
    gap: Duration,
    next: Option<Instant>,
}

impl Schedule {
    fn new(per_second: u32) -> Self {
        Self {
            gap: Duration::from_secs(1) / per_second,
            next: None,
        }
    }

    /// When a probe that asks `now` may begin: now or later.
    fn reserve(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let at = self.next.map_or(earliest, |next| next.max(earliest));
        self.next = Some(at + self.gap);
        at.max(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_idle_budget_admits_at_once_and_defers_after_its_burst() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut schedule = Schedule::new(1000);
        let waits: Vec<_> = (0..13)
            .map(|_| (schedule.reserve(start) - start).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_exceeds_the_budget_and_order_is_kept(
            per_second in 1u32..20_000, pauses in prop::collection::vec(0u64..20_000, 1..200),
        ) {
            let mut schedule = Schedule::new(per_second);
            let mut now = Instant::now() + Duration::from_secs(60);
            let mut times = Vec::new();
            for pause_us in pauses {
                now += Duration::from_micros(pause_us);
                let at = schedule.reserve(now);
                prop_assert!(at >= now);
                times.push(at);
            }
            for first in 0..times.len() {
                for last in first..times.len() {
                    prop_assert!(times[first] <= times[last]);
                    let stretch = times[last] - times[first] + BURST;
                    let allowed = stretch.as_nanos() / schedule.gap.as_nanos() + 1;
                    prop_assert!((last - first) as u128 <= allowed);
                }
            }
        }
    }
}
