//! When a server does not answer: who is told what, and what is asked again elsewhere.
//!
//! A read may be asked again: its bytes are still here, and nothing of its answer was passed on. A
//! write of which no byte was written waits for who takes writes next. A write that may have reached
//! the server is answered with an error that begins with `UNKNOWN`, never repeated.

use super::engine::Engine;
use super::link::{Link, LinkId, NOBODY, Pending, Purpose, State};
use super::route::{Errand, place_of};
use super::view::{Serving, View};
use crate::config::DuringFailover;
use crate::wire::resp::reply;
use crate::wire::resp::write;

/// What is said of a write whose outcome nobody knows.
const UNKNOWN: &str =
    "UNKNOWN lb: the server failed before it answered; whether this was done is not known";
/// What is said of a write that its copy did not confirm.
const NOT_CONFIRMED: &str =
    "UNKNOWN lb: done, but its copy did not confirm it in time; it may be lost";

impl Engine {
    /// A connection has failed.
    pub fn fail_link(&mut self, at: LinkId, reason: &str) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        self.tally.links_failed += 1;
        let was_ready = link.is_ready();
        let cut = link.pendings.front().copied().filter(|_| link.is_passing);
        if let Some(stream) = &mut link.stream {
            stream.deregister(self.poll.registry());
        }
        link.reset();
        link.failures += 1;
        let failures = link.failures;
        let (purpose, server, address) = (link.purpose, link.server, link.address);
        if was_ready || failures == 1 {
            tracing::info!(%address, ?purpose, "a connection to a cache server has failed: {reason}");
        }
        let retry_ms = self.retry_at(failures.saturating_sub(u32::from(was_ready)));
        if let Some(link) = self.links.get_mut(at) {
            link.state = State::Down { retry_ms };
            link.since_ms = self.now_ms;
        }
        if let Some(pending) = cut {
            self.cut_short(&pending);
        }
        if purpose.is_shared() {
            self.sort_out(at, server);
            self.report_lane(at);
            return;
        }
        if purpose != Purpose::Listening {
            if self.can_wait(at) {
                return;
            }
            self.answer_all_unknown(at);
        }
        self.private_failed(at);
    }

    /// Decides about every command that a shared connection owed.
    fn sort_out(&mut self, at: LinkId, server: usize) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let (is_resp3, purpose) = (link.is_resp3, link.purpose);
        let (out, all) = link.take_unanswered();
        self.sort_out_unconfirmed(at);
        for (mut pending, range, may_be_done) in all {
            let may_be_done = may_be_done && !std::mem::take(&mut pending.is_refused);
            if pending.is_wait || (pending.is_read && !self.is_wanted(&pending)) {
                continue;
            }
            if may_be_done && !pending.is_read {
                self.tally.outcomes_unknown += 1;
                self.fail(at, &pending, UNKNOWN);
                continue;
            }
            let errand = errand_of(&pending, server);
            let elsewhere = match (pending.is_read, purpose) {
                (true, Purpose::Copy) => self.lane(server, Purpose::Writer, is_resp3),
                (true, Purpose::Writer) => self.way_to_copy(&errand, is_resp3),
                _ => None,
            };
            if pending.is_read && (may_be_done || elsewhere.is_some()) {
                self.tally.reads_repeated += 1;
            }
            let target = elsewhere.unwrap_or(at);
            if let Some(link) = self.links.get_mut(target) {
                if target != at {
                    pending.at_ms = self.now_ms;
                }
                link.push(pending, |buffer| buffer.extend_from_slice(&out[range]));
            }
            self.touch_link(target);
        }
    }

    /// The same for what was answered and not confirmed.
    fn sort_out_unconfirmed(&mut self, at: LinkId) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let held = std::mem::take(&mut link.waiting);
        let answers = std::mem::take(&mut link.waiting_bytes);
        let is_strict = self.settings.cache.during_failover == DuringFailover::Strict;
        let mut start = 0;
        for (pending, length) in held {
            let answer = &answers[start..start + length];
            start += length;
            if pending.is_read && !is_strict {
                self.deliver(at, &pending, answer);
            } else if pending.is_read {
                let text = "ERR lb: the server failed before its copy confirmed what was read";
                self.fail(at, &pending, text);
            } else {
                // Done by the server, and by nobody else for all that is known.
                self.tally.outcomes_unknown += 1;
                self.fail(at, &pending, UNKNOWN);
            }
        }
    }

    /// Whether a connection of one client's own goes on waiting for a server: nothing was sent on it, or
    /// nothing that is not answered and that the next server would not know of.
    fn can_wait(&mut self, at: LinkId) -> bool {
        let Some(link) = self.links.get_mut(at) else {
            return false;
        };
        let is_fresh = match link.purpose {
            Purpose::Blocking => !link.owes() && !link.pendings.is_empty(),
            Purpose::Watching => !link.was_ready,
            _ => false,
        };
        if is_fresh && let Some(server) = self.view.servers.get(link.server) {
            link.address = server.writer;
        }
        is_fresh
    }

    fn answer_all_unknown(&mut self, at: LinkId) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let (_, all) = link.take_unanswered();
        for (pending, _, may_be_done) in all {
            if may_be_done && !pending.is_read {
                self.tally.outcomes_unknown += 1;
                self.fail(at, &pending, UNKNOWN);
            } else {
                let text = "ERR lb: the server failed; this was not done";
                self.fail(at, &pending, text);
            }
        }
    }

    /// A server that owes an answer for too long is passed over: reads go to its copy, and nothing more
    /// is written to it until it is heard again.
    pub fn listen_for_silence(&mut self, at: LinkId) {
        let least_ms = self.settings.cache.silence.as_millis() as u64;
        let is_strict = self.settings.cache.during_failover == DuringFailover::Strict;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        if !link.purpose.is_shared() || is_strict {
            return;
        }
        if !link.is_ready() {
            if !link.pendings.is_empty() {
                self.ask_elsewhere(at);
            }
            return;
        }
        let Some(oldest) = link.pendings.front().map(|pending| pending.at_ms) else {
            return;
        };
        let silent_ms = self.now_ms.saturating_sub(link.heard_ms.max(oldest));
        if silent_ms < link.pace.late_after_ms(least_ms) {
            return;
        }
        if !link.is_silent {
            link.is_silent = true;
            self.tally.servers_silent += 1;
            self.report_lane(at);
        }
        self.ask_elsewhere(at);
    }

    /// Reads that wait for a silent server are asked of the other one of the two; whichever answer of
    /// the silent one comes later is thrown away.
    fn ask_elsewhere(&mut self, at: LinkId) {
        let Some(link) = self.links.get(at) else {
            return;
        };
        let (server, is_resp3) = (link.server, link.is_resp3);
        let other = match link.purpose {
            Purpose::Writer => self.copy_lane(server, is_resp3),
            Purpose::Copy => self.lane(server, Purpose::Writer, is_resp3),
            _ => None,
        };
        let is_good = |other: &LinkId| {
            let other = self.links.get(*other);
            other.is_some_and(|other| other.is_ready() && !other.is_silent)
        };
        let Some(other) = other.filter(is_good) else {
            return;
        };
        let Some([link, other_link]) = self.links.get_disjoint_mut([at, other]).ok() else {
            return;
        };
        let mut asked = 0;
        // The beginning of its first answer may have been passed on.
        let begun = usize::from(link.is_passing);
        for (pending, bytes) in link.with_bytes().skip(begun) {
            let client = self.clients.get(pending.client as usize);
            let is_free = client.is_some_and(|client| {
                client.generation == pending.generation && client.writes == 0
            });
            if pending.is_read && is_free && pending.client != NOBODY {
                let mut again = *pending;
                again.at_ms = self.now_ms;
                other_link.push(again, |out| out.extend_from_slice(bytes));
                pending.client = NOBODY;
                asked += 1;
            }
        }
        if asked > 0 {
            self.tally.reads_repeated += asked;
            self.touch_link(other);
        }
    }

    fn copy_lane(&mut self, server: usize, is_resp3: bool) -> Option<LinkId> {
        self.view.servers.get(server)?.copy?;
        self.lane(server, Purpose::Copy, is_resp3)
    }

    /// A silent server speaks again.
    pub fn is_heard_again(&mut self, at: LinkId) {
        if let Some(link) = self.links.get_mut(at) {
            link.is_silent = false;
        }
        self.touch_link(at);
        self.report_lane(at);
    }

    /// An error by which a server says that it cannot serve now: it is a replica, or loads, or has lost its
    /// primary. What it refused was certainly not done, and waits for the next who can.
    pub fn takes_back(&mut self, at: LinkId, answer: &[u8]) -> bool {
        let reason = match answer {
            [
                b'-',
                b'R',
                b'E',
                b'A',
                b'D',
                b'O',
                b'N',
                b'L',
                b'Y',
                b' ',
                ..,
            ] => "it is a replica",
            [b'-', b'L', b'O', b'A', b'D', b'I', b'N', b'G', b' ', ..] => "it loads its data",
            [
                b'-',
                b'M',
                b'A',
                b'S',
                b'T',
                b'E',
                b'R',
                b'D',
                b'O',
                b'W',
                b'N',
                b' ',
                ..,
            ] => "it has lost its primary",
            _ => return false,
        };
        let Some(link) = self.links.get_mut(at) else {
            return false;
        };
        let is_shared = link.purpose.is_shared();
        let first = link.pendings.front_mut();
        // What EXEC refuses is refused in part, for all that is known.
        let Some(first) = first.filter(|first| is_shared && first.replies == 1 && !first.is_wait)
        else {
            return false;
        };
        first.is_refused = true;
        self.fail_link(at, reason);
        true
    }

    /// In `sync`, a `WAIT` behind what was sent: answers are held until it is answered.
    pub fn confirmation(&mut self, at: LinkId) -> Option<(Pending, Vec<u8>)> {
        if !self.settings.is_sync {
            return None;
        }
        let is_strict = self.settings.cache.during_failover == DuringFailover::Strict;
        let link = self.links.get(at)?;
        if link.purpose != Purpose::Writer || !link.is_ready() || link.unconfirmed == 0 {
            return None;
        }
        let wants = link.has_unconfirmed_write || is_strict;
        let timeout = match wants && self.view.servers.get(link.server)?.copy.is_some() {
            true => self.settings.cache.sync_timeout.as_millis(),
            // Nothing to wait for: the answer is at once, and frees what is held.
            false => 1,
        };
        let replicas: &[u8] = if wants { b"1" } else { b"0" };
        let mut command = Vec::new();
        write::command(
            &mut command,
            &[&b"WAIT"[..], replicas, timeout.to_string().as_bytes()],
        );
        let pending = Pending {
            is_wait: true,
            ..Pending::for_nobody(self.now_ms)
        };
        Some((pending, command))
    }

    /// The answer to a `WAIT`: how many copies have everything in front of it.
    pub fn confirmed(&mut self, at: LinkId, answer: &[u8]) {
        let copies = reply::integer(answer).unwrap_or_default();
        let is_strict = self.settings.cache.during_failover == DuringFailover::Strict;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let server = link.server;
        let waiting = std::mem::take(&mut link.waiting);
        let bytes = std::mem::take(&mut link.waiting_bytes);
        // Whose copy is known to be lost is read without it: it cannot be promoted.
        let has_copy = self
            .view
            .servers
            .get(server)
            .is_some_and(|s| s.copy.is_some());
        let mut start = 0;
        for (pending, length) in waiting {
            let answer = &bytes[start..start + length];
            start += length;
            let is_good = copies >= 1
                || reply::kind(answer) == reply::Kind::Error
                || (pending.is_read && (!is_strict || (!has_copy && self.is_vouched(server))));
            if is_good {
                self.deliver(at, &pending, answer);
            } else {
                self.tally.not_confirmed += 1;
                self.fail(at, &pending, NOT_CONFIRMED);
            }
        }
    }

    /// Who greets must be who the authority means: the process that it has looked at, in its role.
    pub fn is_who_it_should_be(&mut self, at: LinkId, info: &str) -> Result<(), String> {
        let field = |name: &str| {
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        let Some(link) = self.links.get(at) else {
            return Ok(());
        };
        let Some(server) = self.view.servers.get(link.server) else {
            return Ok(());
        };
        let role = field("role");
        let known = match link.purpose {
            // A copy that is being promoted has the same data.
            Purpose::Copy => &server.copy_run_id,
            _ if role != "master" => return Err(format!("its role is {role}")),
            _ => &server.run_id,
        };
        if field("loading") == "1" {
            return Err("it loads its data".to_owned());
        }
        match known {
            Some(run_id) if **run_id == *field("run_id") => Ok(()),
            Some(_) => Err("another process answers there".to_owned()),
            None => Err("nobody has looked at it yet".to_owned()),
        }
    }

    /// Takes the newest view: connections to who serves no more are cut.
    pub fn take_view(&mut self) {
        let view = self.shared.view();
        if view.version == self.view.version {
            return;
        }
        self.view = view;
        let all: Vec<_> = self.links.iter().map(|(at, _)| at).collect();
        for at in all {
            let Some(link) = self.links.get(at) else {
                continue;
            };
            match fate(&self.view, link) {
                // Who is known now may have been asked too early.
                Fate::Stays => {
                    if let Some(link) = self.links.get_mut(at)
                        && matches!(link.state, State::Down { .. })
                    {
                        link.state = State::Down { retry_ms: 0 };
                        self.connect_link(at);
                    }
                }
                Fate::Moves(address) => {
                    if !matches!(link.state, State::Down { .. }) {
                        self.fail_link(at, "another server takes its place");
                    }
                    if let Some(link) = self.links.get_mut(at) {
                        link.address = address;
                        link.failures = 0;
                        link.state = State::Down { retry_ms: 0 };
                    }
                    self.connect_link(at);
                }
                Fate::Diverts(by) => self.divert(at, by),
                Fate::Ends => self.end_lane(at),
            }
        }
        // Connected before it is needed.
        for server in self.owners() {
            for is_resp3 in [false, true] {
                if self.lanes[server][place_of(Purpose::Writer, is_resp3)].is_some() {
                    self.lane(server, Purpose::Copy, is_resp3);
                }
            }
        }
    }

    /// Another server takes the keys: what waits goes there.
    fn divert(&mut self, at: LinkId, by: usize) {
        if let Some(link) = self.links.get(at)
            && !matches!(link.state, State::Down { .. })
        {
            self.fail_link(at, "another server takes its keys");
        }
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let is_resp3 = link.is_resp3;
        if link.pendings.is_empty() {
            return;
        }
        let (out, all) = link.take_unanswered();
        let Some(lane) = self.lane(by, Purpose::Gutter, is_resp3) else {
            return;
        };
        for (mut pending, range, _) in all {
            pending.at_ms = self.now_ms;
            if let Some(link) = self.links.get_mut(lane) {
                link.push(pending, |buffer| buffer.extend_from_slice(&out[range]));
            }
        }
        self.touch_link(lane);
    }

    fn end_lane(&mut self, at: LinkId) {
        self.fail_link(at, "it is not needed any more");
        for lanes in &mut self.lanes {
            for lane in lanes.iter_mut().filter(|lane| **lane == Some(at)) {
                *lane = None;
            }
        }
        let left = self.links.get_mut(at).map(Link::take_unanswered);
        for (pending, ..) in left.map(|(_, all)| all).unwrap_or_default() {
            let text = "ERR lb: the server is gone; this was not done";
            self.fail(at, &pending, text);
        }
        self.drop_link(at);
    }
}

enum Fate {
    Stays,
    Moves(std::net::SocketAddr),
    /// Its commands go to that server.
    Diverts(usize),
    Ends,
}

/// What a new view means for a connection.
fn fate(view: &View, link: &Link) -> Fate {
    let Some(server) = view.servers.get(link.server) else {
        return Fate::Ends;
    };
    let wanted = match (link.purpose, server.serving) {
        (Purpose::Copy, _) => server.copy,
        (Purpose::Writer, Serving::Spare(by)) => return Fate::Diverts(by),
        _ => Some(server.writer),
    };
    match wanted {
        Some(address) if address == link.address => Fate::Stays,
        Some(address) => Fate::Moves(address),
        None => Fate::Ends,
    }
}

fn errand_of(pending: &Pending, server: usize) -> Errand {
    Errand {
        client: pending.client as usize,
        number: pending.number,
        part: pending.part,
        replies: pending.replies,
        server,
        is_read: pending.is_read,
    }
}
