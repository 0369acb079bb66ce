//! The one configuration file (TOML), read into a [`Config`] that is valid by construction.
//!
//! Called by the daemons at start and on reload, and by `lb check`. Never touches the network, the
//! kernel or any file but the one it is given. Three steps, each its own file: the text becomes a
//! TOML tree (`error.rs` turns what is not TOML into diagnostics), `file.rs` reads it as written
//! (shape and types), `validate.rs` decides whether it makes sense. All mistakes of a file are
//! reported together, each on one line: `file:line:column: key: what is wrong; what would be right`.

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use lb_common::maps;

use self::error::Diagnostics;

mod db_proxy;
mod duration;
mod error;
mod field;
mod file;
pub mod keys;
mod logic;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod validate;
mod value;
mod words;

pub use self::{
    db_proxy::{AuthQuery, DbPool, DbProxy, DbServer, DbTls, DbWatch},
    duration::{DurationError, format_duration, parse_duration},
    error::{ConfigError, Diagnostic},
    logic::{
        Cache, CachePrimary, CacheSpare, Database, DatabaseServer, Logic, LogicConfig, LogicHttp,
        LogicPostgres, LogicResp,
    },
    value::{Port, StatusRanges},
    words::{
        Authority, ClientAuth, DuringFailover, Forward, HashKind, OnBackendLoss, OnEmpty, PoolMode,
        Protocol, ReadRoute, Role, ServerTls, Spill, Tracking, UdpFlows, UnknownWord, WriteMode,
        XdpMode,
    },
};

/// The most bytes that a configuration file may have: 8,192 backends take less than one tenth.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// The most pools of one configuration; the data plane has a table for each.
pub const POOLS_MAX: usize = 64;
/// The most backends of one configuration, all pools together.
pub const BACKENDS_MAX: usize = 8192;
/// The most services of one configuration.
pub const SERVICES_MAX: usize = 4096;
/// The most interfaces that one agent attaches to.
pub const INTERFACES_MAX: usize = 64;
/// The fewest slots that a pool's table may have.
pub const SLOTS_MIN: u32 = 251;
/// The most slots that a pool's table may have.
pub const SLOTS_MAX: u32 = 1_048_573;

// Whatever is accepted here must fit into the maps; a service may need a second entry for its VIP.
const _: () = assert!(POOLS_MAX <= maps::POOLS_MAX as usize);
const _: () = assert!(BACKENDS_MAX <= maps::BACKENDS_MAX as usize);
const _: () = assert!(SERVICES_MAX * 2 <= maps::SERVICES_MAX as usize);

/// The least that a service may lower the MSS to: what every IPv4 host takes without asking.
pub const MSS_MIN: u16 = 536;
/// The largest MSS that the largest IPv4 packet has room for.
pub const MSS_MAX: u16 = 65_495;

/// The largest weight that a backend may have.
pub const WEIGHT_MAX: u32 = 65_535;

/// What the gateway is to do: everything in it has been checked, also against everything else.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that it came from, for reload and for messages.
    pub source: PathBuf,
    /// `[agent]`: this host.
    pub agent: Agent,
    /// `[[pool]]`, in the order of the file; names are unique.
    pub pools: Vec<Pool>,
    /// `[[service]]`, in the order of the file; names and (vip, port, protocol) are unique, and
    /// every `pool` is one of `pools`.
    pub services: Vec<Service>,
    /// `[db_proxy]`, if there is one.
    pub db_proxy: Option<DbProxy>,
    /// Sections for daemons that this version does not have, in alphabetical order.
    pub unread: Vec<String>,
}

/// A whole file: what there is in it for each daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// For the gateway's agent, where there is `[agent]`, `[[pool]]` or `[[service]]`.
    pub gateway: Option<Config>,
    /// `[db_proxy]`.
    pub db_proxy: Option<DbProxy>,
    /// `[logic]` and what it is in front of.
    pub logic: Option<LogicConfig>,
    /// How many `[[database]]` there are.
    pub databases: usize,
    /// `[cache]`, also where there is no `[logic]`.
    pub cache: Option<Cache>,
    /// The file that it came from.
    pub source: PathBuf,
    /// Sections for daemons that this version does not have, in alphabetical order.
    pub unread: Vec<String>,
}

/// `[agent]`: where the gateway attaches, and where it keeps its things on this host.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Names of the interfaces that the XDP program is attached to; at least one.
    pub interfaces: Vec<String>,
    /// Native, generic, or whichever the driver has.
    pub xdp_mode: XdpMode,
    /// Whether the agent adds the VIPs to this host, announces them and removes them.
    pub manage_vips: bool,
    /// Directory in bpffs for pins; the ABI version goes below it.
    pub pin: PathBuf,
    /// Directory for operator intent that survives a restart.
    pub state: PathBuf,
    /// Path of the Unix socket that `lb` commands talk to.
    pub control: PathBuf,
    /// Where Prometheus fetches metrics; `None` serves none.
    pub metrics: Option<SocketAddr>,
    /// Outer sources of `ipip` packets to IPv4 backends are taken from this network.
    pub tunnel_source_v4: Ipv4Net,
    /// Outer sources of `ipip` packets to IPv6 backends are taken from this network.
    pub tunnel_source_v6: Ipv6Net,
    /// The most health probes a second, all pools together.
    pub probes_per_second: u32,
    /// The most flows on record.
    pub flows_max: u32,
}

/// `[[pool]]`: the backends of one tier, with roles, weights and one health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Unique among pools.
    pub name: String,
    /// How a packet reaches a backend.
    pub forward: Forward,
    /// Size of the consistent-hash table: a prime, at least the number of primaries.
    pub slots: u32,
    /// Which group the alternates come from.
    pub spill: Spill,
    /// What becomes of the flows of a backend that is lost.
    pub on_backend_loss: OnBackendLoss,
    /// What becomes of packets when no backend is usable.
    pub on_empty: OnEmpty,
    /// When flows are recorded.
    pub tracking: Tracking,
    /// How long flows are remembered.
    pub flows: FlowTimes,
    /// `None`: backends are always up.
    pub check: Option<Check>,
    /// At least one primary with a weight above 0; names and addresses are unique in the pool.
    pub backends: Vec<Backend>,
}

/// How long the data plane remembers flows; `idle` exceeds both windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimes {
    /// How long a slot records TCP flows after a change.
    pub window: Duration,
    /// How long a slot records UDP flows after a change.
    pub udp_window: Duration,
    /// Life of a record that no packet uses.
    pub idle: Duration,
    /// How long flows of a backend that failed are told so.
    pub lost_for: Duration,
    /// Life of a record made by a SYN that nothing followed, and of one whose flow was closed.
    pub embryo: Duration,
}

impl FlowTimes {
    /// Where the file says nothing.
    pub const DEFAULT: Self = Self {
        window: Duration::from_secs(5 * 60),
        udp_window: Duration::from_secs(30),
        idle: Duration::from_secs(60 * 60),
        lost_for: Duration::from_secs(60),
        embryo: Duration::from_secs(60),
    };
}

/// One server in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Unique in its pool.
    pub name: String,
    /// Never unspecified, multicast, loopback, link-local IPv6 or a VIP.
    pub address: IpAddr,
    /// Which of the two groups it belongs to.
    pub role: Role,
    /// Its share in relation to the others of its group, 0 to 65,535; 0 takes no flows.
    pub weight: u32,
    /// Later rungs prefer backends of other zones.
    pub zone: Option<String>,
    /// The port of every service that uses the pool, if given: `l2` and `ipip` cannot change it.
    pub port: Option<u16>,
}

/// A pool's health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked of a backend.
    pub probe: Probe,
    /// Port that is probed.
    pub port: u16,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// How long an answer may take; never more than `interval`.
    pub timeout: Duration,
    /// Good probes in a row until a backend is up, 1 to 100.
    pub rise: u32,
    /// Bad probes in a row until a backend is down, 1 to 100.
    pub fall: u32,
    /// By which share of the interval probes are shifted at random, 0 to 0.5.
    pub jitter: f64,
    /// Whether an idle connection is held open, whose close triggers a probe at once.
    pub hold: bool,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// `GET` is answered with an expected status.
    Http {
        /// Begins with `/`; visible ASCII only.
        path: String,
        /// The `Host` header; `None` sends the backend's address.
        host: Option<String>,
        /// Which status codes are good.
        expect: StatusRanges,
    },
}

/// `[[service]]`: a VIP, port and protocol, and the pool behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// The address that clients use.
    pub vip: IpAddr,
    /// One port, or every port that no other service of the VIP names.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Name of one of [`Config::pools`].
    pub pool: String,
    /// Whether fragments are served; UDP only, and all such services of a VIP have one pool.
    pub fragments: bool,
    /// The largest segment size that a client may announce; TCP only. `None`: what it says.
    pub mss: Option<u16>,
    /// Where a flow begins; anything but `Plain` is UDP only.
    pub udp: UdpFlows,
}

impl Parts {
    /// The daemons that can run with the file.
    #[must_use]
    pub fn daemons(&self) -> Vec<&'static str> {
        let daemons = [
            ("lb agent", self.gateway.is_some()),
            ("lb db-proxy", self.db_proxy.is_some()),
            ("lb logic", self.logic.is_some()),
        ];
        let there = daemons.into_iter().filter(|(_, is_there)| *is_there);
        there.map(|(daemon, _)| daemon).collect()
    }

    /// A report that a section is missing.
    #[must_use]
    pub fn missing(&self, section: &str, right: &str) -> Diagnostic {
        Diagnostic {
            file: self.source.clone(),
            line: 1,
            column: 1,
            key: section.to_owned(),
            wrong: "is missing".to_owned(),
            right: right.to_owned(),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when the file cannot be read, has more than [`FILE_BYTES_MAX`]
    /// bytes or is not UTF-8; [`ConfigError::Refused`] with every mistake in it otherwise.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        Self::parse(&read(path)?, path)
    }

    /// Reads and checks the file at `path` for the database proxy: a host that has nothing else
    /// needs no `[agent]`.
    ///
    /// # Errors
    /// As [`Config::load`]; also where there is no `[db_proxy]`.
    pub fn load_db_proxy(path: impl AsRef<Path>) -> Result<DbProxy, ConfigError> {
        let path = path.as_ref();
        checked(&read(path)?, path, validate::db_proxy_alone)
    }

    /// Reads and checks the file at `path` for `lb logic`.
    ///
    /// # Errors
    /// As [`Config::load`]; also where there is no `[logic]`.
    pub fn load_logic(path: impl AsRef<Path>) -> Result<LogicConfig, ConfigError> {
        let path = path.as_ref();
        checked(&read(path)?, path, validate::logic_alone)
    }

    /// Reads and checks the file at `path`, whatever daemons it is for.
    ///
    /// # Errors
    /// As [`Config::load`]; also where it is for no daemon.
    pub fn check(path: impl AsRef<Path>) -> Result<Parts, ConfigError> {
        let path = path.as_ref();
        Self::check_text(&read(path)?, path)
    }

    /// The same with a text; `file_name` stands in the messages.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with every mistake in the text.
    pub fn check_text(text: &str, file_name: impl AsRef<Path>) -> Result<Parts, ConfigError> {
        checked(text, file_name.as_ref(), validate::parts)
    }

    /// Checks `text`; `file_name` stands in the messages and in [`Config::source`].
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with every mistake in the text.
    pub fn parse(text: &str, file_name: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        checked(text, &file_name.into(), validate::config)
    }

    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// Sections that belong to daemons which this version does not have, and were therefore only
    /// looked at for their shape.
    #[must_use]
    pub fn unread_sections(&self) -> Vec<String> {
        self.unread.clone()
    }
}

/// Parses, reads and validates.
fn checked<T>(
    text: &str,
    source: &Path,
    validate: impl FnOnce(&file::File, &Path, &mut Diagnostics<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let mut out = Diagnostics::new(source, text);
    let config = out.parse_toml().and_then(|root| {
        let file = file::File::read(root.get_ref(), &mut out);
        validate(&file, source, &mut out)
    });
    out.finish(config)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}
