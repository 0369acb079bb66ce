//! Every section and key of the configuration, once: the reader refuses what is not here, messages
//! suggest from here, and a test holds `docs/configuration.md` to it.

use self::db_proxy::{DB_POOL, DB_PROXY, DB_TLS, DB_WATCH};
use self::tables::{AGENT, BACKEND, CHECK, FLOWS, POOL, SERVICE};

mod db_proxy;
mod tables;

/// What a key is when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// It must be given; the text is an example of a value, in TOML.
    Required(&'static str),
    /// A value, in TOML.
    Value(&'static str),
    /// Something that is no single value, in words.
    Words(&'static str),
}

/// One key of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: &'static str,
    /// What it is when left out.
    pub default: WhenAbsent,
    /// What it does.
    pub meaning: &'static str,
}

/// A table with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `[agent]`
    Agent,
    /// `[[pool]]`
    Pool,
    /// `flows` of a pool
    Flows,
    /// `check` of a pool
    Check,
    /// One of a pool's `backends`
    Backend,
    /// `[[service]]`
    Service,
    /// `[db_proxy]`
    DbProxy,
    /// `pool` of `[db_proxy]`
    DbPool,
    /// `watch` of `[db_proxy]`
    DbWatch,
    /// `tls` of `[db_proxy]`
    DbTls,
}

/// How a section at the top of the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[name]`, once.
    Table,
    /// `[[name]]`, as often as needed.
    Tables,
}

/// A section at the top of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSection {
    /// As it is written.
    pub name: &'static str,
    /// Once or many times.
    pub shape: Shape,
    /// Whether this version reads it.
    pub is_read: bool,
}

impl TopSection {
    /// How its header is written: `[agent]`, `[[pool]]`.
    #[must_use]
    pub fn header(&self) -> String {
        match self.shape {
            Shape::Table => format!("[{}]", self.name),
            Shape::Tables => format!("[[{}]]", self.name),
        }
    }
}

/// The sections at the top of the file.
pub const TOP: &[TopSection] = &[
    TopSection {
        name: "agent",
        shape: Shape::Table,
        is_read: true,
    },
    TopSection {
        name: "pool",
        shape: Shape::Tables,
        is_read: true,
    },
    TopSection {
        name: "service",
        shape: Shape::Tables,
        is_read: true,
    },
    TopSection {
        name: "database",
        shape: Shape::Tables,
        is_read: false,
    },
    TopSection {
        name: "cache",
        shape: Shape::Table,
        is_read: false,
    },
    TopSection {
        name: "logic",
        shape: Shape::Table,
        is_read: false,
    },
    TopSection {
        name: "db_proxy",
        shape: Shape::Table,
        is_read: true,
    },
    TopSection {
        name: "entity",
        shape: Shape::Tables,
        is_read: false,
    },
];

impl Section {
    /// Every section that this version reads, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::Agent,
        Self::Pool,
        Self::Flows,
        Self::Check,
        Self::Backend,
        Self::Service,
        Self::DbProxy,
        Self::DbPool,
        Self::DbWatch,
        Self::DbTls,
    ];

    /// What messages and headings call it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Agent => "[agent]",
            Self::Pool => "[[pool]]",
            Self::Flows => "flows",
            Self::Check => "check",
            Self::Backend => "backends",
            Self::Service => "[[service]]",
            Self::DbProxy => "[db_proxy]",
            Self::DbPool => "[db_proxy].pool",
            Self::DbWatch => "[db_proxy].watch",
            Self::DbTls => "[db_proxy].tls",
        }
    }

    /// Its keys, in the order of the documentation.
    #[must_use]
    pub const fn keys(self) -> &'static [Key] {
        match self {
            Self::Agent => AGENT,
            Self::Pool => POOL,
            Self::Flows => FLOWS,
            Self::Check => CHECK,
            Self::Backend => BACKEND,
            Self::Service => SERVICE,
            Self::DbProxy => DB_PROXY,
            Self::DbPool => DB_POOL,
            Self::DbWatch => DB_WATCH,
            Self::DbTls => DB_TLS,
        }
    }

    /// The key of that name.
    #[must_use]
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == name)
    }
}
