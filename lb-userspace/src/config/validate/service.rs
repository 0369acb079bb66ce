//! `[[service]]`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::{address, range};
use crate::config::{
    MSS_MAX, MSS_MIN, Port, Protocol, Service, UdpFlows, error::Diagnostics, file, keys::Section,
    suggest::shown,
};

/// One service by itself; whether there is such a pool is looked up by the caller.
pub(super) fn service(file: &file::Service, out: &mut Diagnostics<'_>) -> Option<Service> {
    let name = range::required_name(&file.name, Section::Service, out);
    let vip = file.vip.required(Section::Service, out).copied();
    address::must_be_unicast(&file.vip, out);
    keys_of_the_other_protocol(file, out);
    let port = file.port.required(Section::Service, out).copied();
    Some(Service {
        name: name?,
        vip: vip?,
        port: port?,
        protocol: file.protocol.or(Protocol::Tcp),
        pool: file.pool.written()?.clone(),
        fragments: file.fragments.or(false),
        mss: file
            .mss
            .written()
            .map(|_| range::number(&file.mss, MSS_MIN, MSS_MIN..=MSS_MAX, out)),
        udp: file.udp.or(UdpFlows::Plain),
    })
}

/// Some keys are about one protocol only.
fn keys_of_the_other_protocol(file: &file::Service, out: &mut Diagnostics<'_>) {
    if file.protocol.is_refused() {
        return;
    }
    match file.protocol.or(Protocol::Tcp) {
        Protocol::Tcp => {
            if file.fragments.or(false) {
                let wrong = "is true for tcp, whose segments fit their path".to_owned();
                let right = "leave it out, or set mss so that segments stay small";
                file.fragments.refuse(out, wrong, right.to_owned());
            }
            if file.udp.or(UdpFlows::Plain) != UdpFlows::Plain {
                let wrong = "is about udp, and the service is tcp".to_owned();
                let right = "leave it out, or write protocol = \"udp\"";
                file.udp.refuse(out, wrong, right.to_owned());
            }
        }
        Protocol::Udp => {
            if file.mss.written().is_some() {
                let wrong = "is about tcp, and the service is udp".to_owned();
                file.mss.refuse(out, wrong, "leave it out".to_owned());
            }
        }
    }
}

/// Entries that the services take in the data plane.
pub(super) fn entries(services: &[file::Service]) -> usize {
    let distinct = |services: &mut dyn Iterator<Item = &file::Service>| {
        let vips = services.filter_map(|service| service.vip.written());
        vips.collect::<HashSet<_>>().len()
    };
    let mut with_fragments = services
        .iter()
        .filter(|service| service.fragments.or(false));
    services.len() + distinct(&mut services.iter()) + distinct(&mut with_fragments)
}

/// Later fragments do not say which service they are for: one pool must take those of a VIP.
pub(super) fn one_pool_for_fragments(services: &[file::Service], out: &mut Diagnostics<'_>) {
    let mut seen: HashMap<IpAddr, (&str, &str)> = HashMap::new();
    for service in services {
        let (Some(&vip), Some(pool)) = (service.vip.written(), service.pool.written()) else {
            continue;
        };
        if !service.fragments.or(false) || service.protocol.or(Protocol::Tcp) != Protocol::Udp {
            continue;
        }
        match seen.get(&vip) {
            Some((first, other)) if other != pool => {
                let wrong = format!("{first} takes the fragments of {vip} to another pool");
                let right = format!("let both have pool {}, or fragments = false", shown(other));
                service.fragments.refuse(out, wrong, right);
            }
            Some(_) => {}
            None => drop(seen.insert(vip, (&service.path, pool))),
        }
    }
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
