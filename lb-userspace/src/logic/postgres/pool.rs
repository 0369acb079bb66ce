//! Connections to database proxies that no session has at the moment, of one thread. A session takes
//! one when it first needs a server, keeps it, and leaves it here if nothing of the session is on it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::upstream::postgres::Server;
use crate::upstream::postgres::settings::Settings;

/// The most resting connections of one thread.
const RESTING_MAX: usize = 256;
/// How long a connection may rest.
const RESTING_FOR: Duration = Duration::from_secs(60);

/// What ties a connection to the server that it leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// Which server of the cluster.
    pub server: usize,
    /// Whether the proxy takes floors and tells positions.
    pub is_linked: bool,
    /// How many of its answers are covered by the positions that it told.
    pub told: u64,
}

/// A connection to a database proxy.
pub(super) type Upstream = Server<Bound>;

/// Whose connection, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Position of the cluster.
    pub cluster: usize,
    pub server: usize,
    pub user: Rc<str>,
    pub database: Rc<str>,
    /// What its login gave: what a RESET goes back to.
    pub base: Settings,
}

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "connections go to sessions and back: a pointer moves"
    )]
    resting: RefCell<HashMap<Key, Vec<Box<Upstream>>>>,
    count: Cell<usize>,
}

impl Pool {
    /// A connection that rests; one with just these settings first.
    pub fn take(&self, key: &Key, settings: &Settings) -> Option<Box<Upstream>> {
        loop {
            let mut resting = self.resting.borrow_mut();
            let all = resting.get_mut(key)?;
            let alike = all.iter().rposition(|one| one.settings == *settings);
            let mut one = all.swap_remove(alike.or(all.len().checked_sub(1))?);
            drop(resting);
            self.count.set(self.count.get() - 1);
            if one.is_quiet() {
                return Some(one);
            }
        }
    }

    /// Leaves a clean connection here. If there are too many, it is closed.
    pub fn give(&self, key: Key, mut one: Box<Upstream>) {
        if self.count.get() >= RESTING_MAX || one.cancels.is_any() {
            return;
        }
        one.used = Instant::now();
        self.resting.borrow_mut().entry(key).or_default().push(one);
        self.count.set(self.count.get() + 1);
    }

    /// Closes what rested too long.
    pub fn sweep(&self, now: Instant) {
        let mut resting = self.resting.borrow_mut();
        for all in resting.values_mut() {
            all.retain(|one| now.saturating_duration_since(one.used) < RESTING_FOR);
        }
        resting.retain(|_, all| !all.is_empty());
        self.count.set(resting.values().map(Vec::len).sum());
    }
}
