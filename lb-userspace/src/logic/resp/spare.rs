//! Spares: who takes the keys of a server that has failed and has no copy.

use super::engine::Engine;
use super::link::{LinkId, Purpose};
use super::route::Errand;

impl Engine {
    /// The connection to the spare that takes a command.
    pub fn way_to_spare(&mut self, errand: &Errand, is_resp3: bool) -> Option<LinkId> {
        // Which of the spares is the same for all keys of the failed server, so that commands with
        // several keys stay possible.
        let name = self
            .settings
            .cache
            .primaries
            .get(errand.server)?
            .name
            .as_bytes();
        let alternates: Vec<_> = self
            .settings
            .placement
            .alternates(name, errand.server)
            .collect();
        let spare = alternates.into_iter().find(|other| {
            matches!(
                self.view.servers[*other].serving,
                super::view::Serving::Writer
            )
        })?;
        self.tally.by_spares += 1;
        self.lane(spare, Purpose::Gutter, is_resp3)
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
