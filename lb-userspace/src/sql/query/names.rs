//! Names of one query: those that WITH defines, and those that must be among them.

use crate::sql::name::Name;
use crate::sql::scan::Token;

/// Queries of WITH, and names that the catalog does not know, that are followed.
const NAMES_MAX: usize = 16;

/// A name with its schema, if it has one.
pub(super) fn full(schema: Option<Token<'_>>, name: Token<'_>) -> Option<Name> {
    match schema {
        None => Name::of(name),
        Some(schema) => {
            let mut full = Name::of(schema)?;
            full.qualify(name)?;
            Some(full)
        }
    }
}

/// Relations that are none unless WITH defines them. Where in the query it does so is not followed:
/// a name that is not the query's there is a relation's, and unknown ones do not exist.
#[derive(Default)]
pub(super) struct Pending<'a> {
    defined: Names<'a>,
    wanted: Names<'a>,
}

impl<'a> Pending<'a> {
    /// WITH defines this name; false if there are too many.
    pub(super) fn defines(&mut self, name: Token<'a>) -> bool {
        self.defined.push(name)
    }

    /// This name is used; false if there are too many.
    pub(super) fn wants(&mut self, name: Token<'a>) -> bool {
        self.wanted.push(name)
    }

    /// Whether every name that is used is defined.
    pub(super) fn are_defined(&self) -> bool {
        let is_defined = |wanted: &Token<'a>| {
            let Some(wanted) = Name::of(*wanted) else {
                return false;
            };
            let names = self.defined.iter().filter_map(|name| Name::of(*name));
            names.into_iter().any(|name| name.key() == wanted.key())
        };
        self.wanted.iter().all(is_defined)
    }
}

#[derive(Default)]
struct Names<'a> {
    tokens: [Option<Token<'a>>; NAMES_MAX],
    count: usize,
}

impl<'a> Names<'a> {
    fn push(&mut self, token: Token<'a>) -> bool {
        let Some(free) = self.tokens.get_mut(self.count) else {
            return false;
        };
        *free = Some(token);
        self.count += 1;
        true
    }

    fn iter(&self) -> impl Iterator<Item = &Token<'a>> {
        self.tokens[..self.count].iter().flatten()
    }
}
