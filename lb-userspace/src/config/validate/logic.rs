//! `[logic]` and `[[database]]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{db_proxy, range, unique_names};
use crate::config::{
    Database, DatabaseServer, Logic, LogicHttp, LogicPostgres, LogicResp, ReadRoute, ServerTls,
    error::Diagnostics, field::Field, file, keys::Section, suggest::shown,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most threads that serve.
const THREADS_MAX: u32 = 1024;

/// The section; what its listeners need of the others is looked for in `file`.
pub(super) fn logic(
    written: &file::Logic,
    file: &file::File,
    out: &mut Diagnostics<'_>,
) -> Option<Logic> {
    let control = range::socket(&written.control, "/run/lb/logic.sock", out);
    let state = range::directory(&written.state, "/var/lib/lb", out);
    let threads = written.threads.written().is_some();
    let threads =
        threads.then(|| range::number(&written.threads, 1, 1..=THREADS_MAX, out) as usize);
    let tls = match &written.tls {
        Some(tls) => Some(db_proxy::tls(tls, Section::LogicTls, out)?),
        None => None,
    };
    if let Some(postgres) = &written.postgres
        && file.databases.is_empty()
    {
        let right = "write [[database]] with name and servers";
        out.refuse(
            &postgres.span,
            postgres.path.as_str(),
            "has no database",
            right,
        );
    }
    if let Some(resp) = &written.resp
        && !file.has_cache
    {
        let right = "write [cache] with primaries";
        out.refuse(&resp.span, resp.path.as_str(), "has no cache", right);
    }
    Some(Logic {
        control,
        metrics: written.metrics.written().copied(),
        state,
        threads,
        postgres: written
            .postgres
            .as_ref()
            .map(|written| postgres(written, out)),
        resp: written
            .resp
            .as_ref()
            .map(|written| resp(written, tls.is_some(), out)),
        http: written.http.as_ref().map(|written| http(written, out)),
        tls,
    })
}

const fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

fn postgres(written: &file::LogicPostgres, out: &mut Diagnostics<'_>) -> LogicPostgres {
    let timeout = Duration::from_millis(1)..=HOUR;
    LogicPostgres {
        listen: written.listen.or(anywhere(5432)),
        route: written.route.or(ReadRoute::Split),
        failover_timeout: range::duration(&written.failover_timeout, 10 * SECOND, timeout, out),
        users_file: path(&written.users_file, out),
    }
}

fn resp(written: &file::LogicResp, has_tls: bool, out: &mut Diagnostics<'_>) -> LogicResp {
    if !has_tls && written.tls_listen.written().is_some() {
        let right = "write tls = { certificate = …, key = … } in [logic]";
        written
            .tls_listen
            .refuse(out, "has no certificate to show", right);
    }
    let idle = written.idle_timeout.written().is_some();
    let idle = idle.then(|| range::duration(&written.idle_timeout, HOUR, SECOND..=WEEK, out));
    let output = range::number(
        &written.output_bytes_max,
        256_u64 << 20,
        1 << 16..=16 << 30,
        out,
    );
    LogicResp {
        listen: written.listen.or(anywhere(6379)),
        tls_listen: written.tls_listen.written().copied(),
        users_file: path(&written.users_file, out),
        max_clients: range::number(&written.max_clients, 20_000_u32, 1..=1_000_000, out) as usize,
        idle_timeout: idle,
        output_bytes_max: output as usize,
    }
}

fn http(written: &file::LogicHttp, out: &mut Diagnostics<'_>) -> LogicHttp {
    LogicHttp {
        listen: written.listen.or(anywhere(8080)),
        tokens_file: path(&written.tokens_file, out),
    }
}

/// A path that may be left out.
pub(super) fn path(field: &Field<String>, out: &mut Diagnostics<'_>) -> Option<PathBuf> {
    field.written()?;
    Some(range::directory(field, "/etc/lb", out))
}

/// The databases by themselves and against each other.
pub(super) fn databases(
    written: &[file::Database],
    out: &mut Diagnostics<'_>,
) -> Option<Vec<Database>> {
    unique_names(
        "database",
        written.iter().map(|database| &database.name),
        out,
    );
    let databases: Vec<_> = written
        .iter()
        .map(|written| database(written, out))
        .collect();
    served_once(written, out);
    databases.into_iter().collect()
}

fn database(written: &file::Database, out: &mut Diagnostics<'_>) -> Option<Database> {
    let name = range::required_name(&written.name, Section::Database, out);
    let servers = written.servers.required(Section::Database, out)?;
    if servers.is_empty() {
        let right = "write servers = [{ name = \"db-1\", address = \"10.0.2.11:6432\" }]";
        written.servers.refuse(out, "is empty", right);
    }
    unique_names("server", servers.iter().map(|server| &server.name), out);
    unique_addresses(servers.iter().map(|server| &server.address), out);
    let servers: Vec<_> = servers.iter().map(|written| server(written, out)).collect();
    let names = written.databases.written();
    let databases = match names {
        None => vec!["*".to_owned()],
        Some(names) => names.iter().filter_map(|n| n.written().cloned()).collect(),
    };
    Some(Database {
        name: name?,
        databases,
        servers: servers.into_iter().collect::<Option<_>>()?,
        server_tls: server_tls(written, out),
        server_ca: path(&written.server_ca, out),
    })
}

fn server_tls(written: &file::Database, out: &mut Diagnostics<'_>) -> ServerTls {
    let tls = written.server_tls.or(ServerTls::Disable);
    if tls == ServerTls::VerifyFull && written.server_ca.is_absent() {
        let right = "name the PEM file of the certificates that vouch for the servers: server_ca";
        written.server_tls.refuse(out, "is \"verify-full\"", right);
    }
    tls
}

fn server(written: &file::DatabaseServer, out: &mut Diagnostics<'_>) -> Option<DatabaseServer> {
    let name = range::required_name(&written.name, Section::DatabaseServer, out);
    let address = written.address.required(Section::DatabaseServer, out);
    Some(DatabaseServer {
        name: name?,
        address: *address?,
        shard: range::number(&written.shard, 0_u32, 0..=65_535, out),
    })
}

/// No database name may lead to two clusters.
fn served_once(written: &[file::Database], out: &mut Diagnostics<'_>) {
    let mut seen = std::collections::HashSet::new();
    for database in written {
        let names: Vec<_> = match database.databases.written() {
            // Left out is `*`; its place is then the section itself.
            None if database.databases.is_absent() => vec![("*", &database.databases.span)],
            None => Vec::new(),
            Some(names) => {
                let names = names.iter();
                let named = |name: &'_ Field<String>| name.written().is_some();
                names
                    .filter(|name| named(name))
                    .map(|name| (name.written().map_or("", String::as_str), &name.span))
                    .collect()
            }
        };
        for (name, span) in names {
            if !seen.insert(name.to_owned()) {
                let wrong = format!("another [[database]] serves {} already", shown(name));
                let right = "name each database once, `*` included";
                out.refuse(span, database.databases.key.as_str(), wrong, right);
            }
        }
    }
}

/// Reports every address that one before it has already.
pub(super) fn unique_addresses<'f>(
    fields: impl Iterator<Item = &'f Field<SocketAddr>>,
    out: &mut Diagnostics<'_>,
) {
    let mut seen = std::collections::HashSet::new();
    for field in fields {
        if let Some(address) = field.written()
            && !seen.insert(address)
        {
            let wrong = format!("another server is at {address} already");
            field.refuse(out, wrong, "give each server an address of its own");
        }
    }
}
