//! What came of one tier's part of the demo: what was done, what it cost, and the picture of it.

use std::time::{Duration, Instant};

use crate::measure::{Cost, Fault};
use crate::picture::Chart;
use crate::report::Report;
use crate::story::Story;

/// One tier's part.
pub struct Act {
    /// Who answers, in the order of the table.
    servers: Vec<String>,
    /// What each fault cost, and the time from it to the next.
    costs: Vec<(Fault, Cost, Duration)>,
    /// Answers over time.
    pub chart: Chart,
    /// What the columns of the table mean.
    notes: String,
}

impl Act {
    /// Of a story; `cost` tells what a fault cost up to an instant.
    pub fn new(
        story: Story,
        servers: Vec<String>,
        chart: Chart,
        notes: String,
        mut cost: impl FnMut(&Fault, Instant) -> Cost,
    ) -> Act {
        let ends: Vec<Instant> = story.ends().collect();
        let faults = story.faults.into_iter().zip(ends);
        let costs = faults.map(|(fault, until)| {
            let cost = cost(&fault, until);
            let lasted = until.saturating_duration_since(fault.at);
            (fault, cost, lasted)
        });
        Act {
            servers,
            costs: costs.collect(),
            chart,
            notes,
        }
    }

    /// What is wrong with it, in lines for people.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        let costs = self.costs.iter();
        costs.filter_map(|(fault, cost, _)| cost.complaint(fault))
    }

    /// What was done, with what it cost and the time from it to the next.
    pub fn costs(&self) -> impl Iterator<Item = (&Fault, &Cost, Duration)> {
        let costs = self.costs.iter();
        costs.map(|(fault, cost, lasted)| (fault, cost, *lasted))
    }

    /// The table, and what its columns mean.
    pub fn table(&self) -> String {
        let table = Report::new(self.costs()).table(&self.servers);
        format!("{table}\n{}\n", self.notes)
    }
}
