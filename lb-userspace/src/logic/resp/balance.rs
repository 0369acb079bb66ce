//! Which thread serves which client: as few threads as are enough.
//!
//! A thread that has much to do does more with each system call, and is woken less often; two that share
//! the work of one cost half as much again. So clients are kept together until their thread is busy. Then
//! half of those that are active go to one that is not, and come back when there is little to do. A client
//! changes between two of its commands: when it has been told everything, and before it asks anew.
//!
//! How busy a thread is tells the processor time that it has used. One that waits for a processor is not
//! helped by another that would wait for one as well.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::client::{Client, Hold};
use super::engine::Engine;
use super::peers::Letter;

/// From one look at how busy a thread was to the next.
const LOOK: Duration = Duration::from_millis(20);
/// Permille of a processor's time that a thread uses. Above this, it wants others to help;
const BUSY: u32 = 700;
/// below this, it takes new clients;
const HAS_ROOM: u32 = 500;
/// below this, its clients are better off with another, if both have not more than `HAS_ROOM` to do.
const IDLE: u32 = 200;
/// Looks that pass until what was given has become load elsewhere.
const REST_LOOKS: u32 = 5;
/// A client is active if it asked for something so lately.
const ACTIVE_MS: u64 = 100;

/// How busy a thread is, and whom it helps.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    /// What the thread had used then.
    used: Duration,
    permille: u32,
    /// So many clients go to that thread, as soon as they can.
    leaving: Option<(usize, usize)>,
    /// Looks until the next decision.
    rest: u32,
}

impl Load {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            used: used(),
            permille: 0,
            leaving: None,
            rest: 0,
        }
    }

    /// Half of it is what was, half what is new: a moment is no load. `None`: it is too early to tell.
    fn look(&mut self, now: Instant, used: impl FnOnce() -> Duration) -> Option<u32> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < LOOK {
            return None;
        }
        let used = used();
        let own = used.saturating_sub(self.used).as_secs_f64();
        let busy = ((own / elapsed.as_secs_f64()).clamp(0.0, 1.0) * 1000.0) as u32;
        (self.since, self.used) = (now, used);
        // Nothing of what was long ago.
        let old = if elapsed < 4 * LOOK {
            self.permille
        } else {
            busy
        };
        self.permille = u32::midpoint(old, busy);
        Some(self.permille)
    }
}

/// Processor time that this thread has used.
fn used() -> Duration {
    // It fails only for clocks that do not exist.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Whom a thread gives clients, and whether all of them; `others` are all threads, itself included.
fn decide(own: usize, busy: u32, others: &[u32]) -> Option<(usize, bool)> {
    let all = || {
        others
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, _)| *at != own)
    };
    if busy > BUSY {
        let (to, least) = all().min_by_key(|(_, busy)| *busy)?;
        return (least < HAS_ROOM).then_some((to, false));
    }
    let mut before = all().take_while(|(at, _)| *at < own);
    let to = before.find(|(_, other)| busy < IDLE && busy + other < HAS_ROOM)?;
    Some((to.0, true))
}

/// Who takes the next client: the first that has room, or else who has the most.
fn home(all: &[u32]) -> usize {
    let first = all.iter().position(|busy| *busy < HAS_ROOM);
    let least = || all.iter().enumerate().min_by_key(|(_, busy)| **busy);
    first.unwrap_or_else(|| least().map_or(0, |(at, _)| at))
}

impl Engine {
    fn loads(&self) -> Vec<u32> {
        let peers = self.shared.peers.iter();
        peers
            .map(|peer| peer.busy.load(Ordering::Relaxed))
            .collect()
    }

    /// Looks at how busy the thread was, and whether others should help.
    pub fn look_at_load(&mut self, now: Instant) {
        let Some(busy) = self.load.look(now, used) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        if shared.peers.len() < 2 || self.is_draining {
            return;
        }
        shared.peers[self.place].busy.store(busy, Ordering::Relaxed);
        if self.load.rest > 0 {
            self.load.rest -= 1;
            return;
        }
        let Some((to, is_all)) = decide(self.place, busy, &self.loads()) else {
            self.load.leaving = None;
            return;
        };
        let is_active = |client: &Client| self.now_ms.saturating_sub(client.last_ms) < ACTIVE_MS;
        let active = self.clients.iter().filter(|(_, client)| is_active(client));
        let active = active.count();
        let count = if is_all { active } else { active / 2 };
        self.load.leaving = (count > 0).then_some((to, count));
        self.load.rest = if is_all { 0 } else { REST_LOOKS };
    }

    /// Where a client that has just connected is served, if that is elsewhere.
    pub fn home_elsewhere(&self) -> Option<usize> {
        let is_alone = self.shared.peers.len() < 2 || self.is_draining;
        let home = if is_alone {
            self.place
        } else {
            home(&self.loads())
        };
        (home != self.place).then_some(home)
    }

    /// Lets a client go to another thread, if some are to, and this one can.
    pub fn let_go(&mut self, at: usize) {
        let Some((to, count)) = self.load.leaving else {
            return;
        };
        if !self.clients.get(at).is_some_and(Client::is_quiet) {
            return;
        }
        if let Some(mut client) = self.clients.try_remove(at) {
            self.load.leaving = (count > 1).then_some((to, count - 1));
            self.tally.clients_moved += 1;
            client.stream.deregister(self.poll.registry());
            self.give(to, client);
        }
    }

    /// Gives a client to another thread; whom it cannot take stays.
    pub fn give(&mut self, to: usize, client: Client) {
        let shared = Arc::clone(&self.shared);
        let letter = Letter::Client(Box::new(client));
        if let Some(Letter::Client(client)) = shared.peers[to].post(letter) {
            self.take_in(*client);
        }
    }

    /// Serves a client from now on.
    pub fn take_in(&mut self, mut client: Client) {
        self.next_generation = self.next_generation.wrapping_add(1);
        client.generation = self.next_generation;
        // It is in none of this thread's lists.
        client.is_dirty = false;
        let entry = self.clients.vacant_entry();
        let token = Self::client_token(entry.key());
        if let Err(error) = client.stream.register(self.poll.registry(), token) {
            tracing::warn!(%error, "a client cannot be watched");
            self.shared.counts.clients.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        entry.insert(client);
    }
}

impl Client {
    /// Whether it waits for nothing, and nothing waits for it.
    fn is_quiet(&self) -> bool {
        let is_empty = self.unanswered() == 0 && self.input.is_empty() && self.output.is_empty();
        let is_free = self.hold == Hold::No && !self.is_leaving && !self.is_readable;
        is_empty && is_free && !self.is_full && self.writes == 0 && self.more.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_together_until_their_thread_is_busy() {
        assert_eq!(home(&[0, 0, 0]), 0);
        assert_eq!(home(&[700, 100, 0]), 1);
        assert_eq!(home(&[700, 800, 650]), 2, "who has the least to do");
        assert_eq!(decide(0, 500, &[500, 0, 0]), None, "one is enough");
        assert_eq!(decide(0, 900, &[900, 300, 100]), Some((2, false)));
        assert_eq!(decide(0, 900, &[900, 800, 700]), None, "nobody has room");
        assert_eq!(decide(1, 450, &[450, 450]), None, "two are needed");
        assert_eq!(decide(1, 100, &[200, 100]), Some((0, true)));
        assert_eq!(decide(1, 100, &[580, 100]), None, "there is no room");
        assert_eq!(decide(0, 100, &[100, 200]), None, "the first stays");
    }

    #[test]
    fn a_thread_is_as_busy_as_it_uses_a_processor() {
        let mut load = Load::new();
        let (began, before) = (load.since, load.used);
        let mut look = |after: Duration, used| load.look(began + after, || before + used);
        assert_eq!(look(LOOK / 2, LOOK / 2), None, "too early");
        assert_eq!(look(LOOK, LOOK / 2), Some(250), "half of half");
        assert_eq!(look(2 * LOOK, LOOK * 3 / 2), Some(625));
        assert_eq!(look(22 * LOOK, LOOK * 3 / 2), Some(0), "a long pause");
    }
}
