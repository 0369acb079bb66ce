//! "The highest version that was known before an instant", in logarithmic time.

/// Versions and the instants since which they are known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By instant; each version is the highest up to there.
    steps: Vec<(u64, u64)>,
}

impl Known {
    /// Of pairs of instant and version, in any order.
    pub fn new(mut pairs: Vec<(u64, u64)>) -> Self {
        pairs.sort_unstable();
        let mut highest = 0;
        for (_, version) in &mut pairs {
            highest = highest.max(*version);
            *version = highest;
        }
        Self { steps: pairs }
    }

    /// The highest version that was known before `instant`; 0 if none was.
    pub fn before(&self, instant: u64) -> u64 {
        let count = self.steps.partition_point(|(at, _)| *at < instant);
        count.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }

    /// The highest of all.
    pub fn ever(&self) -> u64 {
        self.steps.last().map_or(0, |(_, version)| *version)
    }
}
