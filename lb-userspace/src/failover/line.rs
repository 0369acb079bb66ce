//! Those that wait for a primary: so many at most, so long at most, in the order in which they came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    /// Until when it counts.
    pub deadline: Instant,
}

/// Nobody more can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} statements already wait for a primary")]
pub struct LineFull(pub usize);

/// What a ticket is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its turn has come, and it has left the line.
    Go,
    /// Others are before it, or there is no primary.
    Stay,
    /// It has waited too long, and has left the line.
    TooLate,
}

/// A bounded line, first come, first served.
#[derive(Debug)]
pub struct Line {
    waiting: VecDeque<Ticket>,
    waiting_max: usize,
    timeout: Duration,
    next: u64,
}

impl Line {
    /// An empty line.
    #[must_use]
    pub const fn new(waiting_max: usize, timeout: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_max,
            timeout,
            next: 0,
        }
    }

    /// Takes a place at the end.
    ///
    /// # Errors
    /// If the line is full.
    pub fn enter(&mut self, now: Instant) -> Result<Ticket, LineFull> {
        if self.waiting.len() == self.waiting_max {
            return Err(LineFull(self.waiting_max));
        }
        let ticket = Ticket {
            number: self.next,
            deadline: now + self.timeout,
        };
        self.next += 1;
        self.waiting.push_back(ticket);
        Ok(ticket)
    }

    /// Asks whether it is a ticket's turn; `has_primary` says whether anybody's is.
    pub fn ask(&mut self, ticket: Ticket, has_primary: bool, now: Instant) -> Admission {
        if now >= ticket.deadline {
            self.leave(ticket);
            return Admission::TooLate;
        }
        // Those before it that are too late do not hold it up.
        while self
            .waiting
            .front()
            .is_some_and(|first| now >= first.deadline)
        {
            self.waiting.pop_front();
        }
        if has_primary && self.waiting.front() == Some(&ticket) {
            self.waiting.pop_front();
            return Admission::Go;
        }
        Admission::Stay
    }

    /// Gives a place up: the client is gone.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| *waiting != ticket);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
