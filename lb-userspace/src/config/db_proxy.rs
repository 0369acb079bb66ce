//! `[db_proxy]` as it is used: the proxy in front of the PostgreSQL server of one host.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{ClientAuth, PoolMode, ServerTls};

/// `[db_proxy]`: the proxy in front of this host's PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbProxy {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where PostgreSQL is.
    pub server: DbServer,
    /// Whether connections to a server that is reached by TCP are encrypted.
    pub server_tls: ServerTls,
    /// PEM file of the certificates that may vouch for the server.
    pub server_ca: Option<PathBuf>,
    /// Connections and clients.
    pub pool: DbPool,
    /// How clients prove who they are.
    pub auth: ClientAuth,
    /// Users and their passwords or verifiers, in PgBouncer's format.
    pub users_file: Option<PathBuf>,
    /// How users whom the file does not name are looked up; `None` does not let them in.
    pub auth_query: Option<AuthQuery>,
    /// Who may use the console.
    pub admins: Vec<String>,
    /// Who may watch the server over a link, and attest epochs.
    pub links: Vec<String>,
    /// How the proxy itself looks at the server.
    pub watch: DbWatch,
    /// Directory for the highest epoch that was seen.
    pub state: PathBuf,
    /// The proxy's own certificate; `None` offers no TLS.
    pub tls: Option<DbTls>,
    /// Unix socket for the `lb` commands.
    pub control: PathBuf,
    /// Where Prometheus fetches metrics; `None` serves none.
    pub metrics: Option<SocketAddr>,
}

/// Where PostgreSQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DbServer {
    /// The Unix socket itself, such as `/var/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
    /// A host's name or address, and a port.
    Tcp(String, u16),
}

/// `pool` of `[db_proxy]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbPool {
    /// When a client gives its server connection back.
    pub mode: PoolMode,
    /// The most server connections of one user and database.
    pub size: usize,
    /// The most clients that wait for a connection of one user and database.
    pub queue: usize,
    /// How long a client waits for a connection.
    pub queue_timeout: Duration,
    /// The most clients, all users and databases together.
    pub max_clients: usize,
    /// How long a client may be silent before its host is asked whether it is still there.
    pub keepalive: Duration,
    /// How long a connection may lie unused before it is closed.
    pub idle_timeout: Duration,
    /// How old a connection may become before it is closed instead of reused; zero serves once.
    pub lifetime: Duration,
    /// The most prepared statements of one server connection.
    pub statements: usize,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbTls {
    /// The certificate, and those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `auth_query` of `[db_proxy]`: the question that PostgreSQL is asked for a user's verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthQuery {
    /// As which user it is asked.
    pub user: String,
    /// In which database.
    pub database: String,
    /// Answers with the user's name and what is stored of the password; `$1` is the name.
    pub query: String,
    /// How long an answer is kept.
    pub keep: Duration,
    /// The most users that are kept.
    pub users: usize,
}

/// `watch` of `[db_proxy]`: the connection on which the proxy looks at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbWatch {
    /// A user of PostgreSQL with the attribute REPLICATION.
    pub user: String,
    /// Any database that the user may connect to.
    pub database: String,
}
