//! The tables of services and of pools with their backends.

use jiff::Timestamp;

use super::super::table::{Cell, Side, Table};
use super::super::units::{ago, percent, si};
use super::{ALARM, HEADING, state_style};
use crate::control::{BackendStatus, PoolStatus, ServiceStatus, Status};

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
    for backend in &pool.backends {
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
    head + &table.render()
}

/// `50 (100)`: the weight in force and, where the operator changed it, the configured one.
fn weight(backend: &BackendStatus) -> String {
    if backend.weight == backend.weight_configured {
        backend.weight.to_string()
    } else {
        format!("{} ({})", backend.weight, backend.weight_configured)
    }
}
