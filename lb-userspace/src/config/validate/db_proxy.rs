//! `[db_proxy]`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::range;
use crate::config::{
    AuthQuery, ClientAuth, DbPool, DbProxy, DbServer, DbTls, DbWatch, PoolMode, ServerTls,
    error::Diagnostics, field::Field, file, keys::Section, suggest::shown,
};

const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6432);
const SERVER_DEFAULT: &str = "/var/run/postgresql";
const SERVER_PORT_DEFAULT: u16 = 5432;
/// The most bytes of the path of a Unix socket, its name included.
const SOCKET_BYTES_MAX: usize = range::SOCKET_BYTES_MAX;
/// A password that is not valid any more is none.
const AUTH_QUERY_DEFAULT: &str = "SELECT usename, CASE WHEN valuntil < pg_catalog.now() THEN NULL \
     ELSE passwd END FROM pg_catalog.pg_shadow WHERE usename = $1";
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The section by itself.
pub(super) fn db_proxy(file: &file::DbProxy, out: &mut Diagnostics<'_>) -> Option<DbProxy> {
    let server = server(file, out);
    let server_tls = file.server_tls.or(ServerTls::Disable);
    let server_ca = path(&file.server_ca, out);
    if server_tls == ServerTls::VerifyFull && file.server_ca.is_absent() {
        let right = "name the PEM file of the certificates that vouch for the server: server_ca";
        file.server_tls.refuse(out, "is \"verify-full\"", right);
    }
    if server_tls != ServerTls::Disable && matches!(server, Some(DbServer::Unix(_))) {
        let right = "leave it out: a Unix socket does not leave this host";
        file.server_tls
            .refuse(out, "is set, and server is a Unix socket", right);
    }
    let auth = file.auth.or(ClientAuth::Password);
    if auth == ClientAuth::Trust && file.auth_query.is_some() {
        let right = "leave out auth_query: nobody's password is looked at";
        file.auth
            .refuse(out, "is \"trust\", and there is auth_query", right);
    }
    let tls = file
        .tls
        .as_ref()
        .map(|written| tls(written, Section::DbTls, out));
    Some(DbProxy {
        listen: file.listen.or(LISTEN_DEFAULT),
        server: server?,
        server_tls,
        server_ca,
        pool: pool(&file.pool, out),
        auth,
        users_file: path(&file.users_file, out),
        auth_query: file.auth_query.as_ref().map(|file| auth_query(file, out)),
        admins: names(&file.admins).unwrap_or_default(),
        links: names(&file.links).unwrap_or_else(|| vec!["lb".to_owned()]),
        watch: DbWatch {
            user: file.watch.user.or("postgres".to_owned()),
            database: file.watch.database.or("postgres".to_owned()),
        },
        state: range::directory(&file.state, "/var/lib/lb", out),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        control: range::socket(&file.control, "/run/lb/db-proxy.sock", out),
        metrics: file.metrics.written().copied(),
    })
}

fn server(file: &file::DbProxy, out: &mut Diagnostics<'_>) -> Option<DbServer> {
    let port = range::number(&file.server_port, SERVER_PORT_DEFAULT, 1..=u16::MAX, out);
    let server = file.server.or(SERVER_DEFAULT.to_owned());
    if server.starts_with('/') {
        let socket = format!(".s.PGSQL.{port}");
        let directory = SOCKET_BYTES_MAX - socket.len() - 1;
        let path = range::path(&file.server, SERVER_DEFAULT, directory, out);
        return Some(DbServer::Unix(path.join(socket)));
    }
    // As design has it: the port may stand behind the host.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, behind)) if !host.contains(':') || host.starts_with('[') => {
            match behind.parse::<u16>() {
                Ok(behind) if file.server_port.is_absent() && behind > 0 => (host, behind),
                Ok(_) if !file.server_port.is_absent() => {
                    let right = "write the port once: leave it out of server";
                    file.server
                        .refuse(out, "has a port, and so has server_port", right);
                    return None;
                }
                _ => {
                    let wrong = format!("{} has no port behind its ':'", shown(&server));
                    file.server.refuse(out, wrong, "write host:port");
                    return None;
                }
            }
        }
        _ => (server.as_str(), port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(is_host) {
        let right = "write an absolute directory, or a host's name or address";
        file.server
            .refuse(out, format!("{} is no host", shown(host)), right);
        return None;
    }
    Some(DbServer::Tcp(host.to_owned(), port))
}

fn path(field: &Field<String>, out: &mut Diagnostics<'_>) -> Option<PathBuf> {
    field.written()?;
    Some(range::directory(field, "/etc/lb", out))
}

/// A certificate and its key; `section` is the one that the table has in the documentation.
pub(super) fn tls(
    file: &file::DbTls,
    section: Section,
    out: &mut Diagnostics<'_>,
) -> Option<DbTls> {
    let mut required = |field: &Field<String>| {
        field.required(section, out)?;
        path(field, out)
    };
    let (certificate, key) = (required(&file.certificate), required(&file.key));
    Some(DbTls {
        certificate: certificate?,
        key: key?,
    })
}

fn pool(file: &file::DbPool, out: &mut Diagnostics<'_>) -> DbPool {
    let ms = Duration::from_millis(1)..=HOUR;
    let seconds = Duration::from_secs(1)..=HOUR;
    let idle = Duration::from_secs(1)..=DAY;
    let lifetime = Duration::ZERO..=DAY;
    DbPool {
        mode: file.mode.or(PoolMode::Transaction),
        size: range::number(&file.size, 20u32, 1..=10_000, out) as usize,
        queue: range::number(&file.queue, 1000u32, 0..=1_000_000, out) as usize,
        queue_timeout: range::duration(&file.queue_timeout, Duration::from_secs(5), ms, out),
        max_clients: range::number(&file.max_clients, 10_000u32, 1..=1_000_000, out) as usize,
        keepalive: range::duration(&file.keepalive, Duration::from_secs(30), seconds, out),
        idle_timeout: range::duration(&file.idle_timeout, Duration::from_secs(600), idle, out),
        lifetime: range::duration(&file.lifetime, HOUR, lifetime, out),
        statements: range::number(&file.statements, 200u32, 1..=100_000, out) as usize,
    }
}

fn auth_query(file: &file::AuthQuery, out: &mut Diagnostics<'_>) -> AuthQuery {
    let keep = Duration::from_millis(1)..=HOUR;
    AuthQuery {
        user: file.user.or("postgres".to_owned()),
        database: file.database.or("postgres".to_owned()),
        query: file.query.or(AUTH_QUERY_DEFAULT.to_owned()),
        keep: range::duration(&file.keep, Duration::from_secs(30), keep, out),
        users: range::number(&file.users, 10_000u32, 1..=1_000_000, out) as usize,
    }
}

fn names(field: &Field<Vec<Field<String>>>) -> Option<Vec<String>> {
    let names = field.written()?.iter();
    Some(names.filter_map(|name| name.written().cloned()).collect())
}
