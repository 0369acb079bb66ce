//! When to probe: on schedule, early when asked, never in a storm. No clock: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::Cause;

/// The shortest interval; shorter ones would be a busy loop, and timers tick in milliseconds.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The most jitter, as a share of the interval.
const JITTER_MAX: f64 = 0.5;
/// First probes are spread over an interval, but not over more than this: a backend gets no
/// traffic before its first probes.
const FIRST_SPREAD_MAX: Duration = Duration::from_millis(100);
/// Early probes begin at least this share of an interval after one another ...
const TRIGGER_GAP_SHARE: u32 = 4;
/// ... or this, where the interval is long.
const TRIGGER_GAP_MAX: Duration = Duration::from_millis(250);

/// One target's timetable. The interval runs from the start of one probe to that of the next.
pub(super) struct Pace {
    interval: Duration,
    jitter: f64,
    due: Instant,
    /// No early probe before this.
    early_not_before: Instant,
}

impl Pace {
    pub(super) fn new(interval: Duration, jitter: f64, now: Instant) -> Self {
        let interval = interval.max(INTERVAL_MIN);
        let jitter = if jitter.is_finite() {
            jitter.clamp(0.0, JITTER_MAX)
        } else {
            0.0
        };
        let spread = if jitter > 0.0 {
            interval.min(FIRST_SPREAD_MAX)
        } else {
            Duration::ZERO
        };
        let due = now + spread.mul_f64(fastrand::f64());
        Self {
            interval,
            jitter,
            due,
            early_not_before: now,
        }
    }

    /// The time from one start to the next, before jitter.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// When the next probe may begin, given whether something asks for it early.
    pub(super) fn due(&self, is_early: bool) -> Instant {
        if is_early {
            self.due.min(self.early_not_before)
        } else {
            self.due
        }
    }

    /// Learns when a probe ran, and sets the next.
    pub(super) fn probed(&mut self, cause: Cause, began: Instant, ended: Instant) {
        let gap = (self.interval / TRIGGER_GAP_SHARE).min(TRIGGER_GAP_MAX);
        let next = match cause {
            // From when it was due rather than when it began, or every timer's lateness would
            // lengthen every interval.
            Cause::Schedule => self.due + self.step(),
            Cause::Trigger => began + self.step(),
            // Look twice: a killed process closes its descriptors one by one, and its listener
            // may outlive the idle connection by a moment.
            Cause::Hold => began + gap,
        };
        // A probe that is overdue by now runs at once; missed ones are not made up for.
        self.due = next.max(ended);
        if cause != Cause::Schedule {
            self.early_not_before = began + gap;
        }
    }

    /// The interval, shortened by jitter.
    fn step(&self) -> Duration {
        self.interval.mul_f64(1.0 - self.jitter * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace(interval: Duration) -> (Pace, Instant) {
        let now = Instant::now();
        (Pace::new(interval, 0.0, now), now)
    }

    #[test]
    fn the_interval_runs_from_start_to_start_and_lateness_does_not_add_up() {
        let (mut pace, start) = pace(10 * MS);
        assert_eq!(pace.due(false), start);
        pace.probed(Cause::Schedule, start + MS, start + 4 * MS);
        assert_eq!(pace.due(false), start + 10 * MS);
        pace.probed(Cause::Schedule, start + 11 * MS, start + 12 * MS);
        assert_eq!(pace.due(false), start + 20 * MS);
    }

    #[test]
    fn an_overdue_probe_runs_once_and_missed_ones_are_not_made_up_for() {
        let (mut pace, start) = pace(10 * MS);
        pace.probed(Cause::Schedule, start, start + 55 * MS);
        assert_eq!(pace.due(false), start + 55 * MS);
        pace.probed(Cause::Schedule, start + 55 * MS, start + 56 * MS);
        assert_eq!(pace.due(false), start + 65 * MS);
    }

    #[test]
    fn an_early_probe_runs_at_once_and_the_next_one_a_gap_later() {
        let (mut pace, start) = pace(40 * MS);
        pace.probed(Cause::Schedule, start, start);
        assert!(pace.due(true) <= start + MS);
        pace.probed(Cause::Trigger, start + MS, start + 2 * MS);
        assert_eq!(pace.due(true), start + 11 * MS);
        assert_eq!(pace.due(false), start + 41 * MS, "the interval starts anew");
    }

    #[test]
    fn the_gap_between_early_probes_is_short_even_if_the_interval_is_long() {
        let (mut pace, start) = pace(Duration::from_secs(60));
        pace.probed(Cause::Trigger, start, start);
        assert_eq!(pace.due(true), start + TRIGGER_GAP_MAX);
    }

    #[test]
    fn a_probe_that_the_hold_asked_for_is_followed_by_a_second_look() {
        let (mut pace, start) = pace(40 * MS);
        pace.probed(Cause::Hold, start, start);
        assert_eq!(pace.due(false), start + 10 * MS);
        pace.probed(Cause::Schedule, start + 10 * MS, start + 10 * MS);
        assert_eq!(pace.due(false), start + 50 * MS);
    }

    #[test]
    fn jitter_only_shortens_an_interval_and_spreads_first_probes() {
        let now = Instant::now();
        let mut firsts = Vec::new();
        for _ in 0..200 {
            let pace = Pace::new(100 * MS, 0.5, now);
            firsts.push(pace.due(false));
            assert!(pace.due(false) < now + 100 * MS);
            assert!(pace.step() > 49 * MS && pace.step() <= 100 * MS);
        }
        firsts.sort();
        firsts.dedup();
        assert!(firsts.len() > 100, "first probes must not fall together");
    }

    #[test]
    fn settings_out_of_range_are_brought_into_it() {
        let now = Instant::now();
        for jitter in [-1.0, 7.0, f64::NAN, f64::INFINITY] {
            let pace = Pace::new(Duration::ZERO, jitter, now);
            assert!(
                pace.step() >= INTERVAL_MIN / 2 && pace.step() <= INTERVAL_MIN,
                "{jitter}"
            );
        }
    }
}
