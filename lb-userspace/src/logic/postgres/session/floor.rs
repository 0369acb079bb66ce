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
}

/// The floor of a session.
#[derive(Debug, Default)]
pub(super) struct Floor {
    pub epoch: Epoch,
    pub position: Lsn,
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

    /// A segment was answered that may have written.
    pub fn wrote(&mut self, upstream: &Upstream, attested: Option<Epoch>) {
        let tie = &upstream.tie;
        // The position may have come in one piece with the answer.
        let is_told = tie.told >= upstream.readies;
        if is_told && let Some((epoch, position)) = self.last {
            self.raise(epoch, position);
        }
        self.untold = (tie.is_linked && !is_told).then(|| Untold {
            server: tie.server,
            answers: Some(upstream.readies),
            epoch: attested.unwrap_or_default(),
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
        if self.untold.as_ref().is_some_and(is_it) {
            self.untold = None;
            self.raise(told.epoch, told.position);
        }
    }

    fn raise(&mut self, epoch: Epoch, position: Lsn) {
        if self.epoch.is_unknown() || epoch.is_after(&self.epoch) {
            (self.epoch, self.position) = (epoch, position);
        } else if epoch == self.epoch {
            self.position = self.position.max(position);
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
