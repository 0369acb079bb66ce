//! A read that is late is asked of a second server as well, and the first answer counts. What the other
//! one answers then is read and forgotten, so that its connection stays good.

use std::rc::Rc;
use std::task::Context;
use std::time::Instant;

use super::{End, Mode, Session};
use crate::config::ReadRoute;
use crate::failover::Reads;
use crate::logic::postgres::picture;

impl Session {
    /// Sends a second copy of a read that is late, if there is another server that may answer it.
    pub(super) fn hedge(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Mode::Held(held) = &mut self.mode else {
            return Ok(false);
        };
        let is_late = held.late.is_some_and(|late| late <= Instant::now());
        if !is_late {
            return Ok(false);
        }
        held.late = None;
        let (first, bytes, is_untold) = (held.server, held.bytes, held.is_unanswered());
        if !is_untold || self.pinned.is_some() || !self.to_server.is_empty() {
            return Ok(false);
        }
        let Some(second) = self.second(first) else {
            return Ok(false);
        };
        if !self.worker.hedging.take(self.who.position) || !self.ask_also(cx, second, bytes)? {
            return Ok(false);
        }
        self.who.cluster.servers[second].counts.hedges.add();
        if let Mode::Held(held) = &mut self.mode {
            held.second = Some(second);
        }
        Ok(true)
    }

    /// Another server that may answer, and to which there is a connection now.
    fn second(&mut self, first: usize) -> Option<usize> {
        if self.must_read_from_primary() || self.worker.route() == ReadRoute::Primary {
            return None;
        }
        let now = Instant::now();
        let (worker, who) = (Rc::clone(&self.worker), Rc::clone(&self.who));
        let view = who.cluster.view();
        let mut order = worker.order.borrow_mut();
        let (shard, floor) = (picture::id(self.shard), self.floors[self.shard].of_reads());
        let reads = view
            .view()
            .reads(shard, &floor, self.me.id.into(), now, &mut order);
        if reads != Reads::Some {
            return None;
        }
        let others = order.iter().map(|server| usize::from(server.0));
        others
            .filter(|&server| server != first && !worker.is_avoided(who.position, server, now))
            .find(|&server| self.is_prepared(server) || self.takes_resting(server))
    }

    /// Takes a connection that rests and is just as this session wants it.
    fn takes_resting(&mut self, server: usize) -> bool {
        if self.upstreams[server].is_some() {
            return false;
        }
        let key = self.who.key(server);
        match self.worker.pool.take(&key, &self.settings) {
            Some(upstream) if upstream.settings == self.settings => {
                self.upstreams[server] = Some(upstream);
                true
            }
            Some(upstream) => {
                self.worker.pool.give(key, upstream);
                false
            }
            None => false,
        }
    }

    /// This server answers first: the other copy is not needed.
    pub(super) fn answers_first(&mut self, server: usize) {
        let Mode::Held(held) = &mut self.mode else {
            return;
        };
        let Some(second) = held.second.take() else {
            return;
        };
        let loser = if server == second {
            self.who.cluster.servers[second].counts.hedges_won.add();
            std::mem::replace(&mut held.server, second)
        } else {
            second
        };
        // It is not cancelled: that could hit what the connection does next.
        tracing::trace!(client = self.me.id, loser, "a second copy was sent");
    }
}
