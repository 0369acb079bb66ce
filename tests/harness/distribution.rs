//! Summaries of measured values, and how they print.

use std::fmt;
use std::time::Duration;

/// Rows of a printed histogram.
const HISTOGRAM_ROWS: usize = 10;
/// Width of a histogram's longest bar, in characters.
const BAR_WIDTH_MAX: usize = 40;

/// Sorted values with a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    values: Vec<f64>,
    unit: &'static str,
}

impl Distribution {
    /// Of any values; those that are not numbers are left out.
    pub fn new(values: impl IntoIterator<Item = f64>, unit: &'static str) -> Distribution {
        let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        Distribution { values, unit }
    }

    /// Of durations, in milliseconds.
    pub fn of_durations(durations: impl IntoIterator<Item = Duration>) -> Distribution {
        Distribution::new(
            durations
                .into_iter()
                .map(|duration| duration.as_secs_f64() * 1e3),
            "ms",
        )
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// The smallest value that at least `share` (0.0 ..= 1.0) of all values do not exceed
    /// (nearest rank); NaN without values.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share.clamp(0.0, 1.0) * self.values.len() as f64).ceil() as usize;
        self.values
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// What 95 % do not exceed.
    pub fn p95(&self) -> f64 {
        self.quantile(0.95)
    }

    /// What 99 % do not exceed.
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// A histogram with rows of equal width between the smallest and the largest value.
    pub fn histogram(&self) -> String {
        use std::fmt::Write as _;
        let (low, high) = (self.min(), self.max());
        let width = ((high - low) / HISTOGRAM_ROWS as f64).max(f64::MIN_POSITIVE);
        let mut rows = [0usize; HISTOGRAM_ROWS];
        for value in &self.values {
            let row = ((value - low) / width) as usize;
            rows[row.min(HISTOGRAM_ROWS - 1)] += 1;
        }
        let fullest = rows.iter().copied().max().unwrap_or(0).max(1);
        let mut text = String::new();
        for (row, count) in rows.iter().enumerate().filter(|_| !self.values.is_empty()) {
            let bar = "#".repeat((count * BAR_WIDTH_MAX).div_ceil(fullest));
            let from = low + width * row as f64;
            let _ = writeln!(text, "{from:>10.2} {} {count:>6} {bar}", self.unit);
        }
        text
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "n {}  min {:.2}  median {:.2}  p95 {:.2}  p99 {:.2}  max {:.2} {}",
            self.count(),
            self.min(),
            self.median(),
            self.p95(),
            self.p99(),
            self.max(),
            self.unit,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let hundred = Distribution::new((1..=100).rev().map(f64::from), "ms");
        let found = [
            hundred.min(),
            hundred.median(),
            hundred.p95(),
            hundred.p99(),
            hundred.max(),
        ];
        assert_eq!(found, [1.0, 50.0, 95.0, 99.0, 100.0]);
        assert_eq!(Distribution::new([7.0], "ms").p99(), 7.0);
        assert!(Distribution::new([], "ms").median().is_nan());
    }

    #[test]
    fn a_histogram_counts_every_value_once() {
        let values = Distribution::new((0..57).map(f64::from), "ns");
        let counted: usize = values
            .histogram()
            .lines()
            .map(|line| {
                line.split_whitespace()
                    .nth(2)
                    .unwrap()
                    .parse::<usize>()
                    .unwrap()
            })
            .sum();
        assert_eq!(counted, 57);
        assert_eq!(Distribution::new([], "ns").histogram(), "");
        assert_eq!(
            Distribution::new([3.0, 3.0], "ns")
                .histogram()
                .lines()
                .count(),
            HISTOGRAM_ROWS
        );
    }
}
