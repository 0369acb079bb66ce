//! What is counted, of a pool and of the whole proxy.

use std::cell::Cell;
use std::time::Instant;

use crate::telemetry::histogram::Histogram;
use crate::wire::postgres::link::code;

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
    pub links: LinkStats,
}

/// Counts of what passes over links.
#[derive(Debug, Default)]
pub(super) struct LinkStats {
    pub heartbeats: Cell<u64>,
    pub heartbeats_left_out: Cell<u64>,
    pub positions: Cell<u64>,
    /// Floors by what became of their segments.
    pub admitted: Cell<u64>,
    pub refused_ahead: Cell<u64>,
    pub refused_lost: Cell<u64>,
    pub refused_not_primary: Cell<u64>,
    pub refused_fenced: Cell<u64>,
}

impl LinkStats {
    /// Where refusals by this SQLSTATE are counted.
    pub fn refused(&self, code: &str) -> &Cell<u64> {
        match code {
            code::FLOOR_AHEAD => &self.refused_ahead,
            code::FLOOR_LOST => &self.refused_lost,
            code::NOT_PRIMARY => &self.refused_not_primary,
            _ => &self.refused_fenced,
        }
    }
}
