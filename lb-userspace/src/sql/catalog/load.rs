//! Makes a catalog of the rows that `load.sql` returns.

use super::facts::{Count, Facts};
use super::{Catalog, local};
use crate::sql::class::Marks;
use crate::sql::classify;
use crate::sql::name::qualified;

/// A row of [`super::LOAD`]'s answer: its five columns, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// `function`, `relation`, `type` or `operator`.
    pub kind: &'a [u8],
    /// In which schema.
    pub schema: &'a [u8],
    /// What it is called.
    pub name: &'a [u8],
    /// Letters; load.sql says what they mean.
    pub flags: &'a [u8],
    /// Defaults of arguments, the query of a view, the policies of a table.
    pub definition: Option<&'a [u8]>,
}

/// Why rows are no catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A row is of no kind that is known.
    #[error("the catalog has a row of kind {0:?}")]
    Kind(String),
    /// There are no functions: the answer is not a whole one.
    #[error("the catalog has no functions")]
    Empty,
}

/// Something that hides what its definition hides: a view, a table with policies, a function with
/// defaults. Hidden until its definition is known to be a read.
struct Defined {
    keys: [Box<[u8]>; 2],
    is_function: bool,
    query: Vec<u8>,
}

impl Catalog {
    /// Makes a catalog of all rows that [`super::LOAD`] returned.
    ///
    /// # Errors
    /// If they are not what that query returns.
    pub fn load<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> Result<Self, LoadError> {
        let mut catalog = Self::empty();
        let mut defined = Vec::new();
        for row in rows {
            match row.kind {
                b"function" => defined.extend(catalog.add_function(&row)),
                b"relation" => defined.extend(catalog.add_relation(&row)),
                b"type" => {
                    catalog.hides_names = true;
                    catalog.each(&row, |facts| facts.is_hidden_type = true);
                }
                b"operator" => catalog.operators.push(row.name.into()),
                kind => return Err(LoadError::Kind(String::from_utf8_lossy(kind).into_owned())),
            }
        }
        if !catalog.names.values().any(|facts| facts.functions.all > 0) {
            return Err(LoadError::Empty);
        }
        catalog.resolve(defined);
        Ok(catalog)
    }

    fn add_function(&mut self, row: &Row<'_>) -> Option<Defined> {
        let has = |flag| row.flags.contains(&flag);
        let is_hidden = has(b'h') || row.definition.is_some();
        let is_builtin = row.schema == b"pg_catalog" && !has(b'm');
        let leaves_something = has(b's') || (is_builtin && local::leaves_something(row.name));
        let is_local = is_builtin && local::is_local(row.name);
        let is_attribute = has(b'a');
        self.hides_names |= is_attribute;
        if has(b't') && has(b's') {
            self.writes = Marks::SESSION;
        }
        self.each(row, |facts| {
            facts.functions.add(is_hidden);
            facts.is_volatile |= has(b'v');
            facts.is_local |= is_local;
            facts.leaves_something |= leaves_something;
            facts.is_hidden_attribute |= is_attribute;
        });
        // What is hidden otherwise stays so.
        let defaults = row.definition.filter(|_| !has(b'h'))?;
        Some(Defined::new(row, true, [b"SELECT ", defaults].concat()))
    }

    fn add_relation(&mut self, row: &Row<'_>) -> Option<Defined> {
        let has = |flag| row.flags.contains(&flag);
        let is_hidden = has(b'h') || has(b'w') || row.definition.is_some();
        self.each(row, |facts| facts.relations.add(is_hidden));
        let query = row.definition.filter(|_| !has(b'h'))?;
        Some(Defined::new(row, false, query.to_vec()))
    }

    /// The facts of the name in its schema, and those of the name in all schemas.
    fn each(&mut self, row: &Row<'_>, change: impl Fn(&mut Facts)) {
        for key in keys(row) {
            change(self.names.entry(key).or_default());
        }
    }

    /// Views may stand on views: each round shows what hides nothing given what is known so far.
    fn resolve(&mut self, mut defined: Vec<Defined>) {
        loop {
            let (reads, rest): (Vec<_>, Vec<_>) = defined
                .into_iter()
                .partition(|defined| classify(&defined.query, self).is_read());
            for key in reads
                .iter()
                .flat_map(|defined| defined.keys.iter().map(|key| (key, defined.is_function)))
            {
                if let (Some(facts), is_function) = (self.names.get_mut(key.0), key.1) {
                    let count = if is_function {
                        &mut facts.functions
                    } else {
                        &mut facts.relations
                    };
                    count.hidden -= 1;
                }
            }
            if reads.is_empty() {
                return;
            }
            defined = rest;
        }
    }
}

impl Defined {
    fn new(row: &Row<'_>, is_function: bool, query: Vec<u8>) -> Self {
        Self {
            keys: keys(row),
            is_function,
            query,
        }
    }
}

impl Count {
    fn add(&mut self, is_hidden: bool) {
        self.all += 1;
        self.hidden += u32::from(is_hidden);
    }
}

fn keys(row: &Row<'_>) -> [Box<[u8]>; 2] {
    [row.name.into(), qualified(row.schema, row.name)]
}
