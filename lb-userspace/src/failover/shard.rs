//! What is known of one shard: the highest epoch, and whether anybody disputes it.

use super::floor::{are_rivals, are_same};
use super::topology::ServerId;
use super::view::Refusal;
use crate::wire::postgres::link::{Epoch, Lsn};

/// The highest epoch of a shard's cluster that this daemon knows of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known(Option<Epoch>);

impl Known {
    pub(super) const fn new(persisted: Option<Epoch>) -> Self {
        Self(persisted)
    }

    pub(super) const fn epoch(&self) -> Option<&Epoch> {
        self.0.as_ref()
    }

    /// Somebody spoke of an epoch: whether it is higher than any before. Whoever has replayed a
    /// timeline proves as much as its primary that it began.
    pub(super) fn hears_of(&mut self, epoch: &Epoch) -> bool {
        let Some(known) = &mut self.0 else {
            return false;
        };
        // Or it is the same one, and now it is known where it began.
        let tells_more = are_same(epoch, known) && known.began == Lsn(0) && epoch.began != Lsn(0);
        let is_news = epoch.is_after(known) || tells_more;
        if is_news {
            *known = *epoch;
        }
        is_news
    }

    /// Takes an epoch, and with it a cluster, for this shard's own.
    pub(super) fn adopt(&mut self, epoch: Epoch) {
        debug_assert!(self.0.is_none(), "a shard's cluster never changes");
        self.0 = Some(epoch);
    }

    /// Which of those that claim to be primary is: nobody, the one, or a dispute.
    pub(super) fn primary<'a>(
        &self,
        claims: impl Iterator<Item = (ServerId, &'a Epoch)>,
    ) -> Result<Option<ServerId>, Refusal> {
        let Some(known) = &self.0 else {
            return Ok(None);
        };
        let mut primary = None;
        for (server, claim) in claims {
            if are_rivals(claim, known) {
                return Err(Refusal::Rival(server));
            }
            if !are_same(claim, known) {
                continue;
            }
            if let Some(other) = primary.replace(server) {
                return Err(Refusal::TwoPrimaries(other, server));
            }
        }
        Ok(primary)
    }
}
