//! Spares: who takes the keys of a server that has failed and has no copy.

use super::engine::Engine;
use super::link::{LinkId, Purpose};

impl Engine {
    /// The connection to the server that takes the keys of one that has failed: the authority says which
    /// and has emptied it. It is one for all keys, so that commands with several stay possible.
    pub fn way_to_spare(&mut self, by: usize, is_resp3: bool) -> Option<LinkId> {
        self.tally.by_spares += 1;
        self.lane(by, Purpose::Gutter, is_resp3)
    }

    /// Tells the authority how a lane is.
    pub fn report_lane(&mut self, at: LinkId) {
        let Some(link) = self.links.get(at) else {
            return;
        };
        if link.purpose == Purpose::Writer {
            let is_good = link.is_ready() && !link.is_silent;
            self.shared.told(link.server, is_good);
        }
    }
}
