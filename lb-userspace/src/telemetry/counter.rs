//! Counts of events, shared by the tasks of one thread.

use std::cell::Cell;

/// How often something happened, or how much of something there was, since the daemon started.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// So much more.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }

    /// How much by now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}
