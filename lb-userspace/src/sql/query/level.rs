//! What is known of the innermost parenthesis while a query is read.

/// A pair of parentheses, or the statement itself.
#[derive(Clone, Copy)]
pub(super) struct Level {
    pub(super) within: In,
    /// A list of relations is being read: a comma is followed by another one.
    pub(super) is_from_list: bool,
    /// The next name is a relation's, or that of a function that is called in its place.
    pub(super) expects_relation: bool,
    /// A relation has just ended: a name that follows is its alias.
    pub(super) is_behind_item: bool,
    pub(super) with: With,
}

/// What a level is the inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum In {
    /// A call's arguments, where FROM and FOR may be part of the syntax: `EXTRACT(year FROM t)`.
    Call,
    /// A query.
    Query,
    /// Anything else.
    Other,
}

/// Where in the list of WITH a level is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// In none.
    Not,
    /// Before a query's name.
    Name,
    /// Behind the name.
    Columns,
    /// Behind the list of columns.
    As,
    /// Before the query.
    Body,
    /// Behind the query.
    Behind,
}

impl Level {
    pub(super) const NEW: Self = Self::within(In::Other);

    /// A parenthesis where a relation is expected: `FROM (a JOIN b)`, `FROM (SELECT …)`.
    pub(super) const FROM_GROUP: Self = Self {
        is_from_list: true,
        expects_relation: true,
        ..Self::NEW
    };

    pub(super) const fn within(within: In) -> Self {
        Self {
            within,
            is_from_list: false,
            expects_relation: false,
            is_behind_item: false,
            with: With::Not,
        }
    }

    pub(super) fn begin_query(&mut self) {
        *self = Self::within(In::Query);
    }

    pub(super) fn begin_from(&mut self) {
        self.is_from_list = true;
        self.expects_relation = true;
        self.is_behind_item = false;
    }

    pub(super) fn end_from(&mut self) {
        self.is_from_list = false;
        self.expects_relation = false;
        self.is_behind_item = false;
    }
}
