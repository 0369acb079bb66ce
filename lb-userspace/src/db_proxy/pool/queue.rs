//! The clients that wait for a server of a pool, in their order. A ticket is a place in the queue;
//! a server that was given to a ticket which nobody looks at any more goes to the next one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{Given, Pool, Server};
use crate::wire::postgres::error::PgError;

/// So many seats are kept for those who come next, so that a wait allocates nothing.
const SPARE_MAX: usize = 256;

/// What the two sides of a ticket share.
#[derive(Debug, Default)]
struct Seat {
    given: Option<Given>,
    waker: Option<Waker>,
    is_left: bool,
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub(in crate::db_proxy) struct Ticket {
    seat: Rc<RefCell<Seat>>,
    pool: Weak<Pool>,
    pub since: Instant,
}

impl Ticket {
    /// Ready with a server, or with why there is none.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Given> {
        let mut seat = self.seat.borrow_mut();
        if let Some(given) = seat.given.take() {
            return Poll::Ready(given);
        }
        let waker = seat.waker.as_ref();
        if !waker.is_some_and(|waker| waker.will_wake(cx.waker())) {
            seat.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut seat = self.seat.borrow_mut();
        seat.is_left = true;
        let given = seat.given.take();
        drop(seat);
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        // It came at the moment when its client went.
        if let Some(Ok(server)) = given {
            pool.give(server);
        }
        pool.waiting.spare(&self.seat);
    }
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    seat: Rc<RefCell<Seat>>,
}

impl Waiting {
    fn is_left(&self) -> bool {
        self.seat.borrow().is_left
    }

    fn give(self, given: Given) {
        let mut seat = self.seat.borrow_mut();
        seat.given = Some(given);
        let waker = seat.waker.take();
        drop(seat);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The queue of one pool.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: RefCell<VecDeque<Waiting>>,
    spare: RefCell<Vec<Rc<RefCell<Seat>>>>,
}

impl Queue {
    /// A place at the end; `None` if `most` wait already.
    pub fn enter(&self, pool: &Rc<Pool>, most: usize) -> Option<Ticket> {
        let mut queue = self.waiting.borrow_mut();
        if queue.len() >= most {
            // Those who gave up hold no place.
            queue.retain(|waiting| !waiting.is_left());
        }
        if queue.len() >= most {
            return None;
        }
        let seat = self.spare.borrow_mut().pop().unwrap_or_default();
        let since = Instant::now();
        queue.push_back(Waiting {
            since,
            seat: Rc::clone(&seat),
        });
        let pool = Rc::downgrade(pool);
        Some(Ticket { seat, pool, since })
    }

    /// A ticket does not need its seat any more.
    fn spare(&self, seat: &Rc<RefCell<Seat>>) {
        // Somebody else has it only while it stands in the queue.
        let mut spare = self.spare.borrow_mut();
        if Rc::strong_count(seat) == 1 && spare.len() < SPARE_MAX {
            seat.take();
            spare.push(Rc::clone(seat));
        }
    }

    /// Gives a server to whoever waits longest; gives it back if nobody does.
    pub fn give(&self, server: Box<Server>) -> Option<Box<Server>> {
        loop {
            let Some(first) = self.waiting.borrow_mut().pop_front() else {
                return Some(server);
            };
            if !first.is_left() {
                first.give(Ok(server));
                return None;
            }
        }
    }

    /// Tells everybody that there will be none.
    pub fn refuse(&self, error: &PgError) {
        for waiting in self.waiting.take() {
            waiting.give(Err(error.clone()));
        }
    }

    /// Tells those at the front that have waited too long; returns how many there were.
    pub fn expire(&self, is_due: impl Fn(Instant) -> bool, error: impl Fn() -> PgError) -> u64 {
        let mut expired = 0;
        loop {
            let mut queue = self.waiting.borrow_mut();
            let is_left = |first: &Waiting| first.is_left();
            let first = queue.pop_front_if(|first| is_left(first) || is_due(first.since));
            drop(queue);
            let Some(first) = first else {
                return expired;
            };
            if !is_left(&first) {
                expired += 1;
                first.give(Err(error()));
            }
        }
    }

    /// Everybody waits from now on.
    pub fn restart(&self, now: Instant) {
        for waiting in self.waiting.borrow_mut().iter_mut() {
            waiting.since = now;
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Since when the first one waits.
    pub fn first(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|first| first.since)
    }
}
