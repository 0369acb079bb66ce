//! `[cache]`.

use std::{net::SocketAddr, time::Duration};

use super::{
    logic::{path, unique_addresses},
    range, unique_names,
};
use crate::config::{
    Authority, Cache, CachePrimary, CacheSpare, DuringFailover, HashKind, ServerTls, WEIGHT_MAX,
    WriteMode, error::Diagnostics, file, keys::Section,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The most servers of layer one, and of layer two's spares.
const SERVERS_MAX: usize = 1024;
/// The most Sentinels; more than a handful only slows their agreement.
const SENTINELS_MAX: usize = 99;

/// The section by itself.
pub(super) fn cache(written: &file::Cache, out: &mut Diagnostics<'_>) -> Option<Cache> {
    let authority = written.authority.or(Authority::Sentinel);
    let (master_prefix, sentinels) = sentinels(written, authority, out);
    let primaries = primaries(written, out);
    let spares = spares(written, out);
    unique(written, out);
    let server_tls = server_tls(written, out);
    let writes = written.writes.or(WriteMode::Async);
    let primaries = primaries?;
    if writes == WriteMode::Sync
        && let Some(bare) = primaries.iter().find(|primary| primary.copy.is_none())
    {
        let wrong = format!("is \"sync\", and {} has no copy", bare.name);
        let right = "give each of primaries a copy, or write \"async\"";
        written.writes.refuse(out, wrong, right);
    }
    Some(Cache {
        authority,
        sentinels,
        master_prefix,
        hash: written.hash.or(HashKind::Maglev),
        primaries,
        spares: spares?,
        writes,
        during_failover: written.during_failover.or(DuringFailover::Serve),
        lag_max: range::duration(&written.lag_max, 10 * SECOND, MS..=HOUR, out),
        failover_timeout: range::duration(&written.failover_timeout, 10 * SECOND, MS..=HOUR, out),
        sync_timeout: range::duration(&written.sync_timeout, SECOND, MS..=HOUR, out),
        spare_ttl: range::duration(&written.spare_ttl, 60 * SECOND, SECOND..=DAY, out),
        spare_database: range::number(&written.spare_database, 15, 2..=1_000_000, out),
        max_failover_share: share(written, out),
        silence: range::duration(&written.silence, 25 * MS, MS..=10 * SECOND, out),
        queue: range::number(&written.queue, 100_000_u32, 1..=10_000_000, out) as usize,
        credentials_file: path(&written.credentials_file, out),
        server_tls,
        server_ca: path(&written.server_ca, out),
    })
}

fn sentinels(
    written: &file::Cache,
    authority: Authority,
    out: &mut Diagnostics<'_>,
) -> (String, Vec<SocketAddr>) {
    let Some(table) = written.sentinels.written() else {
        if authority == Authority::Sentinel && written.sentinels.is_absent() {
            let right =
                "write sentinels = { addresses = [\"10.0.4.11:26379\"] }, or authority = \"local\"";
            written.sentinels.refuse(out, "is missing", right);
        }
        return (String::new(), Vec::new());
    };
    let addresses = table.addresses.required(Section::Sentinels, out);
    let addresses: Vec<_> = addresses
        .into_iter()
        .flatten()
        .filter_map(|address| address.written().copied())
        .collect();
    if table.addresses.written().is_some() && !(1..=SENTINELS_MAX).contains(&addresses.len()) {
        let wrong = format!("names {} Sentinels", addresses.len());
        let right = format!("name 1 to {SENTINELS_MAX}");
        table.addresses.refuse(out, wrong, right);
    }
    unique_addresses(table.addresses.written().into_iter().flatten(), out);
    (table.master_prefix.or(String::new()), addresses)
}

fn primaries(written: &file::Cache, out: &mut Diagnostics<'_>) -> Option<Vec<CachePrimary>> {
    let servers = written.primaries.required(Section::Cache, out)?;
    let primaries: Option<Vec<_>> = servers
        .iter()
        .map(|server| {
            let (name, address, weight) = common(server, out);
            let copy = server.copy.as_ref();
            Some(CachePrimary {
                name: name?,
                address: address?,
                copy: copy.and_then(|copy| copy.written().copied()),
                weight,
            })
        })
        .collect();
    let is_served = |primaries: &Vec<CachePrimary>| primaries.iter().any(|p| p.weight > 0);
    if primaries.as_ref().is_some_and(|all| !is_served(all)) {
        let right = "name at least one server with a weight above 0";
        written.primaries.refuse(out, "takes no keys", right);
    }
    if servers.len() > SERVERS_MAX {
        let wrong = format!("names {} servers", servers.len());
        let right = format!("at most {SERVERS_MAX} fit");
        written.primaries.refuse(out, wrong, right);
    }
    primaries
}

fn spares(written: &file::Cache, out: &mut Diagnostics<'_>) -> Option<Vec<CacheSpare>> {
    let servers = written.spares.written().into_iter().flatten();
    if servers.clone().count() > SERVERS_MAX {
        let right = format!("at most {SERVERS_MAX} fit");
        written.spares.refuse(out, "names too many servers", right);
    }
    servers
        .map(|server| {
            let (name, address, weight) = common(server, out);
            Some(CacheSpare {
                name: name?,
                address: address?,
                weight,
            })
        })
        .collect()
}

fn common(
    server: &file::CacheServer,
    out: &mut Diagnostics<'_>,
) -> (Option<String>, Option<SocketAddr>, u32) {
    let name = range::required_name(&server.name, server.section, out);
    let address = server.address.required(server.section, out).copied();
    let weight = range::number(&server.weight, 100, 0..=WEIGHT_MAX, out);
    (name, address, weight)
}

/// Names and addresses once in the whole section: a copy that is also a primary would answer twice.
fn unique(written: &file::Cache, out: &mut Diagnostics<'_>) {
    let all = || {
        let primaries = written.primaries.written().into_iter().flatten();
        primaries.chain(written.spares.written().into_iter().flatten())
    };
    unique_names("server of [cache]", all().map(|server| &server.name), out);
    let copies = all().filter_map(|server| server.copy.as_ref());
    unique_addresses(all().map(|server| &server.address).chain(copies), out);
}

fn server_tls(written: &file::Cache, out: &mut Diagnostics<'_>) -> ServerTls {
    let tls = written.server_tls.or(ServerTls::Disable);
    if tls == ServerTls::Prefer {
        let wrong = "is \"prefer\", and Redis does not negotiate TLS";
        let right = "write \"disable\", \"require\" or \"verify-full\"";
        written.server_tls.refuse(out, wrong, right);
    }
    if tls == ServerTls::VerifyFull && written.server_ca.is_absent() {
        let right = "name the PEM file of the certificates that vouch for the servers: server_ca";
        written.server_tls.refuse(out, "is \"verify-full\"", right);
    }
    tls
}

fn share(written: &file::Cache, out: &mut Diagnostics<'_>) -> f64 {
    let share = written.max_failover_share.or(0.5);
    if !(0.0..=1.0).contains(&share) {
        let wrong = format!("is {share}");
        let right = "write a number from 0 to 1";
        written.max_failover_share.refuse(out, wrong, right);
    }
    share
}
