//! `[logic]`, `[cache]` and `[[database]]` as written.

use std::{net::SocketAddr, ops::Range, time::Duration};

use super::DbTls;
use crate::config::{
    Authority, DuringFailover, HashKind, ReadRoute, ServerTls, WriteMode,
    error::Diagnostics,
    field::{Field, Table},
    keys::Section,
};

/// `[logic]`
pub(in crate::config) struct Logic {
    pub(in crate::config) control: Field<String>,
    pub(in crate::config) metrics: Field<SocketAddr>,
    pub(in crate::config) state: Field<String>,
    pub(in crate::config) threads: Field<i64>,
    pub(in crate::config) tls: Option<DbTls>,
    pub(in crate::config) postgres: Option<LogicPostgres>,
    pub(in crate::config) resp: Option<LogicResp>,
    pub(in crate::config) http: Option<LogicHttp>,
}

/// `postgres` of `[logic]`
pub(in crate::config) struct LogicPostgres {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) path: String,
    pub(in crate::config) listen: Field<SocketAddr>,
    pub(in crate::config) route: Field<ReadRoute>,
    pub(in crate::config) failover_timeout: Field<Duration>,
    pub(in crate::config) users_file: Field<String>,
}

/// `resp` of `[logic]`
pub(in crate::config) struct LogicResp {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) path: String,
    pub(in crate::config) listen: Field<SocketAddr>,
    pub(in crate::config) tls_listen: Field<SocketAddr>,
    pub(in crate::config) users_file: Field<String>,
    pub(in crate::config) max_clients: Field<i64>,
    pub(in crate::config) idle_timeout: Field<Duration>,
    pub(in crate::config) output_bytes_max: Field<i64>,
}

/// `http` of `[logic]`
pub(in crate::config) struct LogicHttp {
    pub(in crate::config) listen: Field<SocketAddr>,
    pub(in crate::config) tokens_file: Field<String>,
}

/// `[cache]`
pub(in crate::config) struct Cache {
    pub(in crate::config) authority: Field<Authority>,
    pub(in crate::config) sentinels: Field<Sentinels>,
    pub(in crate::config) hash: Field<HashKind>,
    pub(in crate::config) primaries: Field<Vec<CacheServer>>,
    pub(in crate::config) spares: Field<Vec<CacheServer>>,
    pub(in crate::config) writes: Field<WriteMode>,
    pub(in crate::config) during_failover: Field<DuringFailover>,
    pub(in crate::config) lag_max: Field<Duration>,
    pub(in crate::config) failover_timeout: Field<Duration>,
    pub(in crate::config) sync_timeout: Field<Duration>,
    pub(in crate::config) spare_ttl: Field<Duration>,
    pub(in crate::config) spare_database: Field<i64>,
    pub(in crate::config) max_failover_share: Field<f64>,
    pub(in crate::config) silence: Field<Duration>,
    pub(in crate::config) queue: Field<i64>,
    pub(in crate::config) credentials_file: Field<String>,
    pub(in crate::config) server_tls: Field<ServerTls>,
    pub(in crate::config) server_ca: Field<String>,
}

/// `sentinels` of `[cache]`
pub(in crate::config) struct Sentinels {
    pub(in crate::config) master_prefix: Field<String>,
    pub(in crate::config) addresses: Field<Vec<Field<SocketAddr>>>,
}

/// One of `primaries` or `spares` of `[cache]`
pub(in crate::config) struct CacheServer {
    pub(in crate::config) section: Section,
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) address: Field<SocketAddr>,
    /// Primaries only.
    pub(in crate::config) copy: Option<Field<SocketAddr>>,
    pub(in crate::config) weight: Field<i64>,
}

/// `[[database]]`
pub(in crate::config) struct Database {
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) databases: Field<Vec<Field<String>>>,
    pub(in crate::config) servers: Field<Vec<DatabaseServer>>,
    pub(in crate::config) server_tls: Field<ServerTls>,
    pub(in crate::config) server_ca: Field<String>,
}

/// One of `servers` of a database
pub(in crate::config) struct DatabaseServer {
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) address: Field<SocketAddr>,
    pub(in crate::config) shard: Field<i64>,
}

impl Logic {
    pub(super) fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        let tls = table.table("tls", Section::LogicTls, out);
        let postgres = table.table("postgres", Section::LogicPostgres, out);
        let resp = table.table("resp", Section::LogicResp, out);
        let http = table.table("http", Section::LogicHttp, out);
        Self {
            control: table.field("control", out),
            metrics: table.field("metrics", out),
            state: table.field("state", out),
            threads: table.field("threads", out),
            tls: tls.written().map(|table| DbTls::read(table, out)),
            postgres: postgres
                .written()
                .map(|table| LogicPostgres::read(table, out)),
            resp: resp.written().map(|table| LogicResp::read(table, out)),
            http: http.written().map(|table| LogicHttp {
                listen: table.field("listen", out),
                tokens_file: table.field("tokens_file", out),
            }),
        }
    }
}

impl LogicPostgres {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            span: table.span.clone(),
            path: table.path.clone(),
            listen: table.field("listen", out),
            route: table.field("route", out),
            failover_timeout: table.field("failover_timeout", out),
            users_file: table.field("users_file", out),
        }
    }
}

impl LogicResp {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            span: table.span.clone(),
            path: table.path.clone(),
            listen: table.field("listen", out),
            tls_listen: table.field("tls_listen", out),
            users_file: table.field("users_file", out),
            max_clients: table.field("max_clients", out),
            idle_timeout: table.field("idle_timeout", out),
            output_bytes_max: table.field("output_bytes_max", out),
        }
    }
}

impl Cache {
    pub(super) fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        let servers = |name, section, out: &mut Diagnostics<'_>| {
            let tables = table.tables(name, section, out);
            tables.map(|tables| {
                let read = |table| CacheServer::read(table, section, out);
                tables.iter().map(read).collect()
            })
        };
        let sentinels = table.table("sentinels", Section::Sentinels, out);
        Self {
            authority: table.field("authority", out),
            sentinels: sentinels.map(|table| Sentinels {
                master_prefix: table.field("master_prefix", out),
                addresses: table.list("addresses", out),
            }),
            hash: table.field("hash", out),
            primaries: servers("primaries", Section::CachePrimary, out),
            spares: servers("spares", Section::CacheSpare, out),
            writes: table.field("writes", out),
            during_failover: table.field("during_failover", out),
            lag_max: table.field("lag_max", out),
            failover_timeout: table.field("failover_timeout", out),
            sync_timeout: table.field("sync_timeout", out),
            spare_ttl: table.field("spare_ttl", out),
            spare_database: table.field("spare_database", out),
            max_failover_share: table.field("max_failover_share", out),
            silence: table.field("silence", out),
            queue: table.field("queue", out),
            credentials_file: table.field("credentials_file", out),
            server_tls: table.field("server_tls", out),
            server_ca: table.field("server_ca", out),
        }
    }
}

impl CacheServer {
    fn read(table: &Table<'_>, section: Section, out: &mut Diagnostics<'_>) -> Self {
        let has_copy = section == Section::CachePrimary;
        Self {
            section,
            name: table.field("name", out),
            address: table.field("address", out),
            copy: has_copy.then(|| table.field("copy", out)),
            weight: table.field("weight", out),
        }
    }
}

impl Database {
    pub(super) fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        let servers = table.tables("servers", Section::DatabaseServer, out);
        Self {
            name: table.field("name", out),
            databases: table.list("databases", out),
            servers: servers.map(|tables| {
                let read = |table: &Table<'_>| DatabaseServer {
                    name: table.field("name", out),
                    address: table.field("address", out),
                    shard: table.field("shard", out),
                };
                tables.iter().map(read).collect()
            }),
            server_tls: table.field("server_tls", out),
            server_ca: table.field("server_ca", out),
        }
    }
}
