//! What a session has seen of its own writes: the least that its reads must show. Fed by the positions
//! that the primary's proxy tells, which may come among any other messages, also of other reads.

use crate::failover;
use crate::logic::postgres::picture::Picture;
use crate::logic::postgres::pool::Upstream;
use crate::wire::postgres::link::{self, Epoch, Lsn};

/// A write whose position is not known yet.
#[derive(Debug, Clone, Copy)]
struct Untold {
    /// Who has it.
    server: usize,
    /// How many answers that server's connection had given; `None` once that connection is gone: then
    /// only the position of a later write tells.
    answers: Option<u64>,
    /// The latest epoch when it was acknowledged.
    epoch: Epoch,
    /// It lies behind this.
    behind: Reached,
}

/// How far a primary had come, and of which epoch; 0 where that is not known.
pub(super) type Reached = (Epoch, Lsn);

/// The floor of a session.
#[derive(Debug, Default)]
pub(super) struct Floor {
    pub epoch: Epoch,
    pub position: Lsn,
    /// The last write lies behind this: a history that ends before it surely does not have the write. One
    /// that ends between here and `position` may have it.
    behind: Lsn,
    untold: Option<Untold>,
    /// The position that was told last. It counts once a write is known that it covers: that of a
    /// segment that ran nothing may lie beyond what standbys will ever get.
    last: Option<(Epoch, Lsn)>,
}

impl Floor {
    /// What a read must show.
    pub const fn of_reads(&self) -> failover::Floor {
        failover::Floor {
            epoch: self.epoch,
            position: self.position,
        }
    }

    /// Whether a write's position is yet to be told: until then only the server that has it can be
    /// read.
    pub const fn is_untold(&self) -> bool {
        self.untold.is_some()
    }

    /// Whether nobody will ever tell: another primary has come since.
    pub fn is_given_up(&self, view: &Picture, shard: usize) -> bool {
        let Some(untold) = &self.untold else {
            return false;
        };
        let is_elsewhere = view.primary(shard).is_ok_and(|now| now != untold.server);
        let attested = view.attested(shard);
        is_elsewhere || attested.is_some_and(|epoch| epoch.is_after(&untold.epoch))
    }

    /// Whether the history of this epoch surely does not have what the session wrote last.
    pub fn is_surely_lost(&self, now: Option<Epoch>) -> bool {
        now.is_some_and(|now| {
            now.system == self.epoch.system
                && now.timeline == self.epoch.timeline + 1
                && now.began != Lsn(0)
                && now.began <= self.behind
        })
    }

    /// A segment was answered that may have written, and that was begun when its server had come so far.
    pub fn wrote(&mut self, upstream: &Upstream, attested: Option<Epoch>, behind: Reached) {
        let tie = &upstream.tie;
        // The position may have come in one piece with the answer.
        let is_told = tie.told >= upstream.readies;
        if is_told && let Some((epoch, position)) = self.last {
            self.raise(epoch, position, behind);
        }
        self.untold = (tie.is_linked && !is_told).then(|| Untold {
            server: tie.server,
            answers: Some(upstream.readies),
            epoch: attested.unwrap_or_default(),
            behind,
        });
    }

    /// The proxy tells how far the session's writes reach.
    pub fn take_position(&mut self, upstream: &mut Upstream, body: &[u8]) {
        let Ok(link::FromProxy::Position(told)) = link::FromProxy::read(body) else {
            return;
        };
        self.last = Some((told.epoch, told.position));
        upstream.tie.told = upstream.tie.told.max(told.segments);
        let is_it = |untold: &Untold| {
            let answers = untold.answers;
            untold.server == upstream.tie.server
                && answers.is_some_and(|answers| told.segments >= answers)
        };
        if let Some(untold) = self.untold.take_if(|untold| is_it(untold)) {
            self.raise(told.epoch, told.position, untold.behind);
        }
    }

    fn raise(&mut self, epoch: Epoch, position: Lsn, (known, behind): Reached) {
        let is_of_it = known.system == epoch.system && known.timeline == epoch.timeline;
        let behind = if is_of_it { behind } else { Lsn(0) };
        if self.epoch.is_unknown() || epoch.is_after(&self.epoch) {
            (self.epoch, self.position, self.behind) = (epoch, position, behind);
        } else if epoch == self.epoch {
            self.position = self.position.max(position);
            self.behind = self.behind.max(behind);
        }
    }

    /// A connection is gone: what it had yet to tell it will not.
    pub fn lost_upstream(&mut self, server: usize) {
        if let Some(untold) = &mut self.untold
            && untold.server == server
        {
            untold.answers = None;
        }
    }
}
