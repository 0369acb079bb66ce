//! One backend: from what is wanted of it, and time, to its state bits.

use lb_common::backend::{Backend, BackendId, BackendState};
use lb_common::pool::PoolId;

use super::{Rules, StateWrite, Wanted};

const ALIVE: u32 = BackendState::ALIVE;
const NEW: u32 = BackendState::NEW;
const OLD: u32 = BackendState::OLD;
const OLD_UDP: u32 = BackendState::OLD_UDP;
const LOST: u32 = BackendState::LOST;
const TRACK: u32 = BackendState::TRACK;

// Indices into `since`.
const DRAINED: usize = 0;
const WARM: usize = 1;
const LOST_SINCE: usize = 2;

/// A backend as the maps hold it, and what is wanted of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub pool: PoolId,
    pub state: BackendState,
    pub since: [u64; 3],
    /// When it last went down, 0 if this agent did not see it.
    pub down_since: u64,
    pub wanted: Wanted,
    /// The revision of [`super::Flows`] at which the state changed last.
    pub revision: u64,
}

impl Member {
    pub fn new(pool: PoolId, state: BackendState, revision: u64) -> Self {
        Self {
            pool,
            state,
            since: [0; 3],
            down_since: 0,
            wanted: Wanted {
                is_healthy: state.has(ALIVE),
                ..Wanted::default()
            },
            revision,
        }
    }

    /// As an earlier agent left it. A time that is missing begins now, and one in the future too.
    pub fn adopted(left: &Backend, wanted: Wanted, now: u64, revision: u64) -> Self {
        let since = left.since.map(|since| {
            if since == 0 || since > now {
                now
            } else {
                since
            }
        });
        Self {
            pool: PoolId(left.pool),
            state: left.state,
            since,
            down_since: 0,
            wanted,
            revision,
        }
    }

    /// Whether it owns and takes all flows of its slots; records may remain.
    pub fn is_settled(&self) -> bool {
        self.state.0 & !TRACK == BackendState::UP.0
    }

    pub fn write(&self, id: BackendId) -> StateWrite {
        StateWrite {
            id,
            state: self.state,
            since: self.since,
        }
    }

    /// Brings the state in line with what is wanted; whether it changed.
    pub fn follow_wanted(&mut self, now: u64) -> bool {
        let before = self.state;
        let takes_new = !self.wanted.is_drained && !self.wanted.is_removed;
        match (self.wanted.is_healthy, takes_new) {
            (false, _) => self.go_down(now),
            (true, true) => self.take_new(now),
            (true, false) => self.take_no_new(now),
        }
        self.state != before
    }

    fn go_down(&mut self, now: u64) {
        if !self.state.has(ALIVE) {
            // A loss that runs goes on.
            return;
        }
        self.down_since = now;
        if self.state.has(OLD) {
            self.state = BackendState(LOST);
            self.since[LOST_SINCE] = now;
        } else {
            self.state = BackendState::DOWN;
        }
    }

    /// Up, or warming where it does not own its slots' flows yet. Owning needs a whole window of
    /// unbroken `NEW`, in which the flows that are elsewhere get recorded.
    fn take_new(&mut self, now: u64) {
        if self.state.has(NEW) {
            return;
        }
        let kept = if self.state.has(ALIVE) {
            self.state.0
        } else {
            0
        };
        self.state = BackendState(kept | ALIVE | NEW | TRACK);
        self.since[WARM] = now;
    }

    /// Draining. One that is down stays so: unrecorded flows of its slots began elsewhere meanwhile.
    fn take_no_new(&mut self, now: u64) {
        if self.state.has(NEW) {
            self.state = BackendState(self.state.0 & !NEW | TRACK);
            self.since[DRAINED] = now;
        }
    }

    /// The map has `TRACK` and this has not; whether that is so.
    pub fn notice_track(&mut self, in_map: BackendState) -> bool {
        let is_news = in_map.has(TRACK | ALIVE) && self.state.has(ALIVE) && !self.state.has(TRACK);
        if is_news {
            self.state = BackendState(self.state.0 | TRACK);
        }
        is_news
    }

    /// Bits that come or go by time; whether any did.
    pub fn pass_time(&mut self, rules: &Rules, now: u64) -> bool {
        let before = self.state;
        for (at, set, clear) in self.steps(rules).into_iter().flatten() {
            if at <= now {
                self.state = BackendState(self.state.0 & !clear | set);
            }
        }
        self.state != before
    }

    /// When the next bit comes or goes.
    pub fn deadline(&self, rules: &Rules) -> Option<u64> {
        self.steps(rules)
            .into_iter()
            .flatten()
            .map(|step| step.0)
            .min()
    }

    /// When the last bit comes or goes.
    pub fn settles_at(&self, rules: &Rules) -> Option<u64> {
        self.steps(rules)
            .into_iter()
            .flatten()
            .map(|step| step.0)
            .max()
    }

    /// What lies ahead if nothing happens: when, bits that come, bits that go.
    fn steps(&self, rules: &Rules) -> [Option<(u64, u32, u32)>; 2] {
        let [drained, warm, lost] = self.since;
        if self.state.has(LOST) {
            return [Some((lost + rules.lost_for_ns, 0, LOST)), None];
        }
        if self.state.has(NEW) {
            let comes = |bit, window| (!self.state.has(bit)).then_some((warm + window, bit, 0));
            return [
                comes(OLD_UDP, rules.udp_window_ns),
                comes(OLD, rules.window_ns),
            ];
        }
        let goes = self.state.has(ALIVE | OLD_UDP);
        [
            goes.then_some((drained + rules.udp_window_ns, 0, OLD_UDP)),
            None,
        ]
    }
}
