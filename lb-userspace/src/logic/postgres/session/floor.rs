//! What a session has seen of its own writes: the least that its reads must show. Fed by the positions
//! that the primary's proxy tells, which may come among any other messages, also of other reads.

use crate::logic::postgres::pool::Upstream;
use crate::wire::postgres::link::{self, Epoch, Lsn};

/// The floor of a session.
#[derive(Debug, Default)]
pub(super) struct Floor {
    pub epoch: Epoch,
    pub position: Lsn,
    /// A write was acknowledged, and its position is not known yet: which server will tell, and how
    /// many answers it had given.
    pub awaited: Option<(usize, u64)>,
    /// That server was lost before it told.
    pub is_lost: bool,
}

impl Floor {
    /// A segment was answered that may have written.
    pub fn wrote(&mut self, upstream: &Upstream) {
        let tie = &upstream.tie;
        // The position may have come in one piece with the answer.
        let is_told = tie.told >= upstream.readies;
        self.awaited = (tie.is_linked && !is_told).then_some((tie.server, upstream.readies));
    }

    /// The proxy tells how far the session's writes reach.
    pub fn take_position(&mut self, upstream: &mut Upstream, body: &[u8]) {
        let Ok(link::FromProxy::Position(told)) = link::FromProxy::read(body) else {
            return;
        };
        self.raise(told.epoch, told.position);
        upstream.tie.told = upstream.tie.told.max(told.segments);
        if let Some((server, segments)) = self.awaited
            && server == upstream.tie.server
            && told.segments >= segments
        {
            self.awaited = None;
        }
    }

    fn raise(&mut self, epoch: Epoch, position: Lsn) {
        if self.epoch.is_unknown() || epoch.is_after(&self.epoch) {
            (self.epoch, self.position) = (epoch, position);
        } else if epoch == self.epoch {
            self.position = self.position.max(position);
        }
    }

    /// A connection is gone: what it had yet to tell nobody will.
    pub fn lost_upstream(&mut self, server: usize) {
        if self.awaited.is_some_and(|(awaited, _)| awaited == server) {
            self.awaited = None;
            self.is_lost = true;
        }
    }
}
