//! The watch: one connection of its own to the local server, on which the proxy asks again and again
//! what the server is and how far it is. Links, floors, positions and the fence stand on its answers.
//!
//! Questions are counted. Whoever needs to know something that holds *now* takes the number that the
//! next question will have, and waits until that number is answered. So one answer serves everybody
//! who came before its question was asked, and nobody is served an answer that is older than himself.

mod fence;
pub(super) mod history;
mod question;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

pub(super) use self::fence::Fence;
use self::history::History;
use self::question::{Answer, Questions};
use super::Proxy;
use crate::telemetry::counter::Counter;
use crate::telemetry::histogram::Histogram;
use crate::upstream::postgres::ServerError;
use crate::wire::postgres::link::{Answering, Epoch, Heartbeat, Lsn, Role};

/// While somebody watches and positions move.
const ASK_EVERY_MOVING: Duration = Duration::from_millis(5);
/// While somebody watches and nothing moves.
const ASK_EVERY_RESTING: Duration = Duration::from_millis(50);
/// While nobody watches: for the fence, the console and metrics.
const ASK_EVERY_ALONE: Duration = Duration::from_millis(500);
/// Questions are never closer together than this, whoever waits.
const ASK_EVERY_MIN: Duration = Duration::from_millis(2);
/// Positions that changed within this time are moving.
const MOVING_FOR: Duration = Duration::from_secs(1);
/// A question that has waited for so long has no answer that is just slow.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(100);
/// A connection that has been silent for so long is made anew.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);
/// Between attempts to connect to a server that is not there.
const CONNECT_EVERY: Duration = Duration::from_millis(100);
/// The same, while somebody waits for an answer.
const CONNECT_EVERY_MIN: Duration = Duration::from_millis(10);
/// Between attempts to connect to a server that refuses us.
const CONNECT_EVERY_REFUSED: Duration = Duration::from_secs(2);

/// What the server said last.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub role: Role,
    pub history: Rc<History>,
    pub started_us: u64,
    /// When it was asked.
    pub asked: Instant,
}

impl Known {
    /// What its queries see of the log.
    pub fn position(&self) -> Lsn {
        match self.role {
            Role::Unknown => Lsn(0),
            Role::Primary { inserted, .. } => inserted,
            Role::Standby { replayed, .. } => replayed,
        }
    }

    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary { .. })
    }
}

/// What is known of the server, and who waits to know more.
#[derive(Debug)]
pub(super) struct Watch {
    known: RefCell<Option<Known>>,
    /// Why there is no connection; empty if there is one.
    unreachable: RefCell<String>,
    is_connected: Cell<bool>,
    /// The server does not let the watch in: nobody is to wait for it.
    is_refused: Cell<bool>,
    /// A new number for each connection: see [`Heartbeat::incarnation`].
    incarnation: Cell<u64>,
    /// Questions that were sent, and the number of the last that was answered.
    asked: Cell<u64>,
    answered: Cell<u64>,
    /// Since when a question waits for its answer.
    waits_since: Cell<Option<Instant>>,
    /// The number of the question that somebody waits for.
    wanted: Cell<u64>,
    wants: Notify,
    /// Tasks to be woken by the next answer.
    wakers: RefCell<Vec<Waker>>,
    moved: Cell<Option<Instant>>,
    watchers: Cell<usize>,
    changes: watch::Sender<()>,
    /// How long answers take.
    pub took: Histogram,
    pub reconnects: Counter,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            known: RefCell::default(),
            unreachable: RefCell::new("not connected yet".to_owned()),
            is_connected: Cell::default(),
            is_refused: Cell::default(),
            incarnation: Cell::default(),
            asked: Cell::default(),
            answered: Cell::default(),
            waits_since: Cell::default(),
            wanted: Cell::default(),
            wants: Notify::default(),
            wakers: RefCell::default(),
            moved: Cell::default(),
            watchers: Cell::default(),
            changes: watch::Sender::new(()),
            took: Histogram::default(),
            reconnects: Counter::default(),
        }
    }
}

/// Somebody who listens to every change; counted until dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    watch: Rc<Watch>,
    changes: watch::Receiver<()>,
}

impl Watcher {
    /// Returns when there is news since the last call. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The sender lives as long as the watch, which we hold.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watch.watchers.set(self.watch.watchers.get() - 1);
    }
}

impl Watch {
    /// What the server said last; `None` before its first answer. Of a server that cannot be reached
    /// any more, it is what it said before.
    pub fn known(&self) -> Option<Known> {
        self.known.borrow().clone()
    }

    /// Whether it was a primary when it was last asked.
    pub fn is_primary(&self) -> bool {
        self.known.borrow().as_ref().is_some_and(Known::is_primary)
    }

    /// How many questions were sent.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Which question the newest answer belongs to.
    pub fn answered(&self) -> u64 {
        self.answered.get()
    }

    /// Has a question asked from now on, and returns its number.
    pub fn ask(&self) -> u64 {
        let number = self.asked.get() + 1;
        if self.wanted.get() < number {
            self.wanted.set(number);
            self.wants.notify_one();
        }
        number
    }

    /// Waits until a question is answered that was asked from now on; `false` if the server does not
    /// answer within `timeout`, or does not let us ask.
    pub async fn sees(&self, timeout: Duration) -> bool {
        let number = self.ask();
        let answered = std::future::poll_fn(|cx| {
            if self.answered.get() >= number || self.is_refused.get() {
                return std::task::Poll::Ready(());
            }
            self.wakes(cx.waker());
            std::task::Poll::Pending
        });
        let _ = tokio::time::timeout(timeout, answered).await;
        self.answered.get() >= number
    }

    /// Has a task woken by the next answer.
    pub fn wakes(&self, waker: &Waker) {
        self.wakers.borrow_mut().push(waker.clone());
    }

    /// Listens from now on.
    pub fn listen(self: &Rc<Self>) -> Watcher {
        self.watchers.set(self.watchers.get() + 1);
        // It may sleep as one to whom nobody listens.
        self.ask();
        Watcher {
            watch: Rc::clone(self),
            changes: self.changes.subscribe(),
        }
    }

    /// Tells all who listen that something changed beside the server.
    pub fn tell(&self) {
        self.changes.send_replace(());
    }

    pub fn watchers(&self) -> usize {
        self.watchers.get()
    }

    /// How long the question has waited that has no answer yet.
    pub fn silence(&self) -> Duration {
        let since = self.waits_since.get();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub fn answering(&self) -> Answering {
        if !self.is_connected.get() {
            Answering::Unreachable
        } else if self.silence() >= SILENT_AFTER {
            Answering::Silent
        } else {
            Answering::Yes
        }
    }

    /// The server's part of a heartbeat.
    pub fn heartbeat(&self) -> Heartbeat {
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let known = self.known.borrow();
        let known = known.as_ref();
        Heartbeat {
            answering: self.answering(),
            silent_ms: milliseconds(self.silence()),
            age_ms: known.map_or(u32::MAX, |known| milliseconds(known.asked.elapsed())),
            incarnation: self.incarnation.get(),
            started_us: known.map_or(0, |known| known.started_us),
            epoch: known.map_or_else(Epoch::default, |known| known.history.epoch()),
            role: known.map_or(Role::Unknown, |known| known.role),
            reason: self.unreachable.borrow().clone(),
            ..Heartbeat::default()
        }
    }

    /// When the next question is due, if nobody wants one.
    fn ask_every(&self) -> Duration {
        let is_moving = |moved: Instant| moved.elapsed() < MOVING_FOR;
        match self.moved.get() {
            _ if self.watchers.get() == 0 => ASK_EVERY_ALONE,
            Some(moved) if is_moving(moved) => ASK_EVERY_MOVING,
            _ => ASK_EVERY_RESTING,
        }
    }

    /// Waits until a question is due. A question is wanted by somebody, or its time has come.
    async fn until_due(&self, last: Instant) {
        let earliest = last + ASK_EVERY_MIN;
        loop {
            let latest = last + self.ask_every();
            if self.wanted.get() > self.asked.get() {
                tokio::time::sleep_until(earliest.into()).await;
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(latest.into()) => return,
                () = self.wants.notified() => {}
            }
        }
    }

    fn take(&self, answer: Answer, asked: Instant) {
        let mut known = self.known.borrow_mut();
        let has_changed = known.as_ref().is_none_or(|known| {
            known.role != answer.role || known.history.epoch() != answer.history.epoch()
        });
        *known = Some(Known {
            role: answer.role,
            history: answer.history,
            started_us: answer.started_us,
            asked,
        });
        drop(known);
        self.answered.set(self.asked.get());
        self.waits_since.set(None);
        self.took.add(asked.elapsed());
        if has_changed {
            self.moved.set(Some(asked));
            self.changes.send_replace(());
        }
        self.wake();
    }

    fn wake(&self) {
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    fn connected(&self) {
        // Different at every connection, also at those of a proxy that was restarted.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_us = now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(0));
        self.incarnation.set(now_us.max(self.incarnation.get() + 1));
        self.is_connected.set(true);
        self.is_refused.set(false);
        self.unreachable.borrow_mut().clear();
        self.reconnects.add(1);
    }

    fn lost(&self, why: String, is_refused: bool) {
        self.is_connected.set(false);
        self.is_refused.set(is_refused);
        if is_refused {
            self.wake();
        }
        self.waits_since.set(None);
        let is_news = *self.unreachable.borrow() != why;
        if is_news {
            tracing::warn!(error = %why, "the watch does not reach PostgreSQL");
            *self.unreachable.borrow_mut() = why;
        }
        self.changes.send_replace(());
    }
}

/// Watches until the proxy ends.
pub(super) async fn run(proxy: Rc<Proxy>) {
    loop {
        let error = watch_one_life(&proxy).await;
        let is_refused = match &error {
            // What it says while it starts or stops passes.
            ServerError::Refused(error) => !error.code.starts_with("57P"),
            ServerError::Credentials(_) | ServerError::Scram(_) => true,
            _ => false,
        };
        proxy.watch.lost(error.to_string(), is_refused);
        if is_refused {
            tokio::time::sleep(CONNECT_EVERY_REFUSED).await;
            continue;
        }
        tokio::time::sleep(CONNECT_EVERY_MIN).await;
        let rest = CONNECT_EVERY - CONNECT_EVERY_MIN;
        let _ = tokio::time::timeout(rest, proxy.watch.wants.notified()).await;
    }
}

/// From a connection to its end, which is the end of the server's processes or of our patience.
async fn watch_one_life(proxy: &Rc<Proxy>) -> ServerError {
    let connector = Rc::clone(&proxy.connector.borrow());
    let about = proxy.config.borrow().watch.clone();
    let server = proxy.config.borrow().server.clone();
    let credentials = proxy.users.borrow().credentials(&about.user);
    let mut questions = match Questions::connect(&connector, &about, &credentials).await {
        Ok(questions) => questions,
        Err(error) => return error,
    };
    let watch = &proxy.watch;
    watch.connected();
    loop {
        let asked = Instant::now();
        watch.asked.set(watch.asked.get() + 1);
        watch.waits_since.set(Some(asked));
        let answer = tokio::time::timeout(GIVEN_UP_AFTER, questions.ask()).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return error,
            Err(_) => return ServerError::Timeout(GIVEN_UP_AFTER),
        };
        let (epoch, is_primary) = (
            answer.history.epoch(),
            matches!(answer.role, Role::Primary { .. }),
        );
        // The fence first: nobody is to act on an answer that closes it.
        let fence_changed = proxy.fence.observe(epoch, is_primary);
        watch.take(answer, asked);
        if fence_changed {
            proxy.fence_changed();
        }
        watch.until_due(asked).await;
        if proxy.config.borrow().server != server {
            let what = "the configuration names another server now";
            return ServerError::Protocol(what.to_owned());
        }
    }
}
