//! From single outcomes to a verdict that does not flutter. Pure: no clock, no socket.

use super::error::ProbeError;

/// What a backend is, as far as its checks can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fit for traffic.
    Up,
    /// Not fit for traffic.
    Down {
        /// How the deciding probe failed.
        reason: ProbeError,
    },
}

/// Counts consecutive outcomes of one backend's probes.
///
/// A backend starts as down, without a verdict, until its probes pass.
#[derive(Clone, Debug)]
pub struct Threshold {
    rise: u32,
    fall: u32,
    standing: Standing,
    passes: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Down, but nobody has been told why yet: the first failures produce a verdict too.
    Unproven,
    Up,
    Down,
}

impl Threshold {
    /// `rise` passes in a row make a backend up, `fall` failures in a row make it down; 0 counts
    /// as 1 for both.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            standing: Standing::Unproven,
            passes: 0,
            failures: 0,
        }
    }

    /// Whether the backend is up by all that was recorded.
    pub fn is_up(&self) -> bool {
        self.standing == Standing::Up
    }

    /// Takes in one outcome; answers with the verdict if it changed.
    ///
    /// A failure of this host's own changes nothing: running out of file descriptors here must
    /// not take every backend down at once.
    pub fn record(&mut self, outcome: Result<(), ProbeError>) -> Option<Verdict> {
        match outcome {
            Ok(()) => self.passed(),
            Err(reason) if reason.is_local() => None,
            Err(reason) => self.failed(reason),
        }
    }

    fn passed(&mut self) -> Option<Verdict> {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        if self.standing == Standing::Up || self.passes < self.rise {
            return None;
        }
        self.standing = Standing::Up;
        Some(Verdict::Up)
    }

    fn failed(&mut self, reason: ProbeError) -> Option<Verdict> {
        self.passes = 0;
        self.failures = self.failures.saturating_add(1);
        let is_enough = reason.is_decisive() || self.failures >= self.fall;
        if self.standing == Standing::Down || !is_enough {
            return None;
        }
        self.standing = Standing::Down;
        Some(Verdict::Down { reason })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn timeout() -> ProbeError {
        ProbeError::Timeout {
            after: Duration::from_millis(40),
        }
    }

    fn local() -> ProbeError {
        ProbeError::Local("no file descriptor left".into())
    }

    /// Outcomes as letters: p passed, t timeout, w wrong answer, c closed, r refused, x reset,
    /// l local.
    fn outcome(letter: char) -> Result<(), ProbeError> {
        Err(match letter {
            'p' => return Ok(()),
            't' => timeout(),
            'w' => ProbeError::Malformed("?".into()),
            'c' => ProbeError::Closed,
            'r' => ProbeError::Refused,
            'x' => ProbeError::Reset,
            'l' => local(),
            other => panic!("no outcome is called {other}"),
        })
    }

    /// Verdicts as letters: U up, D down, . none.
    fn verdicts(rise: u32, fall: u32, outcomes: &str) -> String {
        let mut threshold = Threshold::new(rise, fall);
        let letter = |verdict| match verdict {
            None => '.',
            Some(Verdict::Up) => 'U',
            Some(Verdict::Down { .. }) => 'D',
        };
        outcomes
            .chars()
            .map(|o| letter(threshold.record(outcome(o))))
            .collect()
    }

    #[test]
    fn verdicts_follow_the_table() {
        let cases = [
            ("starts as down until it passes", 1, 1, "p", "U"),
            ("needs rise passes in a row", 3, 1, "ppp", "..U"),
            (
                "a failure starts the count of passes anew",
                3,
                2,
                "pptppp",
                ".....U",
            ),
            ("is told once", 1, 1, "pppp", "U..."),
            ("needs fall failures in a row", 1, 3, "pttt", "U..D"),
            (
                "a pass starts the count of failures anew",
                1,
                3,
                "pttpttt",
                "U.....D",
            ),
            ("wrong answers count like timeouts", 1, 3, "ptwc", "U..D"),
            ("one refusal is enough", 1, 5, "pr", "UD"),
            ("one reset is enough", 1, 5, "px", "UD"),
            (
                "a refusal before the first pass gives the reason",
                2,
                5,
                "rrpp",
                "D..U",
            ),
            (
                "timeouts before the first pass give the reason",
                1,
                2,
                "tttp",
                ".D.U",
            ),
            ("down is told once", 1, 1, "ptttr", "UD..."),
            ("comes back by rise passes", 2, 1, "pprpptp", ".UD.UD."),
            (
                "this host's own failures say nothing",
                1,
                1,
                "pllll",
                "U....",
            ),
            ("nor do they start a count anew", 2, 2, "plptlt", "..U..D"),
            ("zero counts as one", 0, 0, "pt", "UD"),
        ];
        for (description, rise, fall, outcomes, expected) in cases {
            assert_eq!(verdicts(rise, fall, outcomes), expected, "{description}");
        }
    }

    #[test]
    fn verdict_down_carries_the_deciding_reason() {
        let mut threshold = Threshold::new(1, 2);
        threshold.record(Ok(()));
        threshold.record(Err(timeout()));
        assert_eq!(
            threshold.record(Err(ProbeError::Closed)),
            Some(Verdict::Down {
                reason: ProbeError::Closed
            })
        );
    }

    proptest! {
        /// Against the definition, written out over the whole history.
        #[test]
        fn verdicts_agree_with_their_definition(
            rise in 1u32..5, fall in 1u32..5, outcomes in "[pptwcrxl]{0,60}",
        ) {
            let told: Vec<char> = verdicts(rise, fall, &outcomes).chars().collect();
            let mut seen = String::new();
            let mut standing = '.';
            for (letter, told) in outcomes.chars().zip(told) {
                if letter != 'l' {
                    seen.push(letter);
                }
                let passes = seen.chars().rev().take_while(|&c| c == 'p').count() as u32;
                let failures = seen.chars().rev().take_while(|&c| c != 'p').count() as u32;
                let now = match letter {
                    'p' if passes >= rise => 'U',
                    'r' | 'x' => 'D',
                    't' | 'w' | 'c' if failures >= fall => 'D',
                    _ => standing,
                };
                prop_assert_eq!(told, if now == standing { '.' } else { now });
                standing = now;
            }
        }
    }
}
