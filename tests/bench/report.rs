//! Rows of measurements, as a table and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// What the others are compared with.
const SUBJECT: &str = "lb";
/// How the name of a row ends that counts rounds which failed.
pub const FAILED: &str = "failed";

/// One measurement: a target, what was done with it, and under which load.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured: `lb`, or what it is compared with.
    pub target: &'static str,
    /// What it did.
    pub name: &'static str,
    /// What `load` counts: `flows`, `clients`, …
    pub load_kind: &'static str,
    /// The load.
    pub load: u64,
    /// Unit of `min` and `median`.
    pub unit: &'static str,
    /// The best round.
    pub min: f64,
    /// The median round.
    pub median: f64,
}

/// The rows for people: one line for each name and load, lb beside its peers, with ratios.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let Some(first) = rows.first() else {
        return text;
    };
    let mut peers: Vec<&str> = Vec::new();
    for row in rows {
        if row.target != SUBJECT && !peers.contains(&row.target) {
            peers.push(row.target);
        }
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let _ = write!(text, "{:<width$}{:>5}{:>9}", "", "", first.load_kind);
    for target in std::iter::once(&SUBJECT).chain(&peers) {
        let _ = write!(text, "{:>16}{:>10}", format!("{target} best"), "median");
    }
    for peer in &peers {
        let _ = write!(text, "{:>14}", format!("{SUBJECT}/{peer}"));
    }
    text.push('\n');
    for row in rows.iter().filter(|row| row.target == SUBJECT) {
        let _ = write!(text, "{:<width$}{:>5}{:>9}", row.name, row.unit, row.load);
        let peers: Vec<_> = peers.iter().map(|peer| beside(rows, row, peer)).collect();
        for row in std::iter::once(Some(row)).chain(peers.iter().copied()) {
            match row {
                Some(row) => {
                    let _ = write!(text, "{:>16.1}{:>10.1}", row.min, row.median);
                }
                // It failed, or cannot be measured.
                None => {
                    let _ = write!(text, "{:>16}{:>10}", "-", "-");
                }
            }
        }
        for peer in peers {
            let ratio = peer
                .map(|peer| row.min / peer.min)
                .filter(|ratio| ratio.is_finite());
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = write!(text, "{ratio:>14}");
        }
        text.push('\n');
    }
    text
}

/// The row of another target under the same name and load.
fn beside<'a>(rows: &'a [Row], row: &Row, target: &str) -> Option<&'a Row> {
    rows.iter()
        .find(|other| other.target == target && other.name == row.name && other.load == row.load)
}

/// Peers may fail at a load; lb may not.
pub fn expect_done(rows: &[Row]) -> Result<()> {
    let failed = rows
        .iter()
        .filter(|row| row.target == SUBJECT && row.name.ends_with(FAILED) && row.min > 0.0)
        .map(|row| format!("{} at {} {}", row.name, row.load, row.load_kind));
    let failed: Vec<_> = failed.collect();
    ensure!(failed.is_empty(), "{SUBJECT}: {}", failed.join(", "));
    Ok(())
}

/// Writes the rows as `{"rows":[…]}`.
pub fn write_json(file: &Path, rows: &[Row]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "target": row.target, "name": row.name, row.load_kind: row.load,
                "unit": row.unit, "min": rounded(row.min), "median": rounded(row.median),
            })
        })
        .collect();
    let text = format!("{:#}\n", json!({ "rows": rows }));
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
