//! The table of commands as the event loop wants it: everything that is asked of a command is decided
//! once, when the thread starts.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::wire::resp::commands::{Begin, Command, Effect, Find, commands};
use crate::wire::resp::disposition::{Disposition, disposition};

/// The longest name of a command, its subcommand left out, is shorter.
const NAME_BYTES_MAX: usize = 32;

/// A command, and what becomes of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub command: &'static Command,
    /// Its place in the table.
    pub at: usize,
    pub disposition: Disposition,
    pub is_read: bool,
    /// Its one key is this word: nothing has to be looked for.
    pub key: Option<usize>,
}

/// All commands.
#[derive(Debug)]
pub(super) struct Known {
    entries: Vec<Entry>,
    by_name: HashMap<Vec<u8>, usize, BuildHasherDefault<Fnv>>,
}

/// FNV-1a: names are short, and nobody but us puts any into the table.
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What a name stands for.
pub(super) enum Meaning<'k> {
    Command(&'k Entry),
    /// Of that container there is no such subcommand.
    NoSubcommand(&'k Entry),
    Nothing,
}

impl Known {
    pub fn new() -> Self {
        let entry = |(at, command): (usize, &'static Command)| Entry {
            command,
            at,
            disposition: disposition(command),
            is_read: command.effect == Effect::Read,
            key: only_key(command),
        };
        let entries: Vec<_> = commands().all().iter().enumerate().map(entry).collect();
        let name = |entry: &Entry| (entry.command.name.as_bytes().to_vec(), entry.at);
        let by_name = entries.iter().map(name).collect();
        Self { entries, by_name }
    }

    /// What these first two words mean.
    pub fn find(&self, first: &[u8], second: Option<&[u8]>) -> Meaning<'_> {
        let mut name = [0; 2 * NAME_BYTES_MAX];
        let Some(lower) = name
            .get_mut(..first.len())
            .filter(|n| n.len() < NAME_BYTES_MAX)
        else {
            return Meaning::Nothing;
        };
        lower.copy_from_slice(first);
        lower.make_ascii_lowercase();
        let Some(entry) = self.entry(lower) else {
            return Meaning::Nothing;
        };
        let Some(second) = second.filter(|_| entry.command.has_subcommands) else {
            return Meaning::Command(entry);
        };
        if second.len() > NAME_BYTES_MAX {
            return Meaning::NoSubcommand(entry);
        }
        let end = first.len() + 1 + second.len();
        name[first.len()] = b'|';
        name[first.len() + 1..end].copy_from_slice(second);
        name[first.len() + 1..end].make_ascii_lowercase();
        match self.entry(&name[..end]) {
            Some(sub) => Meaning::Command(sub),
            None => Meaning::NoSubcommand(entry),
        }
    }

    fn entry(&self, name: &[u8]) -> Option<&Entry> {
        self.entries.get(*self.by_name.get(name)?)
    }
}

fn only_key(command: &Command) -> Option<usize> {
    match command.keys.as_slice() {
        [only] => match (&only.begin, only.find) {
            (Begin::Index(at), Find::Range { last: 0, .. }) => Some(*at),
            _ => None,
        },
        _ => None,
    }
}
