//! SYNs that come again, and whether an agent is there to be told.

use crate::count::{Flow, Kind};
use crate::frame::Parsed;
use crate::hash;
use crate::plane::Plane;
use crate::rules::Rule;
use crate::world::Service;

/// An agent whose last sign of life is older is dead.
const SILENT_NS: u64 = 500_000_000;
/// Ages of a fingerprint, in 2²⁰ ns, at which its SYN is one that comes again.
const AGAIN: std::ops::Range<u32> = 128..8192;

impl Plane {
    /// Looks at the fingerprint of a SYN and leaves its own.
    pub(crate) fn is_repeated(&mut self, packet: &Parsed, hash: u64) -> bool {
        let entropy = hash::entropy(hash);
        let tag = entropy ^ packet.sequence.wrapping_mul(0x9e37_79b1);
        let now = (self.world.now >> 20) as u32;
        let cells = self.fingerprints.len();
        let cell = &mut self.fingerprints[entropy as usize % cells];
        let (seen, age) = ((*cell >> 32) as u32, now.wrapping_sub(*cell as u32));
        let fingerprint = u64::from(tag) << 32 | u64::from(now);
        if seen == tag && age < AGAIN.start {
            return false;
        }
        *cell = fingerprint;
        seen == tag && AGAIN.contains(&age) && self.rules.hold(Rule::Repeated)
    }

    pub(crate) fn agent_is_silent(&self) -> bool {
        let beat = self.world.heartbeat;
        beat != 0 && self.world.now.wrapping_sub(beat) > SILENT_NS
    }

    /// A SYN came again that goes, or would go, to `backend`.
    pub(crate) fn suspect(&mut self, packet: &Parsed, service: &Service, backend: u16) {
        self.count(Flow::Repeated);
        let tick = self.world.tick();
        let Some(told) = self.told.get_mut(usize::from(backend)) else {
            return;
        };
        let is_news = told[0] != tick;
        told[0] = tick;
        self.counters.suspicions[usize::from(backend)][0] += 1;
        if is_news {
            self.tell(Kind::Suspected, service, backend, packet);
        }
    }
}
