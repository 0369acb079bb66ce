//! Whether a server has what a reader must see.

use crate::wire::postgres::link::{Epoch, Lsn};

/// The least that a reader must see: everything up to a position of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Whose position it is; unknown if there is no floor.
    pub epoch: Epoch,
    /// Up to where.
    pub position: Lsn,
}

/// What a server shows of a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it, for all that was told.
    Has,
    /// Not yet.
    NotYet,
    /// It never will: the floor is not in its history.
    Lost,
}

/// Whether a server that is at `position` of `epoch` shows a floor.
///
/// Between timelines that are more than one promotion apart only the proxy on the server knows where
/// they parted; it looks in any case, and again: what a server told may have been a life ago.
#[must_use]
pub fn sight(epoch: &Epoch, position: Lsn, floor: &Floor) -> Sight {
    let reached = if position >= floor.position {
        Sight::Has
    } else {
        Sight::NotYet
    };
    if floor.epoch.is_unknown() {
        return Sight::Has;
    }
    if epoch.is_unknown() || floor.epoch.is_after(epoch) {
        return Sight::NotYet;
    }
    if epoch.system != floor.epoch.system || are_rivals(epoch, &floor.epoch) {
        return Sight::Lost;
    }
    if epoch.timeline == floor.epoch.timeline + 1 && floor.position > epoch.began {
        return if epoch.began == Lsn(0) {
            Sight::NotYet
        } else {
            Sight::Lost
        };
    }
    reached
}

/// Whether two servers were promoted beside each other, as far as both know where they began: right
/// after a promotion a server may not have told yet.
pub(super) fn are_rivals(epoch: &Epoch, other: &Epoch) -> bool {
    epoch.is_rival_of(other) && epoch.began != Lsn(0) && other.began != Lsn(0)
}

/// Whether two epochs are one, for all that is known.
pub(super) fn are_same(epoch: &Epoch, other: &Epoch) -> bool {
    epoch.system == other.system && epoch.timeline == other.timeline && !are_rivals(epoch, other)
}
