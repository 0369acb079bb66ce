//! Every section and key of the configuration, once: the reader refuses what is not here, messages
//! suggest from here, and a test holds `docs/configuration.md` to it.

use self::cache::{CACHE, CACHE_PRIMARY, CACHE_SPARE, SENTINELS};
use self::db_proxy::{DB_AUTH_QUERY, DB_POOL, DB_PROXY, DB_TLS, DB_WATCH};
use self::logic::{
    DATABASE, DATABASE_SERVER, LOGIC, LOGIC_HTTP, LOGIC_POSTGRES, LOGIC_RESP, LOGIC_TLS,
};
use self::tables::{AGENT, BACKEND, CHECK, FLOWS, POOL, SERVICE};

mod cache;
mod db_proxy;
mod logic;
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
    /// `[[database]]`
    Database,
    /// One of a database's `servers`
    DatabaseServer,
    /// `[cache]`
    Cache,
    /// `sentinels` of `[cache]`
    Sentinels,
    /// One of `primaries` of `[cache]`
    CachePrimary,
    /// One of `spares` of `[cache]`
    CacheSpare,
    /// `[logic]`
    Logic,
    /// `tls` of `[logic]`
    LogicTls,
    /// `postgres` of `[logic]`
    LogicPostgres,
    /// `resp` of `[logic]`
    LogicResp,
    /// `http` of `[logic]`
    LogicHttp,
    /// `[db_proxy]`
    DbProxy,
    /// `pool` of `[db_proxy]`
    DbPool,
    /// `auth_query` of `[db_proxy]`
    DbAuthQuery,
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
        is_read: true,
    },
    TopSection {
        name: "cache",
        shape: Shape::Table,
        is_read: true,
    },
    TopSection {
        name: "logic",
        shape: Shape::Table,
        is_read: true,
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
        Self::Database,
        Self::DatabaseServer,
        Self::Cache,
        Self::Sentinels,
        Self::CachePrimary,
        Self::CacheSpare,
        Self::Logic,
        Self::LogicTls,
        Self::LogicPostgres,
        Self::LogicResp,
        Self::LogicHttp,
        Self::DbProxy,
        Self::DbPool,
        Self::DbAuthQuery,
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
            Self::Database => "[[database]]",
            Self::DatabaseServer => "servers",
            Self::Cache => "[cache]",
            Self::Sentinels => "[cache].sentinels",
            Self::CachePrimary => "[cache].primaries",
            Self::CacheSpare => "[cache].spares",
            Self::Logic => "[logic]",
            Self::LogicTls => "[logic].tls",
            Self::LogicPostgres => "[logic].postgres",
            Self::LogicResp => "[logic].resp",
            Self::LogicHttp => "[logic].http",
            Self::DbProxy => "[db_proxy]",
            Self::DbPool => "[db_proxy].pool",
            Self::DbAuthQuery => "[db_proxy].auth_query",
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
            Self::Database => DATABASE,
            Self::DatabaseServer => DATABASE_SERVER,
            Self::Cache => CACHE,
            Self::Sentinels => SENTINELS,
            Self::CachePrimary => CACHE_PRIMARY,
            Self::CacheSpare => CACHE_SPARE,
            Self::Logic => LOGIC,
            Self::LogicTls => LOGIC_TLS,
            Self::LogicPostgres => LOGIC_POSTGRES,
            Self::LogicResp => LOGIC_RESP,
            Self::LogicHttp => LOGIC_HTTP,
            Self::DbProxy => DB_PROXY,
            Self::DbPool => DB_POOL,
            Self::DbAuthQuery => DB_AUTH_QUERY,
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
