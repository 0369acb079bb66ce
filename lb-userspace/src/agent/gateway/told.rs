//! What the program tells at once: probes follow immediately, people hear of it now and then.

use std::time::{Duration, Instant};

use lb_common::backend::BackendId;
use lb_common::event::{Event as Told, EventKind};
use lb_common::pool::PoolId;

use super::Gateway;
use crate::agent::events::event;
use crate::control::Event;

/// The same thing about the same backend is told of once in this time.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl Gateway {
    /// The program told of a backend or a pool.
    pub(super) fn told(&mut self, kind: EventKind, told: &Told) {
        let id = BackendId(told.backend);
        if matches!(kind, EventKind::Suspected | EventKind::Rescued) {
            self.backends.probe_now(id);
        }
        let subject = match kind {
            EventKind::Empty => told.pool,
            _ => told.backend,
        };
        let place = (kind as u32, subject);
        let now = Instant::now();
        let is_news = |then: &Instant| now.duration_since(*then) >= TOLD_AGAIN_AFTER;
        if !self.duties.told.get(&place).is_none_or(is_news) {
            return;
        }
        self.duties.told.insert(place, now);
        let pool = self.pool_name(PoolId(u32::from(told.pool)));
        let backend = self.backends.get(id).map(|it| it.config.name.clone());
        let name = backend.clone().unwrap_or_else(|| format!("id {}", id.0));
        let (word, text) = match kind {
            EventKind::Suspected => (
                "suspected",
                format!("clients send SYNs to {pool}/{name} again: it is probed at once"),
            ),
            EventKind::Rescued => (
                "rescued",
                format!(
                    "no agent was alive and {pool}/{name} did not answer: SYNs that came again \
                     went to the next rung"
                ),
            ),
            EventKind::Reset => (
                "reset",
                format!("{pool}/{name} is lost: its flows are reset as their packets come"),
            ),
            EventKind::Empty => (
                "empty",
                format!("pool {pool} has no backend left for some of its packets"),
            ),
        };
        self.events.record(Event {
            pool: Some(pool),
            backend: backend.filter(|_| kind != EventKind::Empty),
            ..event(word, text)
        });
    }
}
