//! What is counted, of a pool and of the whole proxy.

use std::time::Instant;

use crate::telemetry::counter::Counter;
use crate::telemetry::histogram::Histogram;
use crate::wire::postgres::link::code;

/// Counts of one pool.
#[derive(Debug, Default)]
pub(super) struct PoolStats {
    pub queries: Counter,
    pub received: Counter,
    pub sent: Counter,
    pub errors: Counter,
    pub pinned: Counter,
    pub refused: Counter,
    pub timeouts: Counter,
    pub connect_failures: Counter,
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
    pub logins: Counter,
    pub logins_refused: Counter,
    pub cancels: Counter,
    pub links: LinkStats,
}

/// Counts of what passes over links.
#[derive(Debug, Default)]
pub(super) struct LinkStats {
    pub heartbeats: Counter,
    pub heartbeats_left_out: Counter,
    pub positions: Counter,
    /// Floors by what became of their segments.
    pub admitted: Counter,
    pub refused_ahead: Counter,
    pub refused_lost: Counter,
    pub refused_not_primary: Counter,
    pub refused_fenced: Counter,
}

impl LinkStats {
    /// Where refusals by this SQLSTATE are counted.
    pub fn refused(&self, code: &str) -> &Counter {
        match code {
            code::FLOOR_AHEAD => &self.refused_ahead,
            code::FLOOR_LOST => &self.refused_lost,
            code::NOT_PRIMARY => &self.refused_not_primary,
            _ => &self.refused_fenced,
        }
    }
}
