//! Active health checks: is a backend fit to be given traffic?
//!
//! The agent starts one [`Checker`] per backend and receives a [`Report`] whenever a verdict
//! changes. A checker probes (`probe`), feeds what it learned to a [`Threshold`] and sends the
//! verdict; it keeps an idle connection open (`hold`) whose end makes it probe at once. All
//! checkers share one [`Budget`] of probes per second.
//!
//! This module never writes the data plane, never reads the configuration and never weighs
//! operator intent: the agent does all three.

mod budget;
mod checker;
mod counters;
mod error;
mod hold;
mod pace;
mod probe;
mod statuses;
mod threshold;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use budget::Budget;
pub use checker::Checker;
pub use counters::{Counters, Snapshot};
pub use error::{ErrorKind, ProbeError, Unreachable};
pub use probe::{HttpProbe, Probe};
pub use statuses::Statuses;
pub use threshold::{Threshold, Verdict};

/// Names a backend in reports. The caller chooses what the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey(pub u64);

/// What a checker probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Comes back in every [`Report`].
    pub id: BackendKey,
    /// Where the probes go.
    pub address: SocketAddr,
}

/// How a checker probes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What one probe asks.
    pub probe: Probe,
    /// From the start of one probe to the start of the next. Values below 1 ms count as 1 ms.
    pub interval: Duration,
    /// How long one probe may take, connecting included.
    pub timeout: Duration,
    /// Passed probes in a row that make a backend up. 0 counts as 1.
    pub rise: u32,
    /// Failed probes in a row that make a backend down; a refused or reset connection needs
    /// only one. 0 counts as 1.
    pub fall: u32,
    /// The share of the interval, 0 to 0.5, by which it is shortened at random so that checkers
    /// do not probe in step. It never lengthens an interval: detection stays within one.
    pub jitter: f64,
    /// Keep one idle connection open whose end triggers a probe at once. Switch it off for
    /// servers that serve one connection at a time: the idle one would be the one.
    pub hold: bool,
}

/// A changed verdict, and the probe that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The target's key.
    pub id: BackendKey,
    /// What the backend is from now on.
    pub verdict: Verdict,
    /// What made the deciding probe run when it did.
    pub cause: Cause,
    /// The deciding probe's number, from 1 for the checker's first.
    pub probe: u64,
    /// When the deciding probe began.
    pub began: Instant,
    /// When the deciding probe ended.
    pub ended: Instant,
}

impl Report {
    /// How long the deciding probe took.
    pub fn round_trip(&self) -> Duration {
        self.ended.saturating_duration_since(self.began)
    }
}

/// Why a probe ran when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its interval had passed.
    Schedule,
    /// The idle connection ended.
    Hold,
    /// Somebody asked for it ([`Checker::trigger`]).
    Trigger,
}
