//! What the rest of a daemon knows of a client: who it is, which server works for it, and how to
//! reach it when it must leave.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::upstream::postgres::Cancels;
use crate::wire::postgres::error::{PgError, code};

/// A client that has logged in.
#[derive(Debug)]
pub struct Client {
    /// Also its process id in BackendKeyData.
    pub id: u32,
    pub secret: [u8; 4],
    pub user: Box<str>,
    pub database: Box<str>,
    pub address: SocketAddr,
    pub is_encrypted: bool,
    pub since: Instant,
    serving: RefCell<Option<Rc<Cancels>>>,
    is_waiting: Cell<bool>,
    must_leave: Cell<bool>,
    is_cancelled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Client {
    /// The server that works for it.
    pub fn serving(&self) -> Option<Rc<Cancels>> {
        self.serving.borrow().clone()
    }

    /// From now on this server works for it, or none.
    pub fn is_served_by(&self, cancels: Option<&Rc<Cancels>>) {
        *self.serving.borrow_mut() = cancels.cloned();
    }

    pub fn waits(&self, is_waiting: bool) {
        self.is_waiting.set(is_waiting);
    }

    pub fn state(&self) -> &'static str {
        if self.serving.borrow().is_some() {
            "active"
        } else if self.is_waiting.get() {
            "waiting"
        } else {
            "idle"
        }
    }

    pub fn has_secret(&self, secret: &[u8]) -> bool {
        bool::from(self.secret[..].ct_eq(secret))
    }

    /// Whether it is to be sent away as soon as nothing is on its way.
    pub fn must_leave(&self) -> bool {
        self.must_leave.get()
    }

    pub fn reason_to_leave(&self) -> PgError {
        PgError::fatal(
            code::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        )
    }

    /// Its task is to be woken when it must leave.
    pub fn wakes(&self, waker: &Waker) {
        let mut held = self.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    /// Sends it away.
    pub fn ask_to_leave(&self) {
        self.must_leave.set(true);
        self.wake();
    }

    /// It wants what it waits for to be given up, and no server works for it.
    pub fn cancel(&self) {
        self.is_cancelled.set(true);
        self.wake();
    }

    /// Whether it wanted that since the last call.
    pub fn takes_cancel(&self) -> bool {
        self.is_cancelled.take()
    }

    /// Has its task look at what has changed around it.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Every client that has logged in.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: RefCell<HashMap<u32, Rc<Client>>>,
    last: Cell<u32>,
    /// Which of several threads it belongs to; ids tell.
    thread: u32,
    /// Threads beyond the first.
    others: u32,
}

/// Removes its client from the table when dropped.
pub struct Registered {
    table: Rc<Clients>,
    pub client: Rc<Client>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.table.by_id.borrow_mut().remove(&self.client.id);
    }
}

impl Clients {
    /// Those of one of several threads: the remainder of an id by their number tells which.
    pub fn of_thread(index: usize, threads: usize) -> Self {
        Self {
            thread: u32::try_from(index).unwrap_or(0),
            others: u32::try_from(threads.saturating_sub(1)).unwrap_or(0),
            ..Self::default()
        }
    }

    /// Has every client's task look at what has changed around it.
    pub fn wake_all(&self) {
        for client in self.by_id.borrow().values() {
            client.wake();
        }
    }

    /// Has the tasks of those look for whom a server works.
    pub fn wake_served(&self) {
        for client in self.by_id.borrow().values() {
            if client.serving.borrow().is_some() {
                client.wake();
            }
        }
    }

    pub fn register(
        self: &Rc<Self>,
        user: &str,
        database: &str,
        address: SocketAddr,
        is_encrypted: bool,
    ) -> Registered {
        let mut secret = [0; 4];
        // Without random numbers nobody can cancel, which beats that anybody can.
        let is_random = SystemRandom::new().fill(&mut secret).is_ok();
        let mut by_id = self.by_id.borrow_mut();
        let mut turn = self.last.get();
        let id = loop {
            turn = turn.wrapping_add(1) % (u32::MAX / (self.others + 1));
            let id = turn * (self.others + 1) + self.thread;
            if id != 0 && !by_id.contains_key(&id) {
                break id;
            }
        };
        self.last.set(turn);
        let client = Rc::new(Client {
            id,
            secret,
            user: user.into(),
            database: database.into(),
            address,
            is_encrypted,
            since: Instant::now(),
            serving: RefCell::default(),
            is_waiting: Cell::new(false),
            must_leave: Cell::new(!is_random),
            is_cancelled: Cell::new(false),
            waker: RefCell::default(),
        });
        by_id.insert(id, Rc::clone(&client));
        Registered {
            table: Rc::clone(self),
            client,
        }
    }

    pub fn get(&self, id: u32) -> Option<Rc<Client>> {
        self.by_id.borrow().get(&id).cloned()
    }

    pub fn len(&self) -> usize {
        self.by_id.borrow().len()
    }

    /// All of them, in the order in which they came.
    pub fn all(&self) -> Vec<Rc<Client>> {
        let mut all: Vec<_> = self.by_id.borrow().values().cloned().collect();
        all.sort_by_key(|client| client.id);
        all
    }
}
