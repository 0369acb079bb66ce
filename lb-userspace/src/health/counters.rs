//! What one checker did so far, for metrics and `lb status`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Cause;
use super::error::{ErrorKind, ProbeError};

/// Counts of one checker, written by its task and read by anybody.
#[derive(Debug, Default)]
pub struct Counters {
    probes: AtomicU64,
    passed: AtomicU64,
    failed: [AtomicU64; ErrorKind::ALL.len()],
    triggered: AtomicU64,
    deferred: AtomicU64,
    last_round_trip_ns: AtomicU64,
    last_failure: Mutex<Option<ProbeError>>,
    holds_opened: AtomicU64,
    holds_ended: AtomicU64,
    hold_given_up: AtomicBool,
}

/// [`Counters`] at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Probes begun and finished.
    pub probes: u64,
    /// Probes that passed.
    pub passed: u64,
    /// Probes that failed, by kind; every kind is present.
    pub failed: [(ErrorKind, u64); ErrorKind::ALL.len()],
    /// Probes that ran before their interval, for the hold's or somebody's asking.
    pub triggered: u64,
    /// Probes that waited for the [`super::Budget`].
    pub deferred: u64,
    /// How long the last probe took; zero before the first.
    pub last_round_trip: Duration,
    /// How the last failed probe failed, also when it changed no verdict. Kept when later
    /// probes pass.
    pub last_failure: Option<ProbeError>,
    /// Idle connections opened.
    pub holds_opened: u64,
    /// Idle connections ended by the server.
    pub holds_ended: u64,
    /// The idle connection kept the server from answering and is no longer opened.
    pub hold_given_up: bool,
}

impl Snapshot {
    /// Probes that failed, of all kinds.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().map(|(_, count)| count).sum()
    }
}

impl Counters {
    /// The counts now. Each is exact; together they may be one probe apart.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            probes: self.probes.load(Relaxed),
            passed: self.passed.load(Relaxed),
            failed: ErrorKind::ALL.map(|kind| (kind, self.failed[kind as usize].load(Relaxed))),
            triggered: self.triggered.load(Relaxed),
            deferred: self.deferred.load(Relaxed),
            last_round_trip: Duration::from_nanos(self.last_round_trip_ns.load(Relaxed)),
            last_failure: self.last_failure().clone(),
            holds_opened: self.holds_opened.load(Relaxed),
            holds_ended: self.holds_ended.load(Relaxed),
            hold_given_up: self.hold_given_up.load(Relaxed),
        }
    }

    /// Answers with the probe's number, from 1.
    pub(super) fn probed(
        &self,
        cause: Cause,
        outcome: &Result<(), ProbeError>,
        round_trip: Duration,
    ) -> u64 {
        match outcome {
            Ok(()) => {
                self.passed.fetch_add(1, Relaxed);
            }
            Err(error) => {
                self.failed[error.kind() as usize].fetch_add(1, Relaxed);
                *self.last_failure() = Some(error.clone());
            }
        }
        if cause != Cause::Schedule {
            self.triggered.fetch_add(1, Relaxed);
        }
        let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.last_round_trip_ns.store(nanos, Relaxed);
        self.probes.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn deferred(&self) {
        self.deferred.fetch_add(1, Relaxed);
    }

    pub(super) fn hold_opened(&self) {
        self.holds_opened.fetch_add(1, Relaxed);
    }

    pub(super) fn hold_ended(&self) {
        self.holds_ended.fetch_add(1, Relaxed);
    }

    pub(super) fn hold_given_up(&self) {
        self.hold_given_up.store(true, Relaxed);
    }

    fn last_failure(&self) -> std::sync::MutexGuard<'_, Option<ProbeError>> {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
