//! `[[service]]`.

use std::{collections::HashMap, net::IpAddr};

use super::{address, range};
use crate::config::{Port, Protocol, Service, error::Diagnostics, file, keys::Section};

/// One service by itself; whether there is such a pool is looked up by the caller.
pub(super) fn service(file: &file::Service, out: &mut Diagnostics<'_>) -> Option<Service> {
    let name = range::required_name(&file.name, Section::Service, out);
    let vip = file.vip.required(Section::Service, out).copied();
    address::must_be_unicast(&file.vip, out);
    let port = file.port.required(Section::Service, out).copied();
    Some(Service {
        name: name?,
        vip: vip?,
        port: port?,
        protocol: file.protocol.or(Protocol::Tcp),
        pool: file.pool.written()?.clone(),
    })
}

/// One packet can be for one service only. ("any" beside a number is fine: the number is nearer.)
pub(super) fn unique_keys(services: &[file::Service], out: &mut Diagnostics<'_>) {
    let mut seen: HashMap<(IpAddr, Port, Protocol), &str> = HashMap::new();
    for service in services {
        let (Some(&vip), Some(&port)) = (service.vip.written(), service.port.written()) else {
            continue;
        };
        if service.protocol.is_refused() {
            continue;
        }
        let protocol = service.protocol.or(Protocol::Tcp);
        if let Some(first) = seen.get(&(vip, port, protocol)) {
            let wrong = format!("{first} has {vip}, port {port}, {protocol} already");
            let right = "give each service a VIP, port or protocol of its own";
            out.refuse(&service.span, service.path.as_str(), wrong, right);
            continue;
        }
        seen.insert((vip, port, protocol), &service.path);
    }
}
