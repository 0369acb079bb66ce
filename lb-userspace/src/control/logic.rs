//! What `lb logic` answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of `lb logic`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogicStatus {
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
    /// Threads that serve.
    pub threads: usize,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// The listeners.
    pub tiers: Vec<TierStatus>,
}

/// One listener and the tier behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TierStatus {
    /// `resp`, `postgres` or `http`.
    pub name: String,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// Whether it can serve.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Clients connected.
    pub clients: u64,
    /// What happened since the start, by kind.
    pub counts: BTreeMap<String, u64>,
}

/// The cache tier as `lb logic` sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// `sentinel` or `local`.
    pub authority: String,
    /// `maglev` or `ketama`.
    pub hash: String,
    /// `async` or `sync`.
    pub writes: String,
    /// `serve` or `strict`.
    pub during_failover: String,
    /// Share of layer one whose keys layer two has, 0 to 1.
    pub failover_share: f64,
    /// The most that it may be.
    pub max_failover_share: f64,
    /// Servers of both layers, layer one first.
    pub servers: Vec<CacheServerStatus>,
    /// Sentinels; none with the authority `local`.
    pub sentinels: Vec<SentinelStatus>,
}

/// A server of the cache tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheServerStatus {
    /// Its name.
    pub name: String,
    /// `1` or `2`.
    pub layer: u8,
    /// Where its keys are written now.
    pub address: String,
    /// Where the copy is now.
    pub copy: Option<String>,
    /// Share of the keys that it owns, 0 to 1.
    pub share: f64,
    /// `up`, `suspected`, `failed`, `spared`, `emptying`.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// How far the copy is behind, seconds, as last seen; `None` where that is not known.
    pub lag_seconds: Option<f64>,
    /// Which process answers there, as it says itself (`run_id`).
    pub run_id: Option<String>,
    /// What happened since the start, by kind.
    pub counts: BTreeMap<String, u64>,
}

/// A Sentinel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentinelStatus {
    /// Where it is.
    pub address: String,
    /// Whether it answers.
    pub connected: bool,
    /// What it said last, in words.
    pub news: Option<String>,
}
