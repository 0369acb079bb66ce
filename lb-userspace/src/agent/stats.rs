//! Totals and rates, sampled from the data plane's counters once a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::backend::BackendId;
use lb_common::counters::Traffic;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use super::datapath::{Counters, DatapathError};
use crate::control::{RateStatus, TrafficStatus};

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What to sample: the backends and services that are configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Backends.
    pub backends: Vec<BackendId>,
    /// Counters of services.
    pub services: Vec<u32>,
}

/// One sample.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Traffic of each backend.
    pub backends: BTreeMap<BackendId, Measured>,
    /// Traffic of each service, by its counters.
    pub services: BTreeMap<u32, Measured>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Packets that the program answered, by kind.
    pub replies: BTreeMap<&'static str, u64>,
    /// Packets left to this host's kernel, by reason.
    pub passes: BTreeMap<&'static str, u64>,
    /// What was done with records of flows.
    pub flow_counts: BTreeMap<&'static str, u64>,
    /// Repeated SYNs and resets of each backend.
    pub suspicions: BTreeMap<BackendId, (u64, u64)>,
}

/// A total, and its growth since the sample before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Since the counters were last set to zero.
    pub total: TrafficStatus,
    /// Per second.
    pub rate: RateStatus,
}

/// The running sampler; stops when dropped.
#[derive(Debug)]
pub struct Stats {
    wanted: watch::Sender<Wanted>,
    latest: watch::Receiver<Arc<Sample>>,
    _task: JoinSet<()>,
}

impl Stats {
    /// Starts sampling.
    #[must_use]
    pub fn start(counters: Counters) -> Self {
        let (wanted, wants) = watch::channel(Wanted::default());
        let (samples, latest) = watch::channel(Arc::default());
        let mut task = JoinSet::new();
        task.spawn(sample_for_ever(Arc::new(counters), wants, samples));
        Self {
            wanted,
            latest,
            _task: task,
        }
    }

    /// Says what to sample from now on.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_replace(wanted);
    }

    /// The latest sample.
    #[must_use]
    pub fn latest(&self) -> Arc<Sample> {
        Arc::clone(&self.latest.borrow())
    }
}

async fn sample_for_ever(
    counters: Arc<Counters>,
    mut wants: watch::Receiver<Wanted>,
    samples: watch::Sender<Arc<Sample>>,
) {
    let mut before = (Instant::now(), Arc::<Sample>::default());
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // What is new is sampled at once, so that its totals are there when it is asked for.
            changed = wants.changed() => if changed.is_err() { return; },
        }
        let wanted = wants.borrow_and_update().clone();
        let (counters, (then, old)) = (Arc::clone(&counters), before.clone());
        let sampled = spawn_blocking(move || {
            let now = Instant::now();
            sample(&counters, &wanted, &old, now - then).map(|sample| (now, Arc::new(sample)))
        });
        match sampled.await {
            Ok(Ok(sample)) => {
                before = sample;
                samples.send_replace(Arc::clone(&before.1));
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot read the counters"),
            Err(_) => return,
        }
    }
}

fn sample(
    counters: &Counters,
    wanted: &Wanted,
    before: &Sample,
    elapsed: Duration,
) -> Result<Sample, DatapathError> {
    let mut sample = Sample {
        drops: counters.drops()?,
        replies: counters.replies()?,
        passes: counters.passes()?,
        flow_counts: counters.flow_counts()?,
        ..Sample::default()
    };
    for id in &wanted.backends {
        sample.suspicions.insert(*id, counters.suspicions(*id)?);
        let now = counters.backend(*id)?;
        sample
            .backends
            .insert(*id, measured(now, before.backends.get(id), elapsed));
    }
    for index in &wanted.services {
        let now = counters.service(*index)?;
        sample
            .services
            .insert(*index, measured(now, before.services.get(index), elapsed));
    }
    Ok(sample)
}

fn measured(now: Traffic, before: Option<&Measured>, elapsed: Duration) -> Measured {
    let total = TrafficStatus {
        packets: now.packets,
        bytes: now.bytes,
        new_flows: now.new_flows,
        diverted: now.diverted,
    };
    let Some(before) = before else {
        return Measured {
            total,
            rate: RateStatus::default(),
        };
    };
    // Counters fall only when they are set to zero for a new owner: no rate then.
    let per_second =
        |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed.as_secs_f64().max(1e-3);
    let rate = RateStatus {
        packets_per_second: per_second(total.packets, before.total.packets),
        bytes_per_second: per_second(total.bytes, before.total.bytes),
        new_flows_per_second: per_second(total.new_flows, before.total.new_flows),
    };
    Measured { total, rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_over_time_and_never_negative() {
        let traffic = |packets| Traffic {
            packets,
            ..Traffic::default()
        };
        let first = measured(traffic(100), None, Duration::from_secs(1));
        assert_eq!(first.rate.packets_per_second, 0.0);
        let second = measured(traffic(300), Some(&first), Duration::from_secs(2));
        assert_eq!(second.rate.packets_per_second, 100.0);
        let reset = measured(traffic(5), Some(&second), Duration::from_secs(1));
        assert_eq!(reset.rate.packets_per_second, 0.0);
    }
}
