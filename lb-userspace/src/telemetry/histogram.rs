//! How long things take: histograms of which percentiles are read. Of one thread; nothing is locked.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Buckets of one power of two: an error of at most one in eight.
const BUCKETS_A_POWER: usize = 8;
/// Powers of two of microseconds: up to half an hour.
const POWERS: usize = 32;

/// How long something takes, in microseconds, by buckets that grow with it.
#[derive(Debug)]
pub struct Histogram {
    buckets: RefCell<Box<[u32; BUCKETS_A_POWER * POWERS]>>,
    count: Cell<u64>,
    sum_us: Cell<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: RefCell::new(Box::new([0; BUCKETS_A_POWER * POWERS])),
            count: Cell::new(0),
            sum_us: Cell::new(0),
        }
    }
}

fn bucket(us: u64) -> usize {
    let (us, step) = (us.max(1), BUCKETS_A_POWER as u64);
    let power = us.ilog2();
    // Below eight microseconds each has a bucket of its own.
    let within = if power < 3 {
        (us << (3 - power)) - step
    } else {
        (us >> (power - 3)) - step
    };
    let place = power as usize * BUCKETS_A_POWER + usize::try_from(within).unwrap_or(0);
    place.min(BUCKETS_A_POWER * POWERS - 1)
}

/// The longest time that falls into a bucket.
fn upper_us(place: usize) -> f64 {
    let (power, within) = (place / BUCKETS_A_POWER, place % BUCKETS_A_POWER);
    let power = i32::try_from(power).unwrap_or(i32::MAX);
    let parts = u32::try_from(within + 1).unwrap_or(u32::MAX);
    2f64.powi(power) * (1.0 + f64::from(parts) / 8.0)
}

impl Histogram {
    /// Counts one that took so long.
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut buckets = self.buckets.borrow_mut();
        let bucket = &mut buckets[bucket(us)];
        *bucket = bucket.saturating_add(1);
        self.count.set(self.count.get() + 1);
        self.sum_us.set(self.sum_us.get().saturating_add(us));
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// How long all of them took together, in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }

    /// The time that a share of all did not exceed, in microseconds; 0 if there was nothing.
    #[must_use]
    pub fn percentile_us(&self, share: f64) -> f64 {
        let buckets = self.buckets.borrow();
        let all: u64 = buckets.iter().map(|&count| u64::from(count)).sum();
        let mut seen = 0u64;
        for (place, &count) in buckets.iter().enumerate() {
            seen += u64::from(count);
            if count > 0 && seen as f64 >= all as f64 * share {
                return upper_us(place);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_one_part_in_eight() {
        let histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.add(Duration::from_micros(us));
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let read = histogram.percentile_us(share);
            assert!((exact..=exact * 1.126).contains(&read), "{share}: {read}");
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.sum_us(), 500_500);
    }

    #[test]
    fn every_time_has_a_bucket() {
        for us in [0, 1, 7, 8, 9, u64::from(u32::MAX), u64::MAX] {
            assert!(bucket(us) < BUCKETS_A_POWER * POWERS);
        }
        assert_eq!(Histogram::default().percentile_us(0.5), 0.0);
    }
}
