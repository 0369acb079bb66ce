//! What is said of flows: which pools are not settled and why, which states backends have for
//! their flows' sake.

use jiff::{SignedDuration, Timestamp};
use lb_common::backend::{BackendId, BackendState};
use lb_common::pool::PoolId;

use super::{Gateway, Record};
use crate::agent::datapath::monotonic_ns;
use crate::agent::flows::Cause;
use crate::agent::stats::Sample;
use crate::control::{FlowsStatus, InstabilityStatus};

impl Gateway {
    /// The maps of flows and what was done with them.
    pub(super) fn flows_status(&self, sample: &Sample) -> FlowsStatus {
        let named = |(name, count): (&&str, &u64)| ((*name).to_owned(), *count);
        let duties = &self.duties;
        FlowsStatus {
            recorded: duties.last.kept,
            recorded_max: duties.sizes.kept,
            recorded_new: duties.last.new,
            recorded_new_max: duties.sizes.new,
            counts: sample.flow_counts.iter().map(named).collect(),
            sweeps: duties.sweeps,
            sweep_seconds: duties.last.took.as_secs_f64(),
            sweep_deleted: duties.last.deleted,
            heartbeat_seconds: duties.heartbeat.age().as_secs_f64(),
        }
    }

    /// What is not settled in a pool, if anything is.
    pub(super) fn instability(&self, pool: PoolId) -> Option<InstabilityStatus> {
        let found = self.flows.instability(pool)?;
        let now = monotonic_ns();
        Some(InstabilityStatus {
            slots: found.slots_unstable,
            slots_changed: found.slots_changed,
            since: (found.since > 0).then(|| wall_time(found.since, now)),
            until: found.until.map(|until| wall_time(until, now)),
            causes: found.causes.iter().map(|it| self.in_words(*it)).collect(),
            recorded: found.recorded,
            needed: found.needed,
        })
    }

    fn in_words(&self, cause: Cause) -> String {
        let name = |id| self.name(id);
        match cause {
            Cause::Warming(id) => format!("{} is warming", name(id)),
            Cause::Draining(id) => format!("{} is draining", name(id)),
            Cause::Removed(id) => format!("{} was removed", name(id)),
            Cause::Lost(id) => format!("{} was lost", name(id)),
            Cause::Down(id) => format!("{} is down", name(id)),
            Cause::Tracked(id) => format!("flows of {} may be elsewhere", name(id)),
            Cause::Changed => "the configuration changed".into(),
            Cause::Recorded => "flows from before a change go on".into(),
            Cause::PreviousPool(id) => {
                format!("a service pointed at pool {} before", self.pool_name(id))
            }
        }
    }

    /// The word for what a backend is to flows, and until when if that ends by itself.
    pub(super) fn flow_state(&self, record: &Record) -> (&'static str, Option<String>) {
        let word = flow_word(self.states.state(record.id), record.is_removed);
        let until = match word {
            "warming" | "lost" => self.flows.until(record.id),
            _ => None,
        };
        let now = monotonic_ns();
        (word, until.map(|until| wall_time(until, now)))
    }

    /// What a backend is called.
    pub(super) fn name(&self, id: BackendId) -> String {
        self.backends
            .get(id)
            .map_or_else(|| format!("id {}", id.0), |it| it.config.name.clone())
    }
}

/// The word of flows.md for a state.
pub(super) fn flow_word(state: BackendState, is_removed: bool) -> &'static str {
    let has = |bits| state.has(bits);
    if has(BackendState::LOST) {
        "lost"
    } else if !has(BackendState::ALIVE) {
        "down"
    } else if is_removed {
        "removed"
    } else if !has(BackendState::NEW) {
        "draining"
    } else if state.0 & !BackendState::TRACK != BackendState::UP.0 {
        "warming"
    } else if state.is_stable() {
        "settled"
    } else {
        "tracked"
    }
}

/// A monotonic time as RFC 3339.
fn wall_time(at: u64, now: u64) -> String {
    let ahead = i128::from(at) - i128::from(now);
    let distance = SignedDuration::from_nanos(i64::try_from(ahead).unwrap_or(if ahead < 0 {
        i64::MIN
    } else {
        i64::MAX
    }));
    let then = Timestamp::now()
        .checked_add(distance)
        .unwrap_or(if ahead < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        });
    format!("{then:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_word() {
        let up = BackendState::UP.0;
        let bits = |bits| BackendState(bits);
        for (state, is_removed, word) in [
            (bits(0), false, "down"),
            (bits(0), true, "down"),
            (bits(BackendState::LOST), false, "lost"),
            (BackendState::DRAINING, false, "draining"),
            (BackendState::DRAINING, true, "removed"),
            (
                bits(up & !BackendState::OLD | BackendState::TRACK),
                false,
                "warming",
            ),
            (bits(up | BackendState::TRACK), false, "tracked"),
            (BackendState::UP, false, "settled"),
        ] {
            assert_eq!(flow_word(state, is_removed), word, "{state:?}");
        }
    }
}
