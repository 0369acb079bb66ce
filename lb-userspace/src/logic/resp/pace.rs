//! How fast a server answers, and so: which answer is late. Pure.

/// Times are counted by powers of two, in milliseconds; the last place has all that are longer.
const PLACES: usize = 12;
/// So many answers are remembered before older ones count for half.
const REMEMBERED: u32 = 4_096;
/// With fewer nothing is known.
const ENOUGH: u32 = 200;
/// An answer is late after so many times what 99 of 100 take.
const TIMES: u64 = 4;
/// At most so many times the least.
const MOST: u64 = 4;

/// The times that answers of a server took.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    counts: [u32; PLACES],
    total: u32,
}

impl Pace {
    /// An answer took so long.
    pub fn record(&mut self, took_ms: u64) {
        let place = (u64::BITS - took_ms.leading_zeros()) as usize;
        self.counts[place.min(PLACES - 1)] += 1;
        self.total += 1;
        if self.total >= REMEMBERED {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// After how long without a sign an answer is late: `least_ms`, and more where answers usually take
    /// longer, so that a server that is only busy is not taken for one that is lost.
    pub fn late_after_ms(&self, least_ms: u64) -> u64 {
        if self.total < ENOUGH {
            return least_ms;
        }
        let mut beyond = self.total / 100;
        let usual = self.counts.iter().enumerate().rev().find(|(_, count)| {
            let is_there = **count > beyond;
            beyond = beyond.saturating_sub(**count);
            is_there
        });
        // Every time in that place is shorter.
        let usual_ms = usual.map_or(0, |(place, _)| 1 << place);
        (TIMES * usual_ms).clamp(least_ms, MOST * least_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(times: &[(u64, usize)]) -> Pace {
        let mut pace = Pace::default();
        for (time, count) in times {
            (0..*count).for_each(|_| pace.record(*time));
        }
        pace
    }

    #[test]
    fn an_answer_is_late_by_what_is_usual() {
        let late = |times: &[(u64, usize)]| pace(times).late_after_ms(25);
        assert_eq!(late(&[]), 25, "nothing is known");
        assert_eq!(late(&[(0, 1000)]), 25);
        assert_eq!(late(&[(0, 1000), (9, 5)]), 25, "one in two hundred");
        assert_eq!(late(&[(0, 1000), (9, 30)]), 64, "three in a hundred");
        assert_eq!(late(&[(5000, 300)]), 100, "at most");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut pace = pace(&[(9, 1000)]);
        assert_eq!(pace.late_after_ms(25), 64);
        (0..200_000).for_each(|_| pace.record(0));
        assert_eq!(pace.late_after_ms(25), 25);
    }
}
