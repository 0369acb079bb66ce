//! The Unix-socket API between the commands and the daemons: one JSON object a line, each way.
//!
//! A command sends one [`Request`] and reads one [`Answer`], or, following events, one for each
//! event until it closes the connection. The objects inside the answers are what `--json` prints;
//! `docs/json.md` describes them, and fields are only ever added.
//!
//! This module holds the words and their transport. What they do is decided by the daemon.

pub mod client;
mod db_proxy;
mod logic;
pub mod server;
#[cfg(test)]
mod tests;

pub use self::db_proxy::{DbPoolStatus, DbProxyStatus, FenceStatus, WatchStatus};
pub use self::logic::{CacheServerStatus, CacheStatus, LogicStatus, SentinelStatus, TierStatus};

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Longest answer that a command accepts, in bytes: the status of 8,192 backends fits.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Longest request that a daemon accepts, in bytes: two names and a few words.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What a command asks of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything: answered by [`Status`].
    Status,
    /// Operator intent for one backend: answered by [`BackendStatus`].
    Admin {
        /// The backend's name.
        backend: String,
        /// The pool, where the name alone is not unique.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<String>,
        /// What shall become of it.
        intent: Intent,
    },
    /// Another weight until it is taken back: answered by [`BackendStatus`].
    Weight {
        /// The backend's name.
        backend: String,
        /// The pool, where the name alone is not unique.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<String>,
        /// The weight; `None` for the configuration's.
        weight: Option<u32>,
    },
    /// Read the configuration file again: answered by [`Reload`].
    Reload {
        /// Only say what would change.
        dry_run: bool,
    },
    /// Where a flow goes: answered by [`Route`].
    Route {
        /// The service's VIP and port.
        vip: SocketAddr,
        /// `tcp` or `udp`.
        protocol: String,
        /// The client's address and port.
        from: SocketAddr,
    },
    /// The cache tier: answered by [`CacheStatus`].
    Cache,
    /// The latest events, oldest first: each answered by an [`Event`].
    Events {
        /// Go on with new ones until the connection is closed.
        follow: bool,
    },
}

/// What the operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// No new flows; those that are there finish.
    Drain,
    /// Takes back a drain.
    Undrain,
    /// No packets at all.
    Disable,
    /// Takes back a disable.
    Enable,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Status`], by `lb logic`.
    Logic(Box<LogicStatus>),
    /// To [`Request::Status`], by `lb db-proxy`.
    DbProxy(Box<DbProxyStatus>),
    /// To [`Request::Cache`].
    Cache(Box<CacheStatus>),
    /// To [`Request::Admin`] and [`Request::Weight`].
    Backend(Box<BackendStatus>),
    /// To [`Request::Reload`].
    Reload(Reload),
    /// To [`Request::Route`].
    Route(Box<Route>),
    /// To [`Request::Events`].
    Event(Event),
    /// The end of the events, if they were not followed.
    End,
    /// Refused or failed: one line that says why and what to do.
    Error(String),
}

/// The state of an agent and of everything that it takes care of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of `lb`.
    pub version: String,
    /// The agent itself.
    pub agent: AgentStatus,
    /// Services, in the configuration's order.
    pub services: Vec<ServiceStatus>,
    /// Pools, in the configuration's order.
    pub pools: Vec<PoolStatus>,
    /// Backends that left the configuration and keep the flows that they have.
    pub removed: Vec<BackendStatus>,
}

/// The agent itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
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
    /// Interfaces that the program is attached to.
    pub interfaces: Vec<InterfaceStatus>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Packets that the program answered by itself, by kind.
    pub replies: BTreeMap<String, u64>,
    /// Packets left to this host's kernel, by reason.
    pub passes: BTreeMap<String, u64>,
    /// The records of flows.
    pub flows: FlowsStatus,
    /// The budget of health probes.
    pub probes: ProbeStatus,
    /// Kernel memory of the maps, bytes.
    pub map_bytes: u64,
}

/// The records of flows: only those of unstable slots are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowsStatus {
    /// Records of flows of which more than one packet was seen, as the last sweep counted them.
    pub recorded: u64,
    /// Most of them.
    pub recorded_max: u32,
    /// Records of flows of which one packet was seen.
    pub recorded_new: u64,
    /// Most of them; later ones push earlier ones out.
    pub recorded_new_max: u32,
    /// What the program did with records, by happening.
    pub counts: BTreeMap<String, u64>,
    /// Sweeps since the agent started.
    pub sweeps: u64,
    /// How long the last one took, seconds.
    pub sweep_seconds: f64,
    /// Records that it deleted.
    pub sweep_deleted: u64,
    /// Age of the agent's last sign of life, seconds.
    pub heartbeat_seconds: f64,
}

/// Why not every packet of a pool takes the shortest way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstabilityStatus {
    /// Slots whose flows are looked up.
    pub slots: u32,
    /// Those of them whose owner changed, within their window.
    pub slots_changed: u32,
    /// Since when, RFC 3339; `None` where it began before this agent.
    pub since: Option<String>,
    /// When it ends, RFC 3339; `None` while something has no end of its own.
    pub until: Option<String>,
    /// Why, in words.
    pub causes: Vec<String>,
    /// Flows of the pool on record, as the last sweep counted them.
    pub recorded: u64,
    /// Those that their slot alone would send elsewhere.
    pub needed: u64,
}

/// An interface that the program is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic`, `offloaded`, or `none` where it is not attached.
    pub xdp: String,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Whether the link is up.
    pub up: bool,
}

/// The budget of health probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// Most probes a second, `[agent].probes_per_second`.
    pub per_second_max: u32,
    /// Probes sent.
    pub sent: u64,
    /// Probes that had to wait for the budget.
    pub deferred: u64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its VIP.
    pub vip: IpAddr,
    /// Its port; `None` for every port of the VIP.
    pub port: Option<u16>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its pool.
    pub pool: String,
    /// Whether the VIP is on this host, if the agent manages VIPs: `added`, `kept` (the operator's
    /// own), `unmanaged` or `missing`.
    pub vip_state: String,
    /// Since the maps were made.
    pub total: TrafficStatus,
    /// Over the last second or so.
    pub rate: RateStatus,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// `l2` or `ipip`.
    pub forward: String,
    /// `both`, `standbys-first` or `primaries-first`.
    pub spill: String,
    /// Slots of its table.
    pub slots: u32,
    /// What happens when no backend is left: `reset`, `drop` or `pass`.
    pub on_empty: String,
    /// `tcp` or `http`; `None` without a check.
    pub check: Option<String>,
    /// What is not settled; `None` while every packet takes the shortest way.
    pub unstable: Option<InstabilityStatus>,
    /// Backends, in the configuration's order.
    pub backends: Vec<BackendStatus>,
}

/// A backend. `admin` is what the operator wants, `health` what the checks found, `state` what the
/// data plane does in consequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its index in the data plane.
    pub id: u16,
    /// Its address.
    pub address: IpAddr,
    /// `primary` or `standby`.
    pub role: String,
    /// Its zone.
    pub zone: Option<String>,
    /// The weight in force.
    pub weight: u32,
    /// The configuration's weight.
    pub weight_configured: u32,
    /// Share of the pool's slots that it owns, 0 to 1.
    pub share: f64,
    /// `none`, `drained` or `disabled`.
    pub admin: String,
    /// When the operator said so, RFC 3339.
    pub admin_since: Option<String>,
    /// `up`, `down`, `unknown` before the first verdict, or `unchecked` in a pool without a check.
    pub health: String,
    /// Why the checks call it down.
    pub health_reason: Option<String>,
    /// When the verdict came, RFC 3339.
    pub health_since: Option<String>,
    /// Where its frames go, as `MAC via interface`, or why nowhere.
    pub next_hop: String,
    /// `up`, `draining` or `down`.
    pub state: String,
    /// Why it is in this state, in words.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// What it is to flows: `settled`, `tracked`, `warming`, `draining`, `removed`, `lost` or `down`.
    pub flows: String,
    /// When that ends by itself, RFC 3339.
    pub flows_until: Option<String>,
    /// SYNs that clients sent again after the first went to it.
    pub repeated_syns: u64,
    /// Resets sent to flows that it had.
    pub resets: u64,
    /// What its checker did; `None` without a check.
    pub checks: Option<CheckStatus>,
    /// Since its id was given to it.
    pub total: TrafficStatus,
    /// Over the last second or so.
    pub rate: RateStatus,
}

/// What the checker of a backend did since it was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Probes finished.
    pub probes: u64,
    /// Probes that passed.
    pub passed: u64,
    /// Probes that failed, by kind.
    pub failed: BTreeMap<String, u64>,
    /// Probes that ran before their interval, because an idle connection ended.
    pub triggered: u64,
    /// Probes that waited for the budget.
    pub deferred: u64,
    /// How long the last probe took, seconds.
    pub last_seconds: f64,
}

/// Counts that only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded.
    pub bytes: u64,
    /// TCP connections opened.
    pub new_flows: u64,
    /// Packets that did not go to rung 0 of their slot.
    pub diverted: u64,
}

/// Rates per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RateStatus {
    /// Packets.
    pub packets_per_second: f64,
    /// Bytes.
    pub bytes_per_second: f64,
    /// TCP connections opened.
    pub new_flows_per_second: f64,
}

/// What a reload changed, or would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether it was carried out.
    pub applied: bool,
    /// The differences, in words: `backend logic/logic-4 added (primary, weight 100)`.
    pub changes: Vec<String>,
    /// What it moves, by pool; pools that move nothing are left out.
    pub moved: Vec<Moved>,
}

/// Slots of a pool whose owner changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The pool.
    pub pool: String,
    /// Slots whose first rung changes.
    pub slots: u32,
    /// Their share of the table, 0 to 1.
    pub share: f64,
}

/// Where a flow goes, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The service.
    pub service: String,
    /// Its pool.
    pub pool: String,
    /// The flow's slot.
    pub slot: u32,
    /// The backend; `None` where none is left.
    pub backend: Option<String>,
    /// The rung on which it stands.
    pub rung: Option<u32>,
    /// Slots that were passed because none of their rungs takes flows.
    pub slots_passed: u32,
    /// Whether the slot is stable: nothing but it and its owner's state is looked at.
    pub stable: bool,
    /// Takes a new flow of this slot.
    pub e_new: Option<String>,
    /// Has a TCP flow of this slot that is not recorded, or a UDP flow.
    pub e_old: Option<String>,
    /// The owner before the slot changed, while that counts.
    pub previous: Option<String>,
    /// Whether a backend was lost lately that such a flow may have had.
    pub lost: bool,
    /// The record that the flow's packets follow, or would if its backend were alive.
    pub record: Option<RecordStatus>,
    /// Why this one, in words.
    pub why: String,
    /// The slot's ladder.
    pub ladder: Vec<Rung>,
}

/// The record of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordStatus {
    /// `FLOWS`, or `FLOWS_NEW` while one packet of it was seen.
    pub map: String,
    /// The backend.
    pub backend: String,
    /// Whether that backend is alive, and still who it was.
    pub live: bool,
    /// Whether a newer connection of the same addresses and ports began.
    pub superseded: bool,
    /// Whether its last packet had FIN or RST.
    pub closing: bool,
    /// Seconds since its last packet.
    pub age_seconds: f64,
}

/// One rung of a ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// The backend.
    pub backend: String,
    /// `primary` or `standby`.
    pub role: String,
    /// `up`, `draining` or `down`.
    pub state: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one from the agent's start; a gap means events that were not kept.
    pub number: u64,
    /// When, RFC 3339 with microseconds.
    pub at: String,
    /// `state`, `admin`, `weight`, `next-hop`, `config`, `attach`, `vip`, `agent`, `suspected`,
    /// `rescued`, `reset`, `empty`, `removed`.
    pub kind: String,
    /// The pool it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The backend it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The new state of the backend, for `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// For a failure that a check found: from the start of the probe that decided it to the store
    /// in the data plane, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_us: Option<u64>,
    /// From the verdict to the store, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_us: Option<u64>,
    /// In words.
    pub text: String,
}
