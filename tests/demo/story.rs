//! What was done, and when: the book that every tier's part of the demo keeps.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::measure::Fault;
use crate::picture::Mark;
use crate::stage::Stage;

/// Undisturbed load before the first fault, and from each fault to the next.
pub const ACT: Duration = Duration::from_secs(2);

/// The book.
#[derive(Debug)]
pub struct Story {
    /// When the load began.
    pub start: Instant,
    /// When the load ended; until then, when it began.
    end: Instant,
    /// The faults, in their order.
    pub faults: Vec<Fault>,
    /// What the picture marks.
    pub marks: Vec<Mark>,
}

impl Story {
    /// Begins: the clients have started.
    pub fn begin(stage: &mut Stage, start: Instant) -> Story {
        stage.canary.take_worst();
        stage.console.restart_clock(start);
        Story {
            start,
            end: start,
            faults: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The clients are about to stop.
    pub fn end(&mut self) {
        self.end = Instant::now();
    }

    /// From the beginning of the load to its end.
    pub fn span(&self) -> (Instant, Instant) {
        (self.start, self.end)
    }

    /// When the next fault came, or the end, for each fault.
    pub fn ends(&self) -> impl Iterator<Item = Instant> {
        let nexts = self.faults.iter().skip(1).map(|fault| fault.at);
        nexts.chain([self.end])
    }

    /// Lets the rest of an act pass. A fault counts also if the demo is interrupted in it.
    ///
    /// # Errors
    /// [`crate::interrupt::Interrupted`].
    pub fn finish(&mut self, stage: &mut Stage, mut fault: Fault, until: Instant) -> Result<()> {
        let passed = stage.pass_until(until);
        fault.stall = stage.canary.take_worst();
        self.faults.push(fault);
        passed
    }

    /// Says what will be done; the returned instant is right before it is.
    pub fn mark(&mut self, stage: &mut Stage, whom: &str, word: &str, text: &str) -> Instant {
        stage
            .console
            .step(Instant::now(), &format!("{whom}: {text}"));
        let at = Instant::now();
        self.marks.push(Mark {
            at: at.saturating_duration_since(self.start),
            label: [whom.to_owned(), word.to_owned()],
        });
        at
    }
}
