//! A client's connection: bytes that are no command yet, and answers in the order of its commands.
//!
//! Servers answer in an order of their own. Each command has a slot; an answer that is the next one
//! goes straight into the output, any other is parked until those before it are there. An idle client
//! holds no buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::acl::User;
use super::join::Gather;
use super::more::More;
use super::stream::Stream;
use crate::wire::resp::command::Progress;

/// Parked bytes beyond which the arena is packed anew when most of it is dead.
const ARENA_BYTES: usize = 64 << 10;

/// What keeps a client from being served further, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nothing.
    No,
    /// Its next command wants all before it answered.
    UntilAnswered,
    /// It waits in a command that blocks.
    Blocked,
}

#[derive(Debug)]
pub(super) struct Client {
    pub stream: Stream,
    /// What CLIENT ID says.
    pub id: u64,
    /// Tells it from others that had its place before.
    pub generation: u32,
    /// A command's beginning, or commands that wait for `hold`.
    pub input: Vec<u8>,
    pub progress: Progress,
    /// Bytes that `input` must have before it is worth looking again.
    pub needs: usize,
    pub output: Vec<u8>,
    /// How much of `output` the socket has taken.
    pub sent: usize,
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    base: u32,
    arena: Vec<u8>,
    parked_bytes: usize,
    pub is_resp3: bool,
    /// It is in the list of clients to be written to.
    pub is_dirty: bool,
    /// Its socket takes nothing more for now.
    pub is_full: bool,
    /// Nothing more is read; it is closed when everything is answered and written.
    pub is_leaving: bool,
    pub hold: Hold,
    /// There may be bytes in the socket that were not read because of `hold` or a full output.
    pub is_readable: bool,
    /// Writes that were not answered yet, on shared connections.
    pub writes: u32,
    /// `None`: it has to say who it is.
    pub user: Option<Arc<User>>,
    pub connected_ms: u64,
    pub last_ms: u64,
    /// What most clients do not need.
    pub more: Option<Box<More>>,
}

#[derive(Debug)]
enum Slot {
    Waiting,
    /// Answered out of turn; where it is parked.
    Ready {
        start: usize,
        length: usize,
    },
    Gather(Box<Gather>),
    /// The answer is thrown away (CLIENT REPLY).
    Muted,
}

impl Client {
    pub fn new(stream: Stream, id: u64, now_ms: u64) -> Self {
        Self {
            stream,
            id,
            generation: 0,
            input: Vec::new(),
            progress: Progress::default(),
            needs: 0,
            output: Vec::new(),
            sent: 0,
            slots: VecDeque::new(),
            base: 0,
            arena: Vec::new(),
            parked_bytes: 0,
            is_resp3: false,
            is_dirty: false,
            is_full: false,
            is_leaving: false,
            hold: Hold::No,
            is_readable: false,
            writes: 0,
            user: None,
            connected_ms: now_ms,
            last_ms: now_ms,
            more: None,
        }
    }

    /// How many commands were not answered yet.
    pub fn unanswered(&self) -> usize {
        self.slots.len()
    }

    /// A slot for a command's answer; its number.
    pub fn expect(&mut self) -> u32 {
        let slot = match self.is_muted() {
            true => Slot::Muted,
            false => Slot::Waiting,
        };
        self.push(slot)
    }

    /// A slot for an answer that is made of several.
    pub fn expect_parts(&mut self, mut gather: Box<Gather>) -> u32 {
        gather.is_muted = self.is_muted();
        self.push(Slot::Gather(gather))
    }

    fn push(&mut self, slot: Slot) -> u32 {
        self.slots.push_back(slot);
        self.base.wrapping_add(self.slots.len() as u32 - 1)
    }

    fn is_muted(&mut self) -> bool {
        self.more.as_mut().is_some_and(|more| more.mutes())
    }

    /// Answers at once, in its turn.
    pub fn say(&mut self, answer: &[u8]) {
        if self.is_muted() {
            return;
        }
        if self.slots.is_empty() {
            self.output.extend_from_slice(answer);
        } else {
            let slot = self.park(answer);
            self.slots.push_back(slot);
        }
    }

    /// The answer to the command with that number.
    pub fn answer(&mut self, number: u32, answer: &[u8]) {
        let at = number.wrapping_sub(self.base) as usize;
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if let Slot::Ready { .. } = slot {
            return;
        }
        let is_muted = match slot {
            Slot::Muted => true,
            Slot::Gather(gather) => gather.is_muted,
            _ => false,
        };
        if at > 0 {
            let answer = if is_muted { &[] } else { answer };
            let parked = self.park(answer);
            self.slots[at] = parked;
            return;
        }
        if !is_muted {
            self.output.extend_from_slice(answer);
        }
        self.slots.pop_front();
        self.base = self.base.wrapping_add(1);
        self.unpark();
    }

    /// Whether an answer with that number would go out at once.
    pub fn is_next(&self, number: u32) -> bool {
        number == self.base && matches!(self.slots.front(), Some(Slot::Waiting))
    }

    /// The parts that the answer with that number is made of.
    pub fn gather(&mut self, number: u32) -> Option<&mut Gather> {
        let at = number.wrapping_sub(self.base) as usize;
        match self.slots.get_mut(at) {
            Some(Slot::Gather(gather)) => Some(gather),
            _ => None,
        }
    }

    fn park(&mut self, answer: &[u8]) -> Slot {
        if self.arena.len() > ARENA_BYTES && self.arena.len() > 2 * self.parked_bytes {
            self.pack();
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(answer);
        self.parked_bytes += answer.len();
        Slot::Ready {
            start,
            length: answer.len(),
        }
    }

    fn pack(&mut self) {
        let old = std::mem::take(&mut self.arena);
        for slot in &mut self.slots {
            if let Slot::Ready { start, length } = slot {
                let parked = &old[*start..*start + *length];
                *start = self.arena.len();
                self.arena.extend_from_slice(parked);
            }
        }
    }

    fn unpark(&mut self) {
        while let Some(Slot::Ready { start, length }) = self.slots.front() {
            self.output
                .extend_from_slice(&self.arena[*start..*start + *length]);
            self.parked_bytes -= length;
            self.slots.pop_front();
            self.base = self.base.wrapping_add(1);
        }
        if self.parked_bytes == 0 && !self.arena.is_empty() {
            self.arena.clear();
            if self.arena.capacity() > ARENA_BYTES || self.slots.is_empty() {
                self.arena = Vec::new();
            }
        }
        if self.slots.is_empty() && self.slots.capacity() > 64 {
            self.slots = VecDeque::new();
        }
    }

    /// Bytes that wait for the client to read them.
    pub fn backlog(&self) -> usize {
        self.output.len() - self.sent + self.parked_bytes
    }

    /// What most clients do not need, made when it is.
    pub fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}
