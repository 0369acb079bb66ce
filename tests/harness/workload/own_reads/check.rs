//! Judges what sessions have seen of their own registers. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{ClientHistory, Step};
use crate::workload::{Failure, Failures};

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Writes that failed, by the reason.
    pub failed_writes: Failures,
    /// Reads that failed, by the reason.
    pub failed_reads: Failures,
    /// What connecting failed with.
    pub connect_failures: Failures,
    /// The longest that a read took, answered or not.
    pub longest_read: Duration,
    /// The longest that a write took, acknowledged or not.
    pub longest_write: Duration,
    /// Reads that showed less than was acknowledged: what they showed, and what was acknowledged.
    pub stale: Vec<(i64, i64)>,
    /// Reads that showed what was never written, or no row at all.
    pub invented: Vec<i64>,
}

impl Verdict {
    /// No read was stale or invented, and nothing hung.
    ///
    /// # Errors
    /// With what was found, if not.
    pub fn expect_own_writes(&self) -> Result<()> {
        ensure!(self.stale.is_empty(), "stale reads: {self}");
        ensure!(
            self.invented.is_empty(),
            "reads of what was never written: {self}"
        );
        let hung = [
            &self.failed_reads,
            &self.failed_writes,
            &self.connect_failures,
        ];
        ensure!(
            hung.iter()
                .all(|failures| !failures.contains_key(&Failure::Hung)),
            "operations hung: {self}"
        );
        Ok(())
    }

    /// How many reads failed, whatever the reason.
    pub fn failed_reads(&self) -> u64 {
        self.failed_reads.values().sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads (longest {:?}, failed {:?}), {} writes (longest {:?}, failed {:?}), not connected {:?}, \
             {} stale {:?}, {} invented",
            self.reads,
            self.longest_read,
            self.failed_reads,
            self.writes,
            self.longest_write,
            self.failed_writes,
            self.connect_failures,
            self.stale.len(),
            self.stale.first(),
            self.invented.len(),
        )
    }
}

pub(super) fn check(clients: &[ClientHistory]) -> Verdict {
    let mut verdict = Verdict::default();
    for client in clients {
        for (failure, count) in &client.connect_failures {
            *verdict.connect_failures.entry(failure.clone()).or_default() += count;
        }
        let mut register = Register::default();
        for (step, &took) in client.steps.iter().zip(&client.took) {
            let longest = match step {
                Step::Write(..) => &mut verdict.longest_write,
                Step::Read(_) => &mut verdict.longest_read,
            };
            *longest = took.max(*longest);
            register.take(step, &mut verdict);
        }
    }
    verdict
}

/// What a session knows of its register.
#[derive(Default)]
struct Register {
    acknowledged: i64,
    /// Failed writes beyond that, any of which may have happened, or may still.
    possible: BTreeSet<i64>,
}

impl Register {
    fn take(&mut self, step: &Step, verdict: &mut Verdict) {
        match step {
            Step::Write(value, Ok(())) => {
                verdict.writes += 1;
                self.acknowledged = *value;
            }
            Step::Write(value, Err(failure)) => {
                *verdict.failed_writes.entry(failure.clone()).or_default() += 1;
                self.possible.insert(*value);
            }
            Step::Read(Ok(Some(value))) if *value == self.acknowledged => verdict.reads += 1,
            // A failed write that happened counts from now on: going back behind it is stale as well.
            Step::Read(Ok(Some(value)))
                if *value > self.acknowledged && self.possible.contains(value) =>
            {
                verdict.reads += 1;
                self.acknowledged = *value;
            }
            Step::Read(Ok(Some(value))) if *value < self.acknowledged => {
                verdict.reads += 1;
                verdict.stale.push((*value, self.acknowledged));
            }
            Step::Read(Ok(value)) => {
                verdict.reads += 1;
                verdict.invented.push(value.unwrap_or(-1));
            }
            Step::Read(Err(failure)) => {
                *verdict.failed_reads.entry(failure.clone()).or_default() += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(steps: Vec<Step>) -> Verdict {
        let took = vec![Duration::from_millis(1); steps.len()];
        check(&[ClientHistory {
            steps,
            took,
            ..ClientHistory::default()
        }])
    }

    fn read(value: i64) -> Step {
        Step::Read(Ok(Some(value)))
    }

    #[test]
    fn sessions_that_see_their_writes_are_content() {
        let verdict = verdict(vec![
            read(0),
            Step::Write(1, Ok(())),
            read(1),
            Step::Write(2, Err(Failure::Closed)),
            read(1),
            read(2),
            Step::Write(3, Err(Failure::Sqlstate("57P03".to_owned()))),
            Step::Write(4, Ok(())),
            Step::Read(Err(Failure::Sqlstate("08006".to_owned()))),
            read(4),
        ]);
        verdict.expect_own_writes().expect("all is well");
        assert_eq!(
            (verdict.reads, verdict.writes, verdict.failed_reads()),
            (5, 2, 1)
        );
    }

    #[test]
    fn stale_and_invented_reads_are_noticed() {
        let failed = || Step::Write(2, Err(Failure::Closed));
        for (what, steps) in [
            (
                "older than acknowledged",
                vec![Step::Write(1, Ok(())), read(0)],
            ),
            (
                "back behind what was seen",
                vec![Step::Write(1, Ok(())), failed(), read(2), read(1)],
            ),
            ("never written", vec![Step::Write(1, Ok(())), read(7)]),
            ("gone", vec![Step::Write(1, Ok(())), Step::Read(Ok(None))]),
            ("hung", vec![Step::Read(Err(Failure::Hung))]),
        ] {
            let verdict = verdict(steps);
            assert!(verdict.expect_own_writes().is_err(), "{what}: {verdict}");
        }
    }
}
