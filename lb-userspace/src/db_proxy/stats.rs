//! What is counted, of a pool and of the whole proxy.

use std::cell::Cell;
use std::time::Instant;

use crate::telemetry::histogram::Histogram;

/// Counts of one pool.
#[derive(Debug, Default)]
pub(super) struct PoolStats {
    pub queries: Cell<u64>,
    pub received: Cell<u64>,
    pub sent: Cell<u64>,
    pub errors: Cell<u64>,
    pub pinned: Cell<u64>,
    pub refused: Cell<u64>,
    pub timeouts: Cell<u64>,
    pub connect_failures: Cell<u64>,
    pub transactions: Histogram,
    pub waits: Histogram,
}

impl PoolStats {
    pub fn transaction(&self, began: Instant) {
        self.transactions.add(began.elapsed());
    }

    pub fn waited(&self, since: Instant) {
        self.waits.add(since.elapsed());
    }
}

/// Counts of the whole proxy.
#[derive(Debug, Default)]
pub(super) struct ProxyStats {
    pub logins: Cell<u64>,
    pub logins_refused: Cell<u64>,
    pub cancels: Cell<u64>,
}
