//! `[logic]`, `[cache]` and `[[database]]` as they are used: the daemon on a logic server, and the
//! two tiers behind it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    Authority, DuringFailover, HashKind, ReadRoute, Role, ServerTls, WriteMode, db_proxy::DbTls,
};

/// What `lb logic` is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct LogicConfig {
    /// The file that it came from, for reload and for messages.
    pub source: PathBuf,
    /// `[logic]`.
    pub logic: Logic,
    /// `[cache]`, if there is one.
    pub cache: Option<Cache>,
    /// `[[database]]`, in the order of the file; names are unique.
    pub databases: Vec<Database>,
}

/// `[logic]`: listeners of this host, and where the daemon keeps its things.
#[derive(Clone, Debug, PartialEq)]
pub struct Logic {
    /// Path of the Unix socket that `lb` commands talk to.
    pub control: PathBuf,
    /// Where Prometheus fetches metrics; `None` serves none.
    pub metrics: Option<SocketAddr>,
    /// Directory for what must survive a restart.
    pub state: PathBuf,
    /// Threads that serve; `None`: one a core.
    pub threads: Option<usize>,
    /// The daemon's own certificate; `None` offers no TLS.
    pub tls: Option<DbTls>,
    /// The PostgreSQL listener; `None`: none.
    pub postgres: Option<LogicPostgres>,
    /// The Redis listener; `None`: none.
    pub resp: Option<LogicResp>,
    /// The HTTP listener; `None`: none.
    pub http: Option<LogicHttp>,
}

/// `postgres` of `[logic]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogicPostgres {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where reads go.
    pub route: ReadRoute,
    /// How long writes wait for a primary.
    pub failover_timeout: Duration,
    /// Users and their passwords or verifiers, in PgBouncer's format.
    pub users_file: Option<PathBuf>,
}

/// `resp` of `[logic]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogicResp {
    /// Where clients connect in the clear.
    pub listen: SocketAddr,
    /// Where clients connect by TLS; `None`: nowhere.
    pub tls_listen: Option<SocketAddr>,
    /// Users, in the format of Redis's ACL file; `None`: everybody may do everything.
    pub users_file: Option<PathBuf>,
    /// The most clients of the daemon.
    pub max_clients: usize,
    /// How long a client may be silent before it is closed; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// The most bytes of answers that wait for one client before it is closed.
    pub output_bytes_max: usize,
}

/// `http` of `[logic]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogicHttp {
    /// Where clients and health checks connect.
    pub listen: SocketAddr,
    /// Who may change records.
    pub tokens_file: Option<PathBuf>,
}

/// `[cache]`: the two layers of cache servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Who decides that a server has failed, and who takes over.
    pub authority: Authority,
    /// Where Sentinels are; empty with the authority `local`.
    pub sentinels: Vec<SocketAddr>,
    /// What Sentinel calls a server is this and the server's name.
    pub master_prefix: String,
    /// How keys are spread over layer one.
    pub hash: HashKind,
    /// Layer one, in the order of the file; at least one has a weight above 0.
    pub primaries: Vec<CachePrimary>,
    /// Layer two's servers without a copy.
    pub spares: Vec<CacheSpare>,
    /// Whether a write is answered before its copy has it.
    pub writes: WriteMode,
    /// What reads do between a failure and its verdict.
    pub during_failover: DuringFailover,
    /// Answers of a copy that lags by more count as misses.
    pub lag_max: Duration,
    /// How long writes wait for a server that takes them.
    pub failover_timeout: Duration,
    /// How long a `sync` write waits for its copy.
    pub sync_timeout: Duration,
    /// The longest life of a key on a spare.
    pub spare_ttl: Duration,
    /// The number of the database that a server of layer one keeps another's keys in.
    pub spare_database: u32,
    /// The largest share of layer one whose keys layer two takes at a time, 0 to 1.
    pub max_failover_share: f64,
    /// The shortest silence of a server that still owes an answer, after which reads go to its copy.
    pub silence: Duration,
    /// The most commands that wait for one server, on each thread.
    pub queue: usize,
    /// User and password for the cache servers and Sentinels.
    pub credentials_file: Option<PathBuf>,
    /// Whether connections to cache servers are encrypted.
    pub server_tls: ServerTls,
    /// PEM file of the certificates that may vouch for the servers.
    pub server_ca: Option<PathBuf>,
}

/// A server of layer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePrimary {
    /// Unique in `[cache]`; keys are hashed by it.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Where its copy is, in layer two.
    pub copy: Option<SocketAddr>,
    /// Its share of the keys in relation to the others'.
    pub weight: u32,
}

/// A server of layer two without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpare {
    /// Unique in `[cache]`.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Its share in relation to the others'.
    pub weight: u32,
}

/// `[[database]]`: the servers of one cluster, or of several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Unique among databases.
    pub name: String,
    /// Which database names of a client's startup packet it serves; `*` is every one.
    pub databases: Vec<String>,
    /// At least one; names and addresses are unique.
    pub servers: Vec<DatabaseServer>,
    /// Whether connections to the servers' proxies are encrypted.
    pub server_tls: ServerTls,
    /// PEM file of the certificates that may vouch for them.
    pub server_ca: Option<PathBuf>,
}

/// One server of a `[[database]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseServer {
    /// Unique in its database.
    pub name: String,
    /// Where its `lb db-proxy` is (or PostgreSQL itself).
    pub address: SocketAddr,
    /// Which shard it holds.
    pub shard: u32,
}

impl Cache {
    /// How many servers there are, copies included.
    #[must_use]
    pub fn servers(&self) -> usize {
        let copies = self.primaries.iter().filter(|p| p.copy.is_some()).count();
        self.primaries.len() + copies + self.spares.len()
    }

    /// Layer-one servers and spares with their group, as consistent hashing sees them.
    pub fn members(&self) -> impl Iterator<Item = (&str, Role, u32)> {
        let primaries = self
            .primaries
            .iter()
            .map(|p| (p.name.as_str(), Role::Primary, p.weight));
        let spares = self
            .spares
            .iter()
            .map(|s| (s.name.as_str(), Role::Standby, s.weight));
        primaries.chain(spares)
    }
}
