//! The tables of services and of pools with their backends.

use jiff::Timestamp;

use super::super::table::{Cell, Side, Table};
use super::super::units::{ago, percent, si, si_count, until_then};
use super::{ALARM, HEADING, UNSETTLED, state_style};
use crate::control::{BackendStatus, InstabilityStatus, PoolStatus, ServiceStatus, Status};

pub(super) fn services(status: &Status) -> String {
    let mut table = Table::new([
        ("SERVICE", Side::Left),
        ("VIP", Side::Left),
        ("POOL", Side::Left),
        ("PKT/S", Side::Right),
        ("NEW/S", Side::Right),
        ("ON THIS HOST", Side::Left),
    ]);
    for service in &status.services {
        let vip_state = service.vip_state.as_str();
        table.row([
            service.name.as_str().into(),
            vip(service).into(),
            service.pool.as_str().into(),
            si(service.rate.packets_per_second).into(),
            new_flows(service).into(),
            if vip_state == "missing" {
                Cell::styled(vip_state, ALARM)
            } else {
                vip_state.into()
            },
        ]);
    }
    table.render()
}

/// `198.51.100.10:5432/tcp`, `[2001:db8::10]:any/udp`.
fn vip(service: &ServiceStatus) -> String {
    let port = service
        .port
        .map_or_else(|| "any".to_owned(), |port| port.to_string());
    let protocol = &service.protocol;
    if service.vip.is_ipv6() {
        format!("[{}]:{port}/{protocol}", service.vip)
    } else {
        format!("{}:{port}/{protocol}", service.vip)
    }
}

/// Only TCP has a first packet to count.
fn new_flows(service: &ServiceStatus) -> String {
    if service.protocol == "tcp" {
        si(service.rate.new_flows_per_second)
    } else {
        "-".to_owned()
    }
}

pub(super) fn pools(status: &Status, now: Timestamp) -> String {
    let pools: Vec<_> = status.pools.iter().map(|each| pool(each, now)).collect();
    pools.join("\n")
}

fn pool(pool: &PoolStatus, now: Timestamp) -> String {
    let head = format!(
        "{HEADING}pool {}{HEADING:#}: {}, {} slots, spill {}, on empty {}, {}\n",
        pool.name,
        pool.forward,
        pool.slots,
        pool.spill,
        pool.on_empty,
        pool.check
            .as_ref()
            .map_or_else(|| "no check".to_owned(), |check| format!("{check} check")),
    );
    let unstable = pool
        .unstable
        .as_ref()
        .map_or_else(String::new, |it| instability(it, now));
    head + &unstable + &backends(&pool.backends, now)
}

/// Backends that are there only for the flows that they have.
pub(super) fn removed(status: &Status, now: Timestamp) -> String {
    if status.removed.is_empty() {
        return String::new();
    }
    let head = format!(
        "{HEADING}removed{HEADING:#}: out of the configuration, there for the flows they have\n"
    );
    head + &backends(&status.removed, now)
}

/// Why flows are looked up, since when, and when that ends.
fn instability(it: &InstabilityStatus, now: Timestamp) -> String {
    let for_ = it
        .since
        .as_ref()
        .map_or_else(String::new, |since| format!(" for {}", ago(since, now)));
    let changed = match it.slots_changed {
        0 => String::new(),
        slots => format!(" ({} with another owner)", si_count(slots.into())),
    };
    let end = match &it.until {
        Some(until) if it.needed == 0 => format!("over in {}", until_then(until, now)),
        Some(until) => format!("over in {} and with those flows", until_then(until, now)),
        None => "no end of its own".to_owned(),
    };
    format!(
        "  {UNSETTLED}unstable{UNSETTLED:#}{for_}: {}\n  {} slots{changed}, {} flows on record, {} of \
         them needed; {end}\n",
        it.causes.join(", "),
        si_count(it.slots.into()),
        si_count(it.recorded),
        si_count(it.needed),
    )
}

fn backends(backends: &[BackendStatus], now: Timestamp) -> String {
    let mut table = Table::new([
        ("BACKEND", Side::Left),
        ("ROLE", Side::Left),
        ("ADDRESS", Side::Left),
        ("STATE", Side::Left),
        ("SINCE", Side::Right),
        ("WEIGHT", Side::Right),
        ("SHARE", Side::Right),
        ("PKT/S", Side::Right),
        ("NEW/S", Side::Right),
        ("WHY", Side::Left),
    ]);
    for backend in backends {
        table.row([
            backend.name.as_str().into(),
            backend.role.as_str().into(),
            backend.address.to_string().into(),
            Cell::styled(backend.state.as_str(), state_style(&backend.state)),
            ago(&backend.since, now).into(),
            weight(backend).into(),
            percent(backend.share).into(),
            si(backend.rate.packets_per_second).into(),
            si(backend.rate.new_flows_per_second).into(),
            backend.reason.as_str().into(),
        ]);
    }
    table.render()
}

/// `50 (100)`: the weight in force and, where the operator changed it, the configured one.
fn weight(backend: &BackendStatus) -> String {
    if backend.weight == backend.weight_configured {
        backend.weight.to_string()
    } else {
        format!("{} ({})", backend.weight, backend.weight_configured)
    }
}
