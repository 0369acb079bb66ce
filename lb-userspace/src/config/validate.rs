//! Whether a file makes sense: values in their ranges, and nothing against anything else. Makes the
//! [`Config`] when it does. One file per section below; what concerns several sections is here.

use std::path::Path;

use super::{
    BACKENDS_MAX, Cache, Config, Database, DbProxy, LogicConfig, POOLS_MAX, Parts, SERVICES_MAX,
    Service,
    error::Diagnostics,
    field::Field,
    file,
    keys::Section,
    suggest::{nearest, shown},
};

mod address;
mod agent;
mod backend;
mod cache;
mod check;
mod db_proxy;
mod logic;
mod pool;
mod range;
mod service;

/// Checks the whole file for the gateway's agent. `None`, and also a value, may come with reports:
/// the caller looks.
pub(super) fn config(
    file: &file::File,
    source: &Path,
    out: &mut Diagnostics<'_>,
) -> Option<Config> {
    others(file, out);
    gateway(file, source, out)
}

fn gateway(file: &file::File, source: &Path, out: &mut Diagnostics<'_>) -> Option<Config> {
    let agent = agent(file, out);
    let pools: Vec<_> = file
        .pools
        .iter()
        .map(|pool| pool::pool(pool, out))
        .collect();
    let services: Vec<_> = file
        .services
        .iter()
        .map(|s| service::service(s, out))
        .collect();
    unique_names("pool", file.pools.iter().map(|pool| &pool.name), out);
    unique_names(
        "service",
        file.services.iter().map(|service| &service.name),
        out,
    );
    service::unique_keys(&file.services, out);
    service::one_pool_for_fragments(&file.services, out);
    limits(file, out);
    for service in &file.services {
        pool_of(service, file, out);
    }
    address::no_backend_is_a_vip(file, out);
    if let Some(agent) = &agent {
        address::no_backend_is_a_tunnel_source(file, agent, out);
    }
    let db_proxy = file
        .db_proxy
        .as_ref()
        .map(|written| db_proxy::db_proxy(written, out));
    Some(Config {
        db_proxy: match db_proxy {
            Some(db_proxy) => Some(db_proxy?),
            None => None,
        },
        source: source.to_owned(),
        agent: agent?,
        pools: pools.into_iter().collect::<Option<_>>()?,
        services: services.into_iter().collect::<Option<Vec<Service>>>()?,
        unread: file.unread.clone(),
    })
}

/// Checks the file for the database proxy: what is for other daemons must be right as well, but
/// need not be there.
pub(super) fn db_proxy_alone(
    file: &file::File,
    source: &Path,
    out: &mut Diagnostics<'_>,
) -> Option<DbProxy> {
    let Some(written) = &file.db_proxy else {
        let right = "write [db_proxy] with listen and server";
        out.refuse(&(0..0), "db_proxy", "is missing", right);
        return None;
    };
    others(file, out);
    if has_gateway(file) {
        return gateway(file, source, out)?.db_proxy;
    }
    db_proxy::db_proxy(written, out)
}

/// Checks the file for `lb logic`, the same way.
pub(super) fn logic_alone(
    file: &file::File,
    source: &Path,
    out: &mut Diagnostics<'_>,
) -> Option<LogicConfig> {
    if file.logic.is_none() {
        let right = "write [logic] with resp, postgres or http";
        out.refuse(&(0..0), "logic", "is missing", right);
    }
    parts(file, source, out)?.logic
}

/// Checks the file, whatever daemons it is for.
pub(super) fn parts(file: &file::File, source: &Path, out: &mut Diagnostics<'_>) -> Option<Parts> {
    let behind = behind_logic(file, out);
    let logic = file.logic.as_ref().map(|written| {
        let (cache, databases) = behind.clone()?;
        Some(LogicConfig {
            source: source.to_owned(),
            logic: logic::logic(written, file, out)?,
            cache,
            databases,
        })
    });
    // A file for nobody is meant for the gateway, and says what that lacks.
    let is_for_others = file.logic.is_some()
        || file.db_proxy.is_some()
        || file.has_cache
        || !file.databases.is_empty();
    let gateway = (has_gateway(file) || !is_for_others).then(|| gateway(file, source, out));
    let db_proxy = match (&gateway, &file.db_proxy) {
        (Some(gateway), _) => gateway.as_ref()?.db_proxy.clone(),
        (None, Some(written)) => Some(db_proxy::db_proxy(written, out)?),
        (None, None) => None,
    };
    Some(Parts {
        gateway: all_or_nothing(gateway)?,
        db_proxy,
        logic: all_or_nothing(logic)?,
        databases: file.databases.len(),
        cache: behind?.0,
        unread: file.unread.clone(),
        source: source.to_owned(),
    })
}

/// What is for `lb logic` must be right, also for others who read the file.
fn others(file: &file::File, out: &mut Diagnostics<'_>) {
    behind_logic(file, out);
    if let Some(written) = &file.logic {
        logic::logic(written, file, out);
    }
}

/// What may be absent must be good where it is there.
fn all_or_nothing<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        Some(part) => part.map(Some),
        None => Some(None),
    }
}

/// `[cache]` and `[[database]]`, also where nobody on this host reads them.
fn behind_logic(
    file: &file::File,
    out: &mut Diagnostics<'_>,
) -> Option<(Option<Cache>, Vec<Database>)> {
    let databases = logic::databases(&file.databases, out);
    let cache = file
        .cache
        .as_ref()
        .map(|written| cache::cache(written, out));
    Some((all_or_nothing(cache)?, databases?))
}

fn has_gateway(file: &file::File) -> bool {
    file.has_agent || file.pools_refused || !file.pools.is_empty() || !file.services.is_empty()
}

fn agent(file: &file::File, out: &mut Diagnostics<'_>) -> Option<super::Agent> {
    if !file.has_agent {
        out.refuse(
            &(0..0),
            "agent",
            "is missing",
            "write [agent] with interfaces = [\"eth0\"]",
        );
    }
    file.agent
        .as_ref()
        .and_then(|agent| agent::agent(agent, out))
}

/// Reports every name that one before it has already.
fn unique_names<'f>(
    what: &str,
    names: impl Iterator<Item = &'f Field<String>>,
    out: &mut Diagnostics<'_>,
) {
    let mut seen = std::collections::HashSet::new();
    for field in names {
        if let Some(name) = field.written()
            && !seen.insert(name)
        {
            let wrong = format!("another {what} is named {} already", shown(name));
            field.refuse(out, wrong, format!("give each {what} a name of its own"));
        }
    }
}

fn limits(file: &file::File, out: &mut Diagnostics<'_>) {
    if let Some(pool) = file.pools.get(POOLS_MAX) {
        let wrong = format!("is one of {} pools", file.pools.len());
        let right = format!("at most {POOLS_MAX} fit; let services share pools");
        out.refuse(&pool.name.span, pool.path.as_str(), wrong, right);
    }
    if let Some(service) = file.services.get(SERVICES_MAX) {
        let wrong = format!("is one of {} services", file.services.len());
        let right = format!("at most {SERVICES_MAX} fit; port = \"any\" covers all ports of a VIP");
        out.refuse(&service.span, service.path.as_str(), wrong, right);
    }
    let entries = service::entries(&file.services);
    if entries > lb_common::maps::SERVICES_MAX as usize
        && let Some(service) = file.services.last()
    {
        let wrong = format!("with it the services need {entries} entries in the data plane");
        let right = format!(
            "at most {} fit: one a service, one a VIP, and one a VIP with fragments",
            lb_common::maps::SERVICES_MAX
        );
        out.refuse(&service.span, service.path.as_str(), wrong, right);
    }
    let backends = || {
        file.pools
            .iter()
            .filter_map(|pool| pool.backends.written())
            .flatten()
    };
    if let Some(backend) = backends().nth(BACKENDS_MAX) {
        let wrong = format!("is one of {} backends", backends().count());
        let right = format!("at most {BACKENDS_MAX} fit, all pools together");
        out.refuse(&backend.span, backend.path.as_str(), wrong, right);
    }
}

/// A service needs a pool that there is, and whose backends answer on the service's port.
fn pool_of(service: &file::Service, file: &file::File, out: &mut Diagnostics<'_>) {
    let Some(name) = service.pool.required(Section::Service, out) else {
        return;
    };
    let Some(pool) = file
        .pools
        .iter()
        .find(|pool| pool.name.written() == Some(name))
    else {
        // A pool whose own name was refused may be the one that is meant.
        if !file.pools_refused && !file.pools.iter().any(|pool| pool.name.written().is_none()) {
            let names = file.pools.iter().filter_map(|pool| pool.name.written());
            let right = match nearest(name, names.map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "name one of the [[pool]] sections".to_owned(),
            };
            service
                .pool
                .refuse(out, format!("there is no pool {}", shown(name)), right);
        }
        return;
    };
    let Some(port) = service.port.written() else {
        return;
    };
    for backend in pool.backends.written().into_iter().flatten() {
        backend::port_is_the_services(backend, service, *port, out);
    }
}
