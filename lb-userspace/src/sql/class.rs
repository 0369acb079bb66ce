//! What a statement is, as far as it matters for where it may run.

use std::ops::{BitOr, BitOrAssign};

/// What is known of a statement, or of several that come in one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What it does.
    pub kind: Kind,
    /// What else it does, or may do.
    pub marks: Marks,
    /// Why it is no read; [`Why::Plain`] where its kind says it all.
    pub why: Why,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: an empty query, or one of comments.
    Empty,
    /// It reads, calls nothing volatile, and locks nothing. A standby may answer it, and it may be
    /// run again, or twice at a time.
    Read,
    /// It writes, locks rows, or changes the schema.
    Write,
    /// It may write, for all that is known.
    Unknown,
    /// BEGIN or START TRANSACTION.
    Begin {
        /// What it says of READ ONLY.
        access: Access,
        /// What it says of isolation.
        isolation: Isolation,
    },
    /// COMMIT, END or PREPARE TRANSACTION: when it is sent, the transaction's fate is not ours.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// SAVEPOINT, RELEASE or ROLLBACK TO.
    Savepoint,
    /// SET.
    Set,
    /// RESET.
    Reset,
    /// DISCARD.
    Discard,
    /// SHOW.
    Show,
    /// PREPARE.
    Prepare,
    /// EXECUTE.
    Execute,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE, FETCH, MOVE or CLOSE.
    Cursor,
    /// LISTEN or UNLISTEN.
    Listen,
    /// COPY … FROM STDIN.
    CopyIn,
    /// COPY … TO STDOUT.
    CopyOut,
    /// CALL or DO: it may commit on its own.
    Call,
}

/// What a transaction says that it will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing: `default_transaction_read_only` holds.
    #[default]
    Default,
    /// READ ONLY.
    ReadOnly,
    /// READ WRITE.
    ReadWrite,
}

/// Which isolation a transaction asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// None: `default_transaction_isolation` holds.
    #[default]
    Default,
    /// READ COMMITTED or READ UNCOMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE, which a standby refuses.
    Serializable,
}

/// Why a statement is not called a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is one, or its kind says it.
    Plain,
    /// The text cannot be read for sure: a quote that depends on settings, or an odd number.
    Unreadable,
    /// It is nested deeper, or has more names, than is followed.
    TooComplex,
    /// It locks rows.
    Locks,
    /// SELECT INTO makes a table.
    Into,
    /// A data-modifying statement stands in WITH, or after it.
    Modifies,
    /// It calls a function that is volatile.
    Volatile,
    /// It asks for something of the server, not of the database: another server answers differently.
    Local,
    /// It calls a function that the catalog does not know.
    UnknownFunction,
    /// It reads a relation that the catalog does not know.
    UnknownRelation,
    /// It reads a relation that hides something: a view over what is volatile, a foreign or unlogged
    /// table, a sequence, a policy, a type with functions that are volatile.
    HiddenInRelation,
    /// A type, an operator or an attribute hides a function that is volatile.
    Hidden,
    /// Several statements of different kinds come in one query.
    Several,
}

impl Why {
    /// All of them, for counters.
    pub const ALL: [Self; 13] = [
        Self::Plain,
        Self::Unreadable,
        Self::TooComplex,
        Self::Locks,
        Self::Into,
        Self::Modifies,
        Self::Volatile,
        Self::Local,
        Self::UnknownFunction,
        Self::UnknownRelation,
        Self::HiddenInRelation,
        Self::Hidden,
        Self::Several,
    ];

    /// As a label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Unreadable => "unreadable",
            Self::TooComplex => "too_complex",
            Self::Locks => "locks",
            Self::Into => "into",
            Self::Modifies => "modifies",
            Self::Volatile => "volatile",
            Self::Local => "local",
            Self::UnknownFunction => "unknown_function",
            Self::UnknownRelation => "unknown_relation",
            Self::HiddenInRelation => "hidden_in_relation",
            Self::Hidden => "hidden",
            Self::Several => "several",
        }
    }
}

/// What else a statement does, as a set.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// Nothing else.
    pub const NONE: Self = Self(0);
    /// It leaves something in its session that only this server connection has: a temporary object,
    /// an advisory lock, a setting by `set_config`, a cursor WITH HOLD, a prepared statement.
    pub const SESSION: Self = Self(1);
    /// It begins or ends a transaction, or sets something of one, among other statements.
    pub const TRANSACTION: Self = Self(2);
    /// It changes the schema: the catalog that is loaded may be out of date after it.
    pub const SCHEMA: Self = Self(4);
    /// The query has more than one statement.
    pub const SEVERAL: Self = Self(8);

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Marks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Marks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::SESSION, "session"),
            (Self::TRANSACTION, "transaction"),
            (Self::SCHEMA, "schema"),
            (Self::SEVERAL, "several"),
        ];
        let set = names.into_iter().filter(|(mark, _)| self.has(*mark));
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}

impl Class {
    pub(super) const EMPTY: Self = Self::of(Kind::Empty);

    pub(super) const fn of(kind: Kind) -> Self {
        Self {
            kind,
            marks: Marks::NONE,
            why: Why::Plain,
        }
    }

    pub(super) const fn unknown(why: Why) -> Self {
        Self {
            kind: Kind::Unknown,
            marks: Marks::NONE,
            why,
        }
    }

    pub(super) fn with(mut self, marks: Marks) -> Self {
        self.marks |= marks;
        self
    }

    /// Whether a standby may answer it, and whether it may be run again: both are the same, since
    /// what is volatile is no read.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Empty)
    }

    /// Whether it may write, for all that is known. What only concerns its session does not.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        matches!(
            self.kind,
            Kind::Write
                | Kind::Unknown
                | Kind::Execute
                | Kind::CopyIn
                | Kind::CopyOut
                | Kind::Call
                | Kind::Commit
                | Kind::Cursor
        )
    }

    /// Whether a newer catalog may know more: a name was not in it.
    #[must_use]
    pub const fn lacks_names(&self) -> bool {
        matches!(self.why, Why::UnknownFunction | Why::UnknownRelation)
    }

    /// This statement, and another one in the same query.
    pub(super) fn and(self, next: Self) -> Self {
        if self.kind == Kind::Empty {
            return next;
        }
        let marks =
            self.marks | next.marks | Marks::SEVERAL | self.transaction() | next.transaction();
        let (kind, why) = match (self.is_read(), next.is_read()) {
            (true, true) => (Kind::Read, Why::Plain),
            (_, _) if next.why == Why::Unreadable => (Kind::Unknown, Why::Unreadable),
            (true, false) => (next.kind.among_others(), next.reason()),
            (false, true) => (self.kind.among_others(), self.reason()),
            (false, false) if self.kind == next.kind && next.kind == Kind::Write => {
                (Kind::Write, next.why)
            }
            (false, false) => (Kind::Unknown, Why::Several),
        };
        Self { kind, marks, why }
    }

    fn reason(&self) -> Why {
        match self.kind {
            Kind::Write | Kind::Unknown => self.why,
            _ => Why::Several,
        }
    }

    fn transaction(&self) -> Marks {
        match self.kind {
            Kind::Begin { .. } | Kind::Commit | Kind::Rollback | Kind::Savepoint => {
                Marks::TRANSACTION
            }
            _ => Marks::NONE,
        }
    }
}

impl Kind {
    /// A query of several statements is of a kind of its own only if it writes.
    const fn among_others(self) -> Self {
        match self {
            Self::Write => Self::Write,
            _ => Self::Unknown,
        }
    }
}
