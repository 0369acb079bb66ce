//! The thread that carries a sweep out: lists the records of flows, and deletes those that may go.
//!
//! A batch at a time, and given up between two batches when a change of the configuration waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lb_common::backend::BackendId;
use lb_common::counters::FlowCount;

use crate::agent::datapath::{BackendStates, Counters, DatapathError, FlowMaps, monotonic_ns};
use crate::agent::flows::{Judgement, Listed, Live, Sweep};

/// What the sweeping thread needs.
pub(super) struct SweepJob {
    pub tools: Box<SweepTools>,
    pub sweep: Sweep,
    pub states: Arc<BackendStates>,
    pub is_cancelled: Arc<AtomicBool>,
}

/// The maps of flows and a reader of counters: lent to the thread while it sweeps.
pub(super) struct SweepTools {
    pub maps: FlowMaps,
    pub counters: Counters,
}

/// A sweep that ended.
pub struct Swept {
    pub(super) tools: Box<SweepTools>,
    /// What was found, unless the sweep was given up or failed.
    pub(super) found: Result<Option<(Sweep, SweepCounts)>, DatapathError>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SweepCounts {
    /// Records that stay in `FLOWS`.
    pub kept: u64,
    /// Records that stay in `FLOWS_NEW`.
    pub new: u64,
    /// Records that were deleted.
    pub deleted: u64,
    /// How long it took.
    pub took: Duration,
}

impl SweepJob {
    pub fn run(self) -> Swept {
        let Self {
            mut tools,
            mut sweep,
            states,
            is_cancelled,
        } = self;
        let found = walk(&mut tools, &mut sweep, &states, &is_cancelled)
            .map(|counts| counts.map(|counts| (sweep, counts)));
        Swept { tools, found }
    }
}

fn walk(
    tools: &mut SweepTools,
    sweep: &mut Sweep,
    states: &BackendStates,
    is_cancelled: &AtomicBool,
) -> Result<Option<SweepCounts>, DatapathError> {
    let begun = Instant::now();
    let rescued = tools.counters.flow_count(FlowCount::Rescued)?;
    let live = |id: BackendId| {
        states.has(id).then(|| Live {
            state: states.state(id),
            generation: states.generation(id),
        })
    };
    let mut counts = SweepCounts::default();
    // In this order: records go from `FLOWS_NEW` to `FLOWS`, and none may slip by.
    for is_new in [true, false] {
        let mut stays = 0;
        let mut position = None;
        loop {
            if is_cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let (batch, next) = tools.maps.batch(is_new, position)?;
            let now = monotonic_ns();
            for record in batch {
                if settle_record(&record, now, sweep, &live, &mut tools.maps)? {
                    stays += 1;
                } else {
                    counts.deleted += 1;
                }
            }
            position = next;
            if position.is_none() {
                break;
            }
        }
        if is_new {
            counts.new = stays;
        } else {
            counts.kept = stays;
        }
    }
    counts.took = begun.elapsed();
    // The program itself sent flows elsewhere meanwhile, as this process stood still: what was
    // listed is not all of it.
    let is_whole = tools.counters.flow_count(FlowCount::Rescued)? == rescued;
    Ok(is_whole.then_some(counts))
}

/// Judges a record and deletes it if it may go; whether it stays.
fn settle_record(
    record: &Listed,
    now: u64,
    sweep: &mut Sweep,
    live: &impl Fn(BackendId) -> Option<Live>,
    maps: &mut FlowMaps,
) -> Result<bool, DatapathError> {
    if sweep.judge(record, now, live) == Judgement::Keep {
        return Ok(true);
    }
    let is_gone = maps.delete(record)?;
    if !is_gone {
        sweep.keep_after_all(record);
    }
    Ok(!is_gone)
}
