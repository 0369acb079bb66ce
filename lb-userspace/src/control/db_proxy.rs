//! What `lb db-proxy` answers.

use serde::{Deserialize, Serialize};

/// The state of `lb db-proxy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DbProxyStatus {
    /// Version of `lb`.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When it started, RFC 3339.
    pub since: String,
    /// The configuration file.
    pub config: String,
    /// When the configuration in force was read, RFC 3339.
    pub config_since: String,
    /// Whether the last reload was refused, and why.
    pub config_error: Option<String>,
    /// Where clients connect.
    pub listen: String,
    /// Where PostgreSQL is.
    pub server: String,
    /// `transaction` or `session`.
    pub mode: String,
    /// Whether clients wait because of PAUSE.
    pub paused: bool,
    /// Clients that have logged in.
    pub clients: u64,
    /// Connections of clients, those included that have not logged in yet.
    pub connections: u64,
    /// The most of them.
    pub clients_max: u64,
    /// What PostgreSQL is.
    pub watch: WatchStatus,
    /// Whether everybody is kept away.
    pub fence: FenceStatus,
    /// Addresses beyond loopback where PostgreSQL can be reached past the proxy.
    pub open_addresses: Vec<String>,
    /// Pools, by database and user.
    pub pools: Vec<DbPoolStatus>,
}

/// PostgreSQL as the watch sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// `answers`, `silent` or `unreachable`.
    pub state: String,
    /// Why it is unreachable.
    pub reason: Option<String>,
    /// `primary`, `standby` or `unknown`.
    pub role: String,
    /// System identifier and timeline; `None` before the first answer.
    pub epoch: Option<String>,
    /// Age of what is known, seconds; `None` before the first answer.
    pub age_seconds: Option<f64>,
    /// Logic daemons that watch over a link.
    pub links: u64,
}

/// The fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceStatus {
    /// Whether it lets nothing through.
    pub closed: bool,
    /// Why.
    pub reason: Option<String>,
    /// Messages that it refused.
    pub refused: u64,
}

/// The server connections of one user and database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DbPoolStatus {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// Connections that work for a client.
    pub active: u64,
    /// Connections that rest.
    pub idle: u64,
    /// The most connections.
    pub size: u64,
    /// Clients that wait for one.
    pub waiting: u64,
    /// How long the first of them has waited, seconds.
    pub waits_seconds: f64,
    /// Queries since the start.
    pub queries: u64,
    /// Transactions since the start.
    pub transactions: u64,
    /// Of their durations, half are shorter, seconds.
    pub transaction_p50_seconds: f64,
    /// And 99 of 100.
    pub transaction_p99_seconds: f64,
    /// Why the last connection could not be made.
    pub error: Option<String>,
}
