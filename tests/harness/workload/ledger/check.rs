//! Compares a ledger's history with its table. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{History, Outcome};
use crate::workload::{Failure, Failures};

/// Numbers shown of each kind of fault.
const SHOWN: usize = 5;

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Inserts or transactions that were acknowledged.
    pub acknowledged: u64,
    /// That were refused, by the reason.
    pub refused: Failures,
    /// Whose outcome is unknown to the client, by the reason.
    pub unknown: Failures,
    /// Of those of unknown outcome: how many were done.
    pub unknown_done: u64,
    /// What connecting failed with.
    pub connect_failures: Failures,
    /// The longest that any took.
    pub longest: Duration,
    /// Acknowledged, but not in the table.
    pub lost: Vec<i64>,
    /// More than once in the table.
    pub doubled: Vec<i64>,
    /// Refused, but in the table.
    pub refused_but_done: Vec<i64>,
    /// One of two of a transaction is in the table.
    pub halved: Vec<i64>,
    /// In the table, but nobody inserted it.
    pub strangers: Vec<i64>,
}

impl Verdict {
    /// How many operations, or attempts to connect, were not answered within the limit.
    pub fn hung(&self) -> u64 {
        let counts = [&self.refused, &self.unknown, &self.connect_failures];
        counts
            .iter()
            .filter_map(|failures| failures.get(&Failure::Hung))
            .sum()
    }

    /// Everything that was acknowledged is there once, nothing that was refused is, nothing hung.
    ///
    /// # Errors
    /// With what was found, if not.
    pub fn expect_whole(&self) -> Result<()> {
        ensure!(
            self.lost.is_empty(),
            "acknowledged inserts are lost: {self}"
        );
        self.expect_no_lie()
    }

    /// The same, but acknowledged inserts may be lost: where the server itself may lose them.
    ///
    /// # Errors
    /// With what was found, if not.
    pub fn expect_no_lie(&self) -> Result<()> {
        ensure!(self.doubled.is_empty(), "inserts were done twice: {self}");
        ensure!(
            self.refused_but_done.is_empty(),
            "refused inserts were done: {self}"
        );
        ensure!(
            self.halved.is_empty(),
            "transactions were done by half: {self}"
        );
        ensure!(
            self.strangers.is_empty(),
            "there are rows of nobody: {self}"
        );
        ensure!(self.hung() == 0, "operations hung: {self}");
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |failures: &Failures| {
            let each = failures
                .iter()
                .map(|(failure, count)| format!("{failure} × {count}"));
            each.collect::<Vec<_>>().join(", ")
        };
        write!(
            f,
            "{} acknowledged, refused [{}], unknown [{}] of which {} done, not connected [{}], longest {:?}",
            self.acknowledged,
            counts(&self.refused),
            counts(&self.unknown),
            self.unknown_done,
            counts(&self.connect_failures),
            self.longest,
        )?;
        let faults = [
            ("lost", &self.lost),
            ("twice", &self.doubled),
            ("refused but done", &self.refused_but_done),
            ("by half", &self.halved),
            ("of nobody", &self.strangers),
        ];
        for (name, ids) in faults.into_iter().filter(|(_, ids)| !ids.is_empty()) {
            write!(
                f,
                "; {} {name}: {:?}…",
                ids.len(),
                &ids[..ids.len().min(SHOWN)]
            )?;
        }
        Ok(())
    }
}

pub(super) fn check(history: &History, rows: &[i64]) -> Verdict {
    let mut times: HashMap<i64, u32> = HashMap::with_capacity(rows.len());
    for &row in rows {
        *times.entry(row).or_default() += 1;
    }
    let mut verdict = Verdict {
        connect_failures: history.connect_failures.clone(),
        doubled: times
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(&id, _)| id)
            .collect(),
        ..Verdict::default()
    };
    for entry in &history.entries {
        let there: Vec<_> = entry
            .ids
            .iter()
            .map(|id| times.remove(id).is_some())
            .collect();
        let of = |wanted: bool| {
            let both = entry.ids.iter().zip(&there);
            both.filter(move |(_, there)| **there == wanted)
                .map(|(&id, _)| id)
        };
        verdict.longest = verdict.longest.max(entry.took);
        if there.contains(&true) && there.contains(&false) {
            verdict.halved.extend(of(false));
        }
        match &entry.outcome {
            Outcome::Done => {
                verdict.acknowledged += 1;
                verdict.lost.extend(of(false));
            }
            Outcome::Refused(failure) => {
                count(&mut verdict.refused, failure);
                verdict.refused_but_done.extend(of(true));
            }
            Outcome::Unknown(failure) => {
                count(&mut verdict.unknown, failure);
                verdict.unknown_done += u64::from(there.contains(&true));
            }
        }
    }
    verdict.strangers = times.into_keys().collect();
    verdict
}

fn count(failures: &mut BTreeMap<Failure, u64>, failure: &Failure) {
    *failures.entry(failure.clone()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn history(entries: &[(&[i64], Outcome)]) -> History {
        let entries = entries.iter().map(|(ids, outcome)| Entry {
            ids: ids.to_vec(),
            outcome: outcome.clone(),
            took: Duration::from_millis(1),
        });
        History {
            entries: entries.collect(),
            ..History::default()
        }
    }

    fn refused() -> Outcome {
        Outcome::Refused(Failure::Sqlstate("57P03".to_owned()))
    }

    #[test]
    fn a_ledger_that_is_as_it_was_told_is_whole() {
        let unknown = Outcome::Unknown(Failure::Closed);
        let history = history(&[
            (&[1], Outcome::Done),
            (&[2, 3], Outcome::Done),
            (&[4], refused()),
            (&[5], unknown.clone()),
            (&[6, 7], unknown),
        ]);
        let verdict = history.check(&[3, 2, 1, 7, 6]);
        verdict.expect_whole().expect("it is whole");
        assert_eq!((verdict.acknowledged, verdict.unknown_done), (2, 1));
    }

    #[test]
    fn every_kind_of_lie_is_noticed() {
        let hung = Outcome::Unknown(Failure::Hung);
        let both = Outcome::Unknown(Failure::Closed);
        for (what, entries, rows) in [
            ("lost", vec![(&[1i64][..], Outcome::Done)], &[][..]),
            ("twice", vec![(&[1], Outcome::Done)], &[1, 1]),
            ("unknown, twice", vec![(&[1], both.clone())], &[1, 1]),
            ("refused but done", vec![(&[1], refused())], &[1]),
            ("half of it lost", vec![(&[1, 2], Outcome::Done)], &[1]),
            ("by half", vec![(&[1, 2], both)], &[2]),
            ("of nobody", vec![], &[9]),
            ("hung", vec![(&[1], hung)], &[1]),
        ] {
            let verdict = history(&entries).check(rows);
            assert!(verdict.expect_whole().is_err(), "{what}: {verdict}");
        }
        let lost = history(&[(&[1], Outcome::Done)]).check(&[]);
        lost.expect_no_lie().expect("a server may lose it");
    }
}
