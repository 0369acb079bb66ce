//! What clients of a cache saw, every operation with its times, and whether it can be true.
//!
//! Each register and each list has one writer, which writes versions 1, 2, 3 …; counters have many.
//! A write whose outcome nobody knows may take effect at any time after it began, also late: what
//! it does then is counted apart ([`Findings::late`]), as linearizability allows it.

mod check;
mod order;
mod workload;

use std::fmt;
use std::str::FromStr;

pub use check::{Findings, Rules, check};
pub use workload::{Running, Target, Workload};

/// A value that versions are kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `SET` and `GET`: holds the latest version.
    Register(u32),
    /// `RPUSH` and `LRANGE`: holds all versions in their order.
    List(u32),
    /// `INCR`: its answers are the versions.
    Counter(u32),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Register(number) => write!(f, "r:{number}"),
            Key::List(number) => write!(f, "l:{number}"),
            Key::Counter(number) => write!(f, "c:{number}"),
        }
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, number) = text.split_once(':').ok_or(())?;
        let number = number.parse().map_err(|_| ())?;
        match kind {
            "r" => Ok(Key::Register(number)),
            "l" => Ok(Key::List(number)),
            "c" => Ok(Key::Counter(number)),
            _ => Err(()),
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client was told that it is done.
    Acknowledged,
    /// The client was told that it is not done, and never will be.
    Refused,
    /// The client was told that nobody knows, or lost its connection.
    Unknown,
}

/// What an operation did or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Wrote a version of a register, or appended it to a list.
    Wrote {
        /// Which.
        version: u64,
        /// With which end.
        outcome: Outcome,
    },
    /// Read a register: a version, or 0 for nothing.
    Read {
        /// What it saw.
        saw: u64,
        /// What the same connection had been told before, in the same batch.
        after: u64,
    },
    /// Read a register when everything had settled.
    Settled {
        /// What it saw.
        saw: u64,
    },
    /// Counted; the version is the answer, 0 if there was none.
    Counted {
        /// The answer.
        version: u64,
        /// With which end.
        outcome: Outcome,
    },
    /// Read a whole list when everything had settled.
    Listed {
        /// What it saw.
        saw: Vec<u64>,
    },
    /// A read that was answered by an error.
    Failed {
        /// Its text.
        error: String,
    },
    /// An answer to something else than what was asked.
    Wrong {
        /// The answer.
        answer: String,
    },
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Whose connection.
    pub client: u16,
    /// On what.
    pub key: Key,
    /// When it was sent, in microseconds since the history began.
    pub start: u64,
    /// When its answer was there.
    pub end: u64,
    /// What it did.
    pub what: What,
}
