//! `[db_proxy]` as written.

use std::{net::SocketAddr, time::Duration};

use crate::config::{
    ClientAuth, PoolMode, ServerTls,
    error::Diagnostics,
    field::{Field, Table},
    keys::Section,
};

/// `[db_proxy]`
pub(in crate::config) struct DbProxy {
    pub(in crate::config) listen: Field<SocketAddr>,
    pub(in crate::config) server: Field<String>,
    pub(in crate::config) server_port: Field<i64>,
    pub(in crate::config) server_tls: Field<ServerTls>,
    pub(in crate::config) server_ca: Field<String>,
    pub(in crate::config) pool: DbPool,
    pub(in crate::config) auth: Field<ClientAuth>,
    pub(in crate::config) users_file: Field<String>,
    pub(in crate::config) auth_query: Option<AuthQuery>,
    pub(in crate::config) admins: Field<Vec<Field<String>>>,
    pub(in crate::config) links: Field<Vec<Field<String>>>,
    pub(in crate::config) watch: DbWatch,
    pub(in crate::config) state: Field<String>,
    pub(in crate::config) tls: Option<DbTls>,
    pub(in crate::config) control: Field<String>,
    pub(in crate::config) metrics: Field<SocketAddr>,
}

/// `pool` of `[db_proxy]`
pub(in crate::config) struct DbPool {
    pub(in crate::config) mode: Field<PoolMode>,
    pub(in crate::config) size: Field<i64>,
    pub(in crate::config) queue: Field<i64>,
    pub(in crate::config) queue_timeout: Field<Duration>,
    pub(in crate::config) max_clients: Field<i64>,
    pub(in crate::config) keepalive: Field<Duration>,
    pub(in crate::config) idle_timeout: Field<Duration>,
    pub(in crate::config) lifetime: Field<Duration>,
    pub(in crate::config) statements: Field<i64>,
}

/// `watch` of `[db_proxy]`
pub(in crate::config) struct DbWatch {
    pub(in crate::config) user: Field<String>,
    pub(in crate::config) database: Field<String>,
}

/// `auth_query` of `[db_proxy]`
pub(in crate::config) struct AuthQuery {
    pub(in crate::config) user: Field<String>,
    pub(in crate::config) database: Field<String>,
    pub(in crate::config) query: Field<String>,
    pub(in crate::config) keep: Field<Duration>,
    pub(in crate::config) users: Field<i64>,
}

/// `tls` of `[db_proxy]`
pub(in crate::config) struct DbTls {
    pub(in crate::config) certificate: Field<String>,
    pub(in crate::config) key: Field<String>,
}

impl DbProxy {
    pub(super) fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            listen: table.field("listen", out),
            server: table.field("server", out),
            server_port: table.field("server_port", out),
            server_tls: table.field("server_tls", out),
            server_ca: table.field("server_ca", out),
            pool: DbPool::read(table, out),
            auth: table.field("auth", out),
            users_file: table.field("users_file", out),
            auth_query: table
                .table("auth_query", Section::DbAuthQuery, out)
                .written()
                .map(|table| AuthQuery::read(table, out)),
            admins: table.list("admins", out),
            links: table.list("links", out),
            watch: DbWatch::read(table, out),
            state: table.field("state", out),
            tls: table
                .table("tls", Section::DbTls, out)
                .written()
                .map(|table| DbTls::read(table, out)),
            control: table.field("control", out),
            metrics: table.field("metrics", out),
        }
    }
}

impl AuthQuery {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            user: table.field("user", out),
            database: table.field("database", out),
            query: table.field("query", out),
            keep: table.field("keep", out),
            users: table.field("users", out),
        }
    }
}

impl DbTls {
    pub(super) fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            certificate: table.field("certificate", out),
            key: table.field("key", out),
        }
    }
}

impl DbPool {
    fn read(proxy: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        let pool = proxy.table("pool", Section::DbPool, out);
        let absent = Table::absent(pool.key.clone(), pool.span.clone(), Section::DbPool);
        let table = pool.written().unwrap_or(&absent);
        Self {
            mode: table.field("mode", out),
            size: table.field("size", out),
            queue: table.field("queue", out),
            queue_timeout: table.field("queue_timeout", out),
            max_clients: table.field("max_clients", out),
            keepalive: table.field("keepalive", out),
            idle_timeout: table.field("idle_timeout", out),
            lifetime: table.field("lifetime", out),
            statements: table.field("statements", out),
        }
    }
}

impl DbWatch {
    fn read(proxy: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        let watch = proxy.table("watch", Section::DbWatch, out);
        let absent = Table::absent(watch.key.clone(), watch.span.clone(), Section::DbWatch);
        let table = watch.written().unwrap_or(&absent);
        Self {
            user: table.field("user", out),
            database: table.field("database", out),
        }
    }
}
