//! Sets of HTTP statuses. Pure.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A set of HTTP statuses, as ranges. 200 to 399 by default. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Statuses(Arc<[RangeInclusive<u16>]>);

impl Statuses {
    /// The statuses in any of `ranges`.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Whether `status` is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self::new([200..=399])
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            if range.start() == range.end() {
                write!(f, "{separator}{}", range.start())?;
            } else {
                write!(f, "{separator}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statuses({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_as_they_are_written_in_a_configuration() {
        let statuses = Statuses::new([200..=204, 301..=301]);
        assert_eq!(statuses.to_string(), "200-204, 301");
        assert!(statuses.contains(204) && statuses.contains(301) && !statuses.contains(205));
    }
}
