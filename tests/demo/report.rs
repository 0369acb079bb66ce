//! What the faults cost: as a table for people, as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::{Cost, Fault};

/// The file that `--report` writes.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    version: u32,
    faults: Vec<Row<'a>>,
}

/// One fault. A request counts here if it ended between this fault and the next.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// `gateway` for the agent, `logic`, `cache` or `database`.
    tier: &'a str,
    /// What was done.
    fault: &'a str,
    /// Milliseconds from right before the fault was made to the store of the new state in the data
    /// plane, by the time of the agent's event; 0 for the agent, whose death nothing must detect;
    /// in a data tier, until every logic server knows.
    detection_ms: f64,
    /// Milliseconds from right before the fault was made:
    /// for a server that was killed, silenced or drained, to the end of the first request that
    /// began after the last failed one began, on a flow whose slot is that server's, and that
    /// another server answered (it contains the time that clients waited in vain, up to
    /// [`crate::stage::TIMEOUT`]);
    /// for one that returned, to the end of the first request that it answered;
    /// for the agent, until a new one serves, the time that nobody restarted it included;
    /// in a data tier, to the end of the last request that failed or took longer than
    /// 100 ms (`data::cost`), or until the returned server is used.
    /// What did not recover has the time until the next fault here, and the demo ends with 1.
    recovery_ms: f64,
    /// Requests, failed ones included.
    requests: usize,
    /// Requests that failed: refused, reset, or not answered within [`crate::stage::TIMEOUT`].
    failed: usize,
    /// Those of them that began after the store.
    failed_after_detection: usize,
    /// Requests of which nobody knows whether they were carried out, as their clients were told.
    unknown: usize,
    /// Requests answered, by server.
    answered_by: &'a BTreeMap<String, usize>,
}

impl<'a> Report<'a> {
    /// Of these faults and what they cost; `lasted` is the time from a fault to the next.
    pub fn new(costs: impl Iterator<Item = (&'a Fault, &'a Cost, Duration)>) -> Report<'a> {
        let row = |(fault, cost, lasted): (&'a Fault, &'a Cost, Duration)| Row {
            tier: fault.tier,
            fault: fault.name,
            detection_ms: ms(cost.detection),
            recovery_ms: ms(cost.recovery.unwrap_or(lasted)),
            requests: cost.requests,
            failed: cost.failed,
            failed_after_detection: cost.failed_after_detection,
            unknown: cost.unknown,
            answered_by: &cost.answered_by,
        };
        Report {
            version: 1,
            faults: costs.map(row).collect(),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }

    /// As a table; one column for each of `servers`.
    pub fn table(&self, servers: &[String]) -> String {
        let mut lines = header(servers).to_vec();
        lines.extend(self.faults.iter().map(|row| row.cells(servers)));
        align(&lines)
    }
}

impl Row<'_> {
    fn cells(&self, servers: &[String]) -> Vec<String> {
        let mut cells = vec![
            self.fault.to_owned(),
            format!("{:.1}", self.detection_ms),
            format!("{:.1}", self.recovery_ms),
            self.requests.to_string(),
            self.failed.to_string(),
            self.failed_after_detection.to_string(),
            self.unknown.to_string(),
        ];
        let answered = |server| self.answered_by.get(server).copied().unwrap_or(0);
        cells.extend(servers.iter().map(|server| answered(server).to_string()));
        cells
    }
}

/// Lines of the header.
const HEADER_LINES: usize = 2;

fn header(servers: &[String]) -> [Vec<String>; HEADER_LINES] {
    let upper = ["", "detection", "recovery", "", "", "after", ""];
    let lower = [
        "fault",
        "ms",
        "ms",
        "requests",
        "failed",
        "detection",
        "unknown",
    ];
    let answered = servers.iter().map(|_| "by".to_owned());
    let upper = upper.into_iter().map(str::to_owned).chain(answered);
    let lower = lower.into_iter().map(str::to_owned);
    [
        upper.collect(),
        lower.chain(servers.iter().cloned()).collect(),
    ]
}

/// The first column to the left, numbers to the right, a rule below the header.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let rule = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        if number == HEADER_LINES {
            let _ = writeln!(table, "{}", "─".repeat(rule));
        }
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(table, "{cell:<width$}"),
                _ => write!(table, "  {cell:>width$}"),
            };
        }
        table.push('\n');
    }
    table
}

/// Milliseconds to a microsecond.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::measure::Kind;

    fn one() -> (Fault, Cost) {
        let at = Instant::now();
        let fault = Fault {
            tier: "logic",
            name: "primary killed",
            whom: "logic-1".into(),
            kind: Kind::Lost,
            at,
            stored: at,
            stall: Duration::ZERO,
        };
        let cost = Cost {
            detection: Duration::from_micros(12_000),
            recovery: Some(Duration::from_micros(14_500)),
            requests: 48_211,
            failed: 3,
            failed_after_detection: 0,
            unknown: 0,
            unexpected: None,
            strayed: 0,
            answered_by: BTreeMap::from([("logic-2".to_owned(), 16_020)]),
        };
        (fault, cost)
    }

    #[test]
    fn the_json_is_the_documented_one() -> Result<()> {
        let (fault, cost) = one();
        let report = Report::new([(&fault, &cost, Duration::ZERO)].into_iter());
        assert_eq!(
            serde_json::to_string(&report)?,
            r#"{"version":1,"faults":[{"tier":"logic","fault":"primary killed","detection_ms":12.0,"recovery_ms":14.5,"requests":48211,"failed":3,"failed_after_detection":0,"unknown":0,"answered_by":{"logic-2":16020}}]}"#
        );
        Ok(())
    }

    #[test]
    fn the_table_is_aligned() {
        let (fault, cost) = one();
        let report = Report::new([(&fault, &cost, Duration::ZERO)].into_iter());
        let table = report.table(&["logic-1".into(), "logic-2".into()]);
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 4, "{table}");
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        assert!(table.ends_with("        0    16020\n"), "{table}");
    }
}
