//! Which connection a command takes: to the server that has its keys, to that server's copy while it
//! fails, or into the queue of those that wait for one that takes writes.

use super::engine::{Engine, HELD_BYTES_MAX};
use super::link::{Link, LinkId, Pending, Purpose, State};
use super::view::Serving;
use crate::config::DuringFailover;
use crate::wire::resp::write;

/// A command, or a part of one, on its way to a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    pub client: usize,
    /// Which of the client's commands.
    pub number: u32,
    /// Which part of it, or [`WHOLE`](super::link::WHOLE).
    pub part: u32,
    /// Replies to it; only the last counts.
    pub replies: u32,
    pub server: usize,
    pub is_read: bool,
}

impl Engine {
    /// Gives a command to a shared connection.
    pub fn send(&mut self, errand: &Errand, write: impl FnOnce(&mut Vec<u8>)) {
        let is_resp3 = self.clients.get(errand.client).is_some_and(|c| c.is_resp3);
        let Some(lane) = self.way(errand, is_resp3) else {
            self.nobody_serves(errand);
            return;
        };
        self.send_on(lane, errand, write);
    }

    /// Gives a command to that connection.
    pub fn send_on(&mut self, at: LinkId, errand: &Errand, write: impl FnOnce(&mut Vec<u8>)) {
        let queue = self.settings.cache.queue;
        let (Some(link), Some(client)) =
            (self.links.get_mut(at), self.clients.get_mut(errand.client))
        else {
            return;
        };
        if link.pendings.len() >= queue || link.held_bytes() > HELD_BYTES_MAX {
            self.tally.queue_full += 1;
            let is_private = !link.purpose.is_shared();
            let text = "ERR lb: too many commands wait for this server; it was not done";
            self.answer_error(errand, text);
            if is_private {
                self.unblock(errand.client);
            }
            return;
        }
        if !errand.is_read && link.purpose.is_shared() {
            client.writes += 1;
        }
        if !link.is_ready() {
            self.tally.commands_waited += 1;
        }
        let generation = client.generation;
        let pending = Pending {
            part: errand.part,
            replies: errand.replies,
            is_read: errand.is_read,
            ..Pending::for_client(errand.client, generation, errand.number, self.now_ms)
        };
        link.push(pending, write);
        self.touch_link(at);
    }

    /// The connection that a command takes; `None`: nobody serves its keys.
    fn way(&mut self, errand: &Errand, is_resp3: bool) -> Option<LinkId> {
        match self.view.servers.get(errand.server)?.serving {
            Serving::Writer => {}
            Serving::Spare(by) => return self.way_to_spare(by, is_resp3),
        }
        let writer = self.lane(errand.server, Purpose::Writer, is_resp3)?;
        if errand.is_read
            && self
                .links
                .get(writer)
                .is_none_or(|link| !link.is_ready() || link.is_silent)
            && let Some(copy) = self.way_to_copy(errand, is_resp3)
        {
            self.tally.reads_by_copy += 1;
            return Some(copy);
        }
        Some(writer)
    }

    /// The copy, if it may answer: never where no stale read is allowed, and never before a write of
    /// the same client that is still under way.
    pub fn way_to_copy(&mut self, errand: &Errand, is_resp3: bool) -> Option<LinkId> {
        if self.settings.cache.during_failover == DuringFailover::Strict {
            return None;
        }
        self.view.servers.get(errand.server)?.copy?;
        if self.clients.get(errand.client)?.writes > 0 {
            return None;
        }
        let copy = self.lane(errand.server, Purpose::Copy, is_resp3)?;
        let link = self.links.get(copy)?;
        (link.is_ready() && !link.is_silent).then_some(copy)
    }

    /// The shared connection for a purpose; made when it is first asked for.
    pub fn lane(&mut self, server: usize, purpose: Purpose, is_resp3: bool) -> Option<LinkId> {
        let place = place_of(purpose, is_resp3);
        if let Some(lane) = *self.lanes.get(server)?.get(place)? {
            return Some(lane);
        }
        let known = self.view.servers.get(server)?;
        let address = match purpose {
            Purpose::Copy => known.copy?,
            _ => known.writer,
        };
        let lane = self
            .links
            .insert(Link::new(server, purpose, is_resp3, address));
        self.lanes[server][place] = Some(lane);
        self.connect_link(lane);
        if purpose == Purpose::Writer {
            // Connected before it is needed.
            self.lane(server, Purpose::Copy, is_resp3);
        }
        Some(lane)
    }

    /// Whether a server can answer now.
    pub fn can_serve(&self, server: usize) -> bool {
        let lanes = self.lanes.get(server).into_iter().flatten().flatten();
        let mut links = lanes.filter_map(|lane| self.links.get(*lane));
        links.any(|link| link.is_ready() && !link.is_silent)
    }

    fn nobody_serves(&mut self, errand: &Errand) {
        self.tally.commands_timed_out += 1;
        let text = "ERR lb: no server has this key now; it was not done";
        self.answer_error(errand, text);
    }

    /// Answers a command, or a part of one, with an error.
    pub fn answer_error(&mut self, errand: &Errand, text: &str) {
        let generation = self.clients.get(errand.client).map(|c| c.generation);
        let generation = generation.unwrap_or_default();
        // It was not counted as a write, and is not counted off.
        let pending = Pending {
            part: errand.part,
            ..Pending::for_client(errand.client, generation, errand.number, self.now_ms)
        };
        self.fail(usize::MAX, &pending, text);
    }

    /// The same for what was already on a connection.
    pub fn fail(&mut self, from: LinkId, pending: &Pending, text: &str) {
        let mut answer = Vec::new();
        write::error(&mut answer, text);
        self.deliver(from, pending, &answer);
    }

    /// Every so often: connections, silences, commands that have waited too long.
    pub fn tick(&mut self) {
        self.take_view();
        self.tend_doubtful();
        self.expire_clients();
        if self.is_draining {
            self.drain();
        }
        let all: Vec<_> = self.links.iter().map(|(at, _)| at).collect();
        for at in all {
            self.tend_link(at);
            self.expire(at);
            self.listen_for_silence(at);
        }
        self.settle();
    }

    /// Whether anything waits for time to pass.
    pub fn is_waiting(&self) -> bool {
        let waits = |link: &Link| !link.pendings.is_empty() || !matches!(link.state, State::Ready);
        !self.doubtful.is_empty() || self.links.iter().any(|(_, link)| waits(link))
    }

    /// Commands that no server took in time were certainly not done, and are told so. A server that took
    /// some, and is not heard for as long, is given up.
    fn expire(&mut self, at: LinkId) {
        let patience_ms = self.settings.cache.failover_timeout.as_millis() as u64;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        if link.purpose == Purpose::Listening || link.pendings.is_empty() {
            return;
        }
        let oldest = link.pendings.front().map_or(0, |pending| pending.at_ms);
        let quiet_ms = self.now_ms.saturating_sub(link.heard_ms.max(oldest));
        if link.is_ready() && link.purpose.is_shared() && link.owes() && quiet_ms >= patience_ms {
            self.fail_link(at, "it owes answers and was not heard for too long");
        }
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        if link.is_ready() && !link.is_silent {
            return;
        }
        let is_shared = link.purpose.is_shared();
        let late = link.take_unwritten(self.now_ms.saturating_sub(patience_ms));
        for pending in &late {
            self.tally.commands_timed_out += 1;
            let text = "ERR lb: no server took this command in time; it was not done";
            self.fail(at, pending, text);
        }
        if !late.is_empty() && !is_shared {
            self.private_given_up(at);
        }
    }
}

/// Where the shared connection for a purpose is kept.
pub(super) const fn place_of(purpose: Purpose, is_resp3: bool) -> usize {
    let place = match purpose {
        Purpose::Copy => 2,
        Purpose::Gutter => 4,
        _ => 0,
    };
    place + is_resp3 as usize
}
