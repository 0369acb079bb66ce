//! What is known of a database's functions, relations, types and operators: whether any of them is,
//! or hides, something volatile, or something that differs from server to server.
//!
//! The listener asks a server for [`LOAD`] and hands the rows over; it asks for [`VERSION`] now and
//! then, and after statements that change the schema, and loads again when the answer differs. A
//! catalog that is out of date costs trips, and at worst runs something volatile on a standby, which
//! cannot write.
//!
//! A name without its schema stands for all of that name: `search_path` is not followed, the most
//! volatile counts.

mod facts;
mod load;
mod local;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use self::facts::{Facts, Fold};
pub use self::load::{LoadError, Row};
use super::class::Marks;
use super::name::Name;

/// The query that loads a catalog: five columns of text, see [`Row`]. It names nothing without a
/// schema; every role may run it; standbys too.
pub const LOAD: &str = include_str!("catalog/load.sql");
/// A query of one text: it differs whenever the catalog may differ.
pub const VERSION: &str = include_str!("catalog/version.sql");

/// What a call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// The same on a standby, and nothing else.
    Clean,
    Volatile,
    /// It leaves something in its session.
    Session,
    /// It tells of the server, not of the database.
    Local,
    /// An argument's default, or a type that it takes or gives, hides something.
    Hidden,
    Unknown,
}

/// What reading a relation may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Clean,
    Hidden,
    Unknown,
}

/// Everything of one database that classification asks for.
#[derive(Debug)]
pub struct Catalog {
    names: HashMap<Box<[u8]>, Facts, Fold>,
    /// Operators that are volatile; there are none in a usual database.
    operators: Vec<Box<[u8]>>,
    /// Whether any type or attribute hides something: if not, most names need no look.
    hides_names: bool,
    /// A trigger may leave something in the session that writes.
    writes: Marks,
    generation: u64,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::empty()
    }
}

impl Catalog {
    /// Nothing is known: only queries that name no function and no relation are reads.
    #[must_use]
    pub fn empty() -> Self {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        Self {
            names: HashMap::default(),
            operators: Vec::new(),
            hides_names: false,
            writes: Marks::NONE,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// How many names are known: a metric.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Another number for each catalog of this process.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn function(&self, name: &Name) -> Function {
        self.facts(name).map_or(Function::Unknown, Facts::function)
    }

    pub(super) fn relation(&self, name: &Name) -> Relation {
        self.facts(name).map_or(Relation::Unknown, Facts::relation)
    }

    pub(super) const fn hides_names(&self) -> bool {
        self.hides_names
    }

    /// Of an encoding that is not the catalog's only ASCII is known to be the same.
    pub(super) fn is_plain_type(&self, name: &Name) -> bool {
        name.key().is_ascii() && !self.facts(name).is_some_and(|facts| facts.is_hidden_type)
    }

    pub(super) fn is_plain_attribute(&self, name: &Name) -> bool {
        name.key().is_ascii()
            && !self
                .facts(name)
                .is_some_and(|facts| facts.is_hidden_attribute)
    }

    /// Whether a volatile operator stands in a run of operators' characters.
    pub(super) fn hides_operator(&self, run: &[u8]) -> bool {
        let mut hidden = self.operators.iter();
        hidden.any(|operator| memchr::memmem::find(run, operator).is_some())
    }

    /// What a statement that writes may do besides.
    pub(super) const fn writes(&self) -> Marks {
        self.writes
    }

    fn facts(&self, name: &Name) -> Option<&Facts> {
        self.names.get(name.key())
    }
}
