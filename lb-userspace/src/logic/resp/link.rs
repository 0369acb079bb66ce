//! A connection to a server: what was sent and not answered, in order, with its bytes.
//!
//! The bytes of a command are kept until it is answered, in the buffer that they were written from.
//! Thus a read whose server fails can be asked elsewhere, and a command of which no byte was written
//! is known for certain not to have been done.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::pace::Pace;
use super::stream::Stream;
use crate::wire::resp::reply::Scan;

/// Its place among the connections of a thread.
pub(super) type LinkId = usize;

/// Answered bytes in front of the buffer that are tolerated before they are cut off.
const DEAD_BYTES: usize = 64 << 10;

/// Stands for a client that wants no answer any more.
pub(super) const NOBODY: u32 = u32::MAX;
/// The answer is the client's, whole.
pub(super) const WHOLE: u32 = u32::MAX;

/// A command that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub client: u32,
    pub generation: u32,
    /// Which of the client's commands.
    pub number: u32,
    /// Which part of it, or [`WHOLE`].
    pub part: u32,
    /// Bytes of the command.
    pub bytes: u32,
    /// Replies to it; only the last counts.
    pub replies: u32,
    /// When it was given to this connection.
    pub at_ms: u64,
    /// When it began to wait for an answer, here or on another connection.
    pub since_ms: u64,
    pub is_read: bool,
    /// A `WAIT` of ours: it decides about those in front of it.
    pub is_wait: bool,
    /// The server said that it does not do it: it is as if it had not been sent.
    pub is_refused: bool,
}

impl Pending {
    /// For the answer, whole, with that number to a client, where nothing is counted as a write.
    pub fn for_client(client: usize, generation: u32, number: u32, at_ms: u64) -> Self {
        Self {
            client: client as u32,
            generation,
            number,
            part: WHOLE,
            bytes: 0,
            replies: 1,
            at_ms,
            since_ms: at_ms,
            is_read: true,
            is_wait: false,
            is_refused: false,
        }
    }

    /// For an answer that nobody wants.
    pub fn for_nobody(at_ms: u64) -> Self {
        Self {
            client: NOBODY,
            ..Self::for_client(0, 0, 0, at_ms)
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Shared, to who takes the writes.
    Writer,
    /// Shared, to the copy.
    Copy,
    /// Shared, for keys of others that failed.
    Gutter,
    /// One client's, as long as its command blocks.
    Blocking,
    /// One client's, while it watches keys.
    Watching,
    /// One client's, while it listens.
    Listening,
}

impl Purpose {
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Writer | Self::Copy | Self::Gutter)
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is none; the next attempt is at that time.
    Down { retry_ms: u64 },
    /// The socket connects.
    Connecting,
    /// So many answers to what is said first are still to come.
    Greeting(u32),
    /// Commands may be sent.
    Ready,
}

#[derive(Debug)]
pub(super) struct Link {
    pub generation: u32,
    pub server: usize,
    pub purpose: Purpose,
    pub is_resp3: bool,
    pub address: SocketAddr,
    pub stream: Option<Stream>,
    pub state: State,
    /// When `state` began.
    pub since_ms: u64,
    /// Whose it is, if it is not shared.
    pub owner: u32,
    out: Vec<u8>,
    /// The first byte that was not answered.
    head: usize,
    /// The first byte that was not written.
    written: usize,
    pub pendings: VecDeque<Pending>,
    /// A reply's beginning, or what of it was not passed on yet.
    pub rest: Vec<u8>,
    pub scan: Scan,
    /// The reply that is coming is passed on piece by piece.
    pub is_passing: bool,
    /// It was ready once: what it owes may have been done.
    pub was_ready: bool,
    pub pace: Pace,
    /// When it was heard last.
    pub heard_ms: u64,
    pub is_dirty: bool,
    pub is_full: bool,
    /// It owes answers and is not heard: nothing is written to it.
    pub is_silent: bool,
    /// Attempts to connect that failed since the last that did not.
    pub failures: u32,
    /// Answers that wait for a `WAIT`, with their bytes.
    pub waiting: VecDeque<(Pending, usize)>,
    pub waiting_bytes: Vec<u8>,
    /// Commands since the last `WAIT`.
    pub unconfirmed: u32,
    /// Whether one of them wrote.
    pub has_unconfirmed_write: bool,
}

/// A command that was not answered, where its bytes lie, and whether any of them may have reached the
/// server.
pub(super) type Unanswered = (Pending, std::ops::Range<usize>, bool);

impl Link {
    pub fn new(server: usize, purpose: Purpose, is_resp3: bool, address: SocketAddr) -> Self {
        Self {
            generation: 0,
            server,
            purpose,
            is_resp3,
            address,
            stream: None,
            state: State::Down { retry_ms: 0 },
            since_ms: 0,
            owner: NOBODY,
            out: Vec::new(),
            head: 0,
            written: 0,
            pendings: VecDeque::new(),
            rest: Vec::new(),
            scan: Scan::default(),
            is_passing: false,
            was_ready: false,
            pace: Pace::default(),
            heard_ms: 0,
            is_dirty: false,
            is_full: false,
            is_silent: false,
            failures: 0,
            waiting: VecDeque::new(),
            waiting_bytes: Vec::new(),
            unconfirmed: 0,
            has_unconfirmed_write: false,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Adds a command, whose bytes `write` appends; they are counted here.
    pub fn push(&mut self, mut pending: Pending, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        write(&mut self.out);
        pending.bytes = (self.out.len() - before) as u32;
        self.unconfirmed += 1;
        self.has_unconfirmed_write |= !pending.is_read;
        self.pendings.push_back(pending);
    }

    /// The socket, and what is to be written to it.
    pub fn socket_and_unwritten(&mut self) -> Option<(&mut Stream, &[u8])> {
        let stream = self.stream.as_mut()?;
        Some((stream, &self.out[self.written..]))
    }

    /// So many more bytes were written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Bytes that are held, answered ones left out.
    pub fn held_bytes(&self) -> usize {
        self.out.len() - self.head
    }

    /// The first command was answered by as many replies as it has; it is gone.
    pub fn answered(&mut self) -> Option<Pending> {
        let pending = self.pendings.pop_front()?;
        self.head += pending.bytes as usize;
        if self.head == self.out.len() {
            self.out.clear();
            self.head = 0;
            self.written = 0;
            if self.out.capacity() > 16 * DEAD_BYTES {
                self.out = Vec::new();
            }
        } else if self.head > DEAD_BYTES && self.head > self.out.len() / 2 {
            self.out.drain(..self.head);
            self.written -= self.head;
            self.head = 0;
        }
        Some(pending)
    }

    /// Takes everything that was not answered: each command with its bytes, and whether any of them
    /// may have reached the server.
    pub fn take_unanswered(&mut self) -> (Vec<u8>, Vec<Unanswered>) {
        let out = std::mem::take(&mut self.out);
        let mut start = std::mem::take(&mut self.head);
        let written = std::mem::take(&mut self.written);
        let mut all = Vec::with_capacity(self.pendings.len());
        for pending in self.pendings.drain(..) {
            let end = start + pending.bytes as usize;
            all.push((pending, start..end, start < written));
            start = end;
        }
        self.unconfirmed = 0;
        self.has_unconfirmed_write = false;
        (out, all)
    }

    /// Whether any byte of what was not answered was written.
    pub fn owes(&self) -> bool {
        self.written > self.head
    }

    /// Takes those commands of which no byte was written and that began to wait at `until_ms` or before.
    pub fn take_unwritten(&mut self, until_ms: u64) -> Vec<Pending> {
        if !self.pendings.iter().any(|p| p.since_ms <= until_ms) {
            return Vec::new();
        }
        let mut start = self.head;
        let mut taken = Vec::new();
        let written = self.written;
        let (mut kept, mut out) = (VecDeque::new(), Vec::new());
        for pending in self.pendings.drain(..) {
            let range = start..start + pending.bytes as usize;
            start = range.end;
            if range.start >= written && pending.since_ms <= until_ms {
                taken.push(pending);
            } else {
                out.extend_from_slice(&self.out[range]);
                kept.push_back(pending);
            }
        }
        self.written -= self.head;
        self.head = 0;
        self.out = out;
        self.pendings = kept;
        taken
    }

    /// The bytes of each command that was not answered, in order.
    pub fn with_bytes(&mut self) -> impl Iterator<Item = (&mut Pending, &[u8])> {
        let mut start = self.head;
        let out = &self.out;
        self.pendings.iter_mut().map(move |pending| {
            let end = start + pending.bytes as usize;
            let bytes = &out[start..end];
            start = end;
            (pending, bytes)
        })
    }

    /// Forgets the connection; what was not answered stays.
    pub fn reset(&mut self) {
        self.stream = None;
        self.is_passing = false;
        self.rest = Vec::new();
        self.scan = Scan::default();
        self.is_full = false;
        self.is_silent = false;
        self.generation = self.generation.wrapping_add(1);
    }
}
