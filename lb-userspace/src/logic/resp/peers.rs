//! Threads that write to each other: they give each other clients, and ask about them, as CLIENT LIST and
//! CLIENT KILL concern all of them.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mio::Waker;

use super::client::Client;
use super::engine::Engine;
use super::join::{Gather, How};
use super::link::Pending;
use crate::wire::resp::disposition::Join;
use crate::wire::resp::write;

/// Letters that wait for one thread; more are not taken.
const LETTERS_MAX: usize = 10_000;

/// A thread, as the others see it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    letters: Mutex<Vec<Letter>>,
    /// How busy it is, in permille.
    pub busy: AtomicU32,
    pub waker: OnceLock<Arc<Waker>>,
}

/// What one thread writes to another.
#[derive(Debug)]
pub(super) enum Letter {
    /// A client of thread `from` wants to know; its answer goes to `pending`.
    Ask {
        from: usize,
        pending: Pending,
        what: What,
    },
    Told {
        pending: Pending,
        answer: Vec<u8>,
    },
    /// A client that the thread serves from now on.
    Client(Box<Client>),
}

/// What is asked of a thread's clients.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A line for each.
    List,
    /// That they be closed; how many were.
    Kill(Meant),
}

/// Which clients are meant.
#[derive(Clone, Debug)]
pub(super) enum Meant {
    Id(u64),
    Address(String),
    User(String),
}

impl Meant {
    fn is(&self, client: &Client) -> bool {
        match self {
            Self::Id(id) => client.id == *id,
            Self::Address(address) => {
                let peer = client.stream.peer();
                peer.is_some_and(|peer| peer.to_string() == *address)
            }
            Self::User(name) => client.user.as_ref().is_some_and(|user| user.name == *name),
        }
    }
}

impl Peer {
    /// Puts a letter in, and wakes the thread; gives it back if there are too many. Answers always find
    /// room: there are no more of them than questions.
    pub fn post(&self, letter: Letter) -> Option<Letter> {
        let Some(waker) = self.waker.get() else {
            return Some(letter);
        };
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if letters.len() >= LETTERS_MAX && !matches!(letter, Letter::Told { .. }) {
            return Some(letter);
        }
        letters.push(letter);
        drop(letters);
        if let Err(error) = waker.wake() {
            // It finds the letter when something else wakes it.
            tracing::warn!(%error, "a thread cannot be woken");
        }
        None
    }

    fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine {
    /// Asks all threads for a client; `is_old`: in the form of CLIENT KILL that says OK.
    pub fn ask_all(&mut self, at: usize, what: &What, is_old: bool) {
        let shared = Arc::clone(&self.shared);
        let threads = shared.peers.len();
        let how = match what {
            What::List => How::Texts,
            What::Kill(_) if is_old => How::Killed,
            What::Kill(_) => How::Join(Join::Sum),
        };
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let number = client.expect_parts(Gather::new(how, threads));
        let mut pending = Pending::for_client(at, client.generation, number, self.now_ms);
        // The own clients last: one of them may be who asks.
        let own = self.place;
        let others = (0..threads).filter(|thread| *thread != own);
        for thread in others.chain([own]) {
            pending.part = thread as u32;
            if thread == own {
                let answer = self.asked(what, Some(at));
                self.deliver(usize::MAX, &pending, &answer);
                continue;
            }
            let letter = Letter::Ask {
                from: own,
                pending,
                what: what.clone(),
            };
            if shared.peers[thread].post(letter).is_some() {
                self.fail(
                    usize::MAX,
                    &pending,
                    "ERR lb: a thread is too busy to be asked",
                );
            }
        }
    }

    /// Does what other threads want, and gives their answers to clients.
    pub fn take_letters(&mut self) {
        let shared = Arc::clone(&self.shared);
        for letter in shared.peers[self.place].take() {
            match letter {
                Letter::Ask {
                    from,
                    pending,
                    what,
                } => {
                    let answer = self.asked(&what, None);
                    shared.peers[from].post(Letter::Told { pending, answer });
                }
                Letter::Told { pending, answer } => self.deliver(usize::MAX, &pending, &answer),
                Letter::Client(client) => self.take_in(*client),
            }
        }
    }

    fn asked(&mut self, what: &What, asker: Option<usize>) -> Vec<u8> {
        let mut answer = Vec::new();
        match what {
            What::List => {
                let all: Vec<_> = self.clients.iter().map(|(at, _)| at).collect();
                let lines: String = all.into_iter().map(|at| self.line_of(at)).collect();
                write::bulk(&mut answer, lines.as_bytes());
            }
            What::Kill(meant) => {
                let all = self.clients.iter();
                let all: Vec<_> = all.filter(|(_, client)| meant.is(client)).collect();
                let all: Vec<_> = all.into_iter().map(|(at, _)| at).collect();
                write::integer(&mut answer, all.len() as i64);
                for at in all {
                    if Some(at) == asker {
                        // It is told first.
                        self.leave(at);
                    } else {
                        self.drop_client(at);
                    }
                }
            }
        }
        answer
    }
}
