//! Prepared statements under transaction pooling: one statement of the proxy for each text, by a
//! name that all clients share; each server connection learns those that it needs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::wire::postgres::sql::{self, Trace};

/// When so many statements are held, those that nobody has any more are forgotten.
const SWEEP_AT: usize = 4096;

/// One statement, whatever its clients call it.
#[derive(Debug)]
pub struct Statement {
    /// What servers know it by.
    pub id: u64,
    /// The query, its zero byte, and the types of its parameters.
    pub definition: Box<[u8]>,
    /// What it leaves in a session that runs it.
    pub trace: Trace,
}

impl Statement {
    /// The name that servers know it by.
    pub fn name(&self) -> Vec<u8> {
        name(self.id)
    }

    /// The query alone.
    pub fn query(&self) -> &[u8] {
        let end = memchr::memchr(0, &self.definition).unwrap_or(self.definition.len());
        &self.definition[..end]
    }
}

/// The name of a statement's id.
pub fn name(id: u64) -> Vec<u8> {
    format!("lb_{id}").into_bytes()
}

/// A statement by its definition.
#[derive(Debug)]
struct ByDefinition(Rc<Statement>);

impl std::borrow::Borrow<[u8]> for ByDefinition {
    fn borrow(&self) -> &[u8] {
        &self.0.definition
    }
}

impl Hash for ByDefinition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.definition.hash(state);
    }
}

impl PartialEq for ByDefinition {
    fn eq(&self, other: &Self) -> bool {
        self.0.definition == other.0.definition
    }
}

impl Eq for ByDefinition {}

/// Every statement that a client has.
#[derive(Debug)]
pub struct Table {
    statements: RefCell<HashSet<ByDefinition>>,
    sweep_at: Cell<usize>,
    next: Cell<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            statements: RefCell::default(),
            sweep_at: SWEEP_AT.into(),
            next: 1.into(),
        }
    }
}

impl Table {
    /// The one statement with this definition.
    pub fn hold(&self, definition: &[u8], query: &[u8]) -> Rc<Statement> {
        let mut statements = self.statements.borrow_mut();
        if let Some(held) = statements.get(definition) {
            return Rc::clone(&held.0);
        }
        if statements.len() >= self.sweep_at.get() {
            statements.retain(|held| Rc::strong_count(&held.0) > 1);
            self.sweep_at.set(SWEEP_AT.max(statements.len() * 2));
        }
        let id = self.next.replace(self.next.get() + 1);
        let statement = Rc::new(Statement {
            id,
            definition: definition.into(),
            trace: sql::trace(query),
        });
        statements.insert(ByDefinition(Rc::clone(&statement)));
        statement
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.statements.borrow().len()
    }
}

/// Unnamed statements are told apart by stamps, a new one for each Parse. These are no statement's.
pub mod stamp {
    /// There is none.
    pub const NONE: u64 = 0;
    /// Of a server: some client's, or none.
    pub const UNKNOWN: u64 = u64::MAX;
    /// Of a client: too long to be sent again; the server that it keeps has it.
    pub const KEPT_THERE: u64 = u64::MAX - 1;
}

/// The statements that one server connection knows: the least recently used goes first.
#[derive(Debug, Default)]
pub struct Prepared {
    used: HashMap<u64, u64>,
    /// What the server still has, but is not to be used: it must be closed before it is taught anew.
    stale: BTreeSet<u64>,
    clock: u64,
    /// The stamp of the unnamed statement that it has.
    pub unnamed: u64,
}

impl Prepared {
    /// Whether the server knows it; if so, it was used just now.
    pub fn touch(&mut self, id: u64) -> bool {
        self.clock += 1;
        let Some(used) = self.used.get_mut(&id) else {
            return false;
        };
        *used = self.clock;
        true
    }

    /// The server is about to learn it. Returns what it must forget before: an old plan of the same
    /// statement, what exceeds `most`, and one of those that went stale.
    pub fn learn(&mut self, id: u64, most: usize) -> impl Iterator<Item = u64> + use<> {
        self.clock += 1;
        let own = self.stale.take(&id);
        let exceeding = (self.used.len() >= most.max(1))
            .then(|| self.used.iter().min_by_key(|(_, used)| **used))
            .flatten()
            .map(|(&id, _)| id);
        if let Some(id) = exceeding {
            self.used.remove(&id);
        }
        self.used.insert(id, self.clock);
        [own, exceeding, self.stale.pop_first()]
            .into_iter()
            .flatten()
    }

    /// The server does not know it after all; 0 is the unnamed one.
    pub fn forget(&mut self, id: u64) {
        match id {
            0 => self.unnamed = stamp::UNKNOWN,
            _ => drop(self.used.remove(&id)),
        }
    }

    /// The server was not told to close it after all; 0 is the unnamed one.
    pub fn keeps(&mut self, id: u64) {
        match id {
            0 => self.unnamed = stamp::UNKNOWN,
            _ => drop(self.stale.insert(id)),
        }
    }

    /// None may be used any more, though the server has them.
    pub fn expire(&mut self) {
        self.stale.extend(self.used.drain().map(|(id, _)| id));
    }

    /// The server has none any more, but perhaps the one that said so.
    pub fn clear(&mut self) {
        self.used.clear();
        self.stale.clear();
        self.unnamed = stamp::UNKNOWN;
    }

    pub fn len(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_definitions_are_one_statement() {
        let table = Table::default();
        let one = table.hold(b"SELECT 1\0\0\0", b"SELECT 1");
        let two = table.hold(b"SELECT 1\0\0\0", b"SELECT 1");
        let three = table.hold(b"SELECT 1\0\0\x01\0\0\0\x17", b"SELECT 1");
        assert_eq!(one.id, two.id);
        assert_ne!(one.id, three.id);
        assert_eq!(one.query(), b"SELECT 1");
    }

    #[test]
    fn the_statement_that_rested_longest_is_forgotten() {
        let mut prepared = Prepared::default();
        let learn = |prepared: &mut Prepared, id| prepared.learn(id, 2).collect::<Vec<_>>();
        assert!(learn(&mut prepared, 1).is_empty());
        assert!(learn(&mut prepared, 2).is_empty());
        assert!(prepared.touch(1));
        assert_eq!(learn(&mut prepared, 3), [2]);
        assert!(prepared.touch(1) && prepared.touch(3) && !prepared.touch(2));
    }

    #[test]
    fn what_went_stale_is_closed_before_it_is_taught_again() {
        let mut prepared = Prepared::default();
        let learn = |prepared: &mut Prepared, id| prepared.learn(id, 9).collect::<Vec<_>>();
        for id in 1..=4 {
            learn(&mut prepared, id);
        }
        prepared.expire();
        assert!(!prepared.touch(3));
        assert_eq!(learn(&mut prepared, 3), [3, 1]);
        // An error came before the server read any of it.
        prepared.forget(3);
        prepared.keeps(3);
        prepared.keeps(1);
        assert_eq!(learn(&mut prepared, 3), [3, 1]);
        assert!(prepared.touch(3));
    }
}
