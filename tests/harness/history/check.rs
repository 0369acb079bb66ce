//! Finds what cannot be: stale reads, lost acknowledged writes, effects in another order or done
//! twice, wrong answers, and answers older than the lag shown. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::order::Known;
use super::{Key, Operation, Outcome, What};

/// How many findings of a kind are described; all are counted.
const DESCRIBED_MAX: usize = 5;

/// What the mode under test promises.
#[derive(Default)]
pub struct Rules<'r> {
    /// How much older than the newest acknowledged version an answer may be that is given to a
    /// read of this key begun at this time, in microseconds. None: not at all.
    pub lag: Option<&'r dyn Fn(Key, u64) -> u64>,
    /// Whether a write of this key that was acknowledged at this time may have been lost. None:
    /// none may.
    pub may_be_lost: Option<&'r dyn Fn(Key, u64) -> bool>,
    /// Whether a key may be gone although it was written: a cache without a copy, or with spares.
    pub may_miss: bool,
    /// Whether reads may fail.
    pub may_fail: bool,
}

impl Rules<'_> {
    fn counts(&self, key: Key, acknowledged: u64) -> bool {
        self.may_be_lost
            .is_none_or(|may_be_lost| !may_be_lost(key, acknowledged))
    }

    fn horizon(&self, key: Key, start: u64) -> u64 {
        let lag = self.lag.map_or(0, |lag| lag(key, start));
        start.saturating_sub(lag)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Operations looked at.
    pub operations: usize,
    /// Reads among them.
    pub reads: usize,
    /// Reads that found nothing where something had been.
    pub misses: usize,
    /// Reads that an error answered.
    pub failed: usize,
    /// Writes of unknown outcome.
    pub unknown: usize,
    /// Writes that were refused.
    pub refused: usize,
    /// Effects of unknown writes after a later write was acknowledged.
    pub late: usize,
    /// How often, by kind.
    pub counts: BTreeMap<&'static str, usize>,
    /// The first few of each kind, in words.
    pub described: Vec<String>,
}

impl Findings {
    /// Whether the history can be true.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// Adds those of another history.
    pub fn add(&mut self, other: Findings) {
        self.operations += other.operations;
        self.reads += other.reads;
        self.misses += other.misses;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.late += other.late;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        self.described.extend(other.described);
    }

    fn found(&mut self, kind: &'static str, describe: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= DESCRIBED_MAX {
            self.described.push(format!("{kind}: {}", describe()));
        }
    }
}

/// Looks at a whole history.
pub fn check(operations: &[Operation], rules: &Rules<'_>) -> Findings {
    let mut findings = Findings {
        operations: operations.len(),
        ..Findings::default()
    };
    let mut by_key: HashMap<Key, Vec<&Operation>> = HashMap::new();
    for operation in operations {
        by_key.entry(operation.key).or_default().push(operation);
        tally(operation, rules, &mut findings);
    }
    let mut keys: Vec<_> = by_key.into_iter().collect();
    keys.sort_by_key(|(key, _)| *key);
    for (key, operations) in keys {
        match key {
            Key::Register(_) => register(key, &operations, rules, &mut findings),
            Key::List(_) => list(key, &operations, rules, &mut findings),
            Key::Counter(_) => counter(key, &operations, rules, &mut findings),
        }
    }
    findings
}

fn tally(operation: &Operation, rules: &Rules<'_>, findings: &mut Findings) {
    match &operation.what {
        What::Wrote { outcome, .. } | What::Counted { outcome, .. } => match outcome {
            Outcome::Acknowledged => {}
            Outcome::Refused => findings.refused += 1,
            Outcome::Unknown => findings.unknown += 1,
        },
        What::Read { .. } | What::Settled { .. } | What::Listed { .. } => findings.reads += 1,
        What::Failed { error } => {
            findings.reads += 1;
            findings.failed += 1;
            if !rules.may_fail {
                findings.found("failed read", || format!("{operation:?}: {error}"));
            }
        }
        What::Wrong { answer } => {
            findings.found("wrong answer", || format!("{operation:?}: {answer}"));
        }
    }
}

/// One writer, versions in order: what is read is never older than what was known before, never
/// newer than what was sent.
fn register(key: Key, operations: &[&Operation], rules: &Rules<'_>, findings: &mut Findings) {
    let writes = Writes::of(operations);
    let known = operations.iter().filter_map(|operation| {
        let version = match operation.what {
            What::Wrote {
                version,
                outcome: Outcome::Acknowledged,
            } => version,
            // What one client saw, no client may miss later.
            What::Read { saw, .. } if saw > 0 => saw,
            _ => return None,
        };
        rules
            .counts(key, operation.end)
            .then_some((operation.end, version))
    });
    let known = Known::new(known.collect());
    for operation in operations {
        let (saw, floor) = match operation.what {
            What::Read { saw, after } => {
                let after = if rules.lag.is_none() && rules.counts(key, operation.start) {
                    after
                } else {
                    0
                };
                let horizon = rules.horizon(key, operation.start);
                (saw, known.before(horizon).max(after))
            }
            What::Settled { saw } => (saw, known.ever()),
            _ => continue,
        };
        let say = || format!("{key} was at {floor}: {operation:?}");
        if saw > 0 && !writes.explains(saw, operation.end, findings, say) {
            continue;
        }
        if saw >= floor {
            continue;
        }
        if saw == 0 && rules.may_miss {
            findings.misses += 1;
        } else if saw > 0 && writes.is_unknown(saw) {
            findings.late += 1;
        } else if saw == 0 || matches!(operation.what, What::Settled { .. }) {
            findings.found("lost acknowledged write", say);
        } else if rules.lag.is_some() {
            findings.found("older than the lag shown", say);
        } else {
            findings.found("stale read", say);
        }
    }
}

/// Everything acknowledged is in the list, once and in order.
fn list(key: Key, operations: &[&Operation], rules: &Rules<'_>, findings: &mut Findings) {
    let writes = Writes::of(operations);
    for operation in operations {
        let What::Listed { saw } = &operation.what else {
            continue;
        };
        if saw.is_empty() && rules.may_miss {
            findings.misses += 1;
            continue;
        }
        let mut seen = HashSet::new();
        let mut highest = 0;
        for &version in saw {
            let say = || format!("{key} holds {version} after {highest}");
            writes.explains(version, operation.end, findings, say);
            if !seen.insert(version) {
                findings.found("done twice", say);
            } else if version < highest && writes.is_unknown(version) {
                findings.late += 1;
            } else if version < highest {
                findings.found("reordered", say);
            }
            highest = highest.max(version);
        }
        for &(version, acknowledged) in &writes.acknowledged {
            // What was lost with the memory of a server is no matter of order.
            let counts = !rules.may_miss && rules.counts(key, acknowledged);
            if counts && acknowledged < operation.start && !seen.contains(&version) {
                findings.found("lost acknowledged write", || {
                    format!("{key} has no {version}, acknowledged at {acknowledged}")
                });
            }
        }
    }
}

/// Answers of `INCR` are unique, and grow from one to the next that began after it.
fn counter(key: Key, operations: &[&Operation], rules: &Rules<'_>, findings: &mut Findings) {
    let answers = operations
        .iter()
        .filter_map(|operation| match operation.what {
            What::Counted {
                version,
                outcome: Outcome::Acknowledged,
            } => Some((*operation, version)),
            _ => None,
        });
    let answers: Vec<_> = answers.collect();
    let attempts = operations.iter().filter(|operation| {
        matches!(
            operation.what,
            What::Counted {
                outcome: Outcome::Acknowledged | Outcome::Unknown,
                ..
            }
        )
    });
    let attempts = attempts.count() as u64;
    let lasting = answers
        .iter()
        .filter(|(operation, _)| rules.counts(key, operation.end));
    let known = Known::new(
        lasting
            .clone()
            .map(|(operation, version)| (operation.end, *version))
            .collect(),
    );
    let mut seen = HashSet::new();
    for (operation, version) in &answers {
        let say = || format!("{key}, {attempts} tries: {operation:?}");
        if *version > attempts {
            findings.found("done twice", say);
        }
        if rules.may_miss {
            continue;
        }
        let floor = known.before(operation.start);
        let is_answered_again = rules.counts(key, operation.end) && !seen.insert(*version);
        if *version <= floor || is_answered_again {
            findings.found("lost acknowledged write", say);
        }
    }
    for operation in operations {
        let What::Settled { saw } = operation.what else {
            continue;
        };
        let say = || format!("{key}, {attempts} tries: {operation:?}");
        if saw > attempts {
            findings.found("done twice", say);
        }
        if saw < known.ever() && !rules.may_miss {
            findings.found("lost acknowledged write", say);
        }
    }
}

/// The writes of a key with one writer.
struct Writes {
    by_version: HashMap<u64, (u64, Outcome)>,
    acknowledged: Vec<(u64, u64)>,
}

impl Writes {
    fn of(operations: &[&Operation]) -> Self {
        let mut by_version = HashMap::new();
        let mut acknowledged = Vec::new();
        for operation in operations {
            if let What::Wrote { version, outcome } = operation.what {
                by_version.insert(version, (operation.start, outcome));
                if outcome == Outcome::Acknowledged {
                    acknowledged.push((version, operation.end));
                }
            }
        }
        Self {
            by_version,
            acknowledged,
        }
    }

    fn is_unknown(&self, version: u64) -> bool {
        let write = self.by_version.get(&version);
        write.is_some_and(|(_, outcome)| *outcome == Outcome::Unknown)
    }

    /// Whether somebody had sent this version by then, and was not told that it was refused.
    fn explains(
        &self,
        version: u64,
        by: u64,
        findings: &mut Findings,
        say: impl FnOnce() -> String,
    ) -> bool {
        match self.by_version.get(&version) {
            Some((_, Outcome::Refused)) => findings.found("refused, and yet done", say),
            Some((start, _)) if *start <= by => return true,
            _ => findings.found("wrong answer", say),
        }
        false
    }
}

#[cfg(test)]
mod tests;
