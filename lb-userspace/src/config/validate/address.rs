//! Addresses: which ones can be a VIP or a backend at all, and which ones get in each other's way.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::config::{Agent, error::Diagnostics, field::Field, file, value::Mistake};

/// Reports an address that no packet can be sent to from another host.
pub(super) fn must_be_unicast(field: &Field<IpAddr>, out: &mut Diagnostics<'_>) {
    if let Some(Mistake { wrong, right }) = field.written().and_then(|&address| fault(address)) {
        field.refuse(out, wrong, right);
    }
}

fn fault(address: IpAddr) -> Option<Mistake> {
    let kind = match address {
        _ if address.is_unspecified() => "is the unspecified address",
        _ if address.is_multicast() => "is a multicast address",
        _ if address.is_loopback() => "is a loopback address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address",
        IpAddr::V6(address) if is_link_local(address) => "is a link-local address",
        IpAddr::V6(address) => {
            // The data plane keeps IPv4 addresses in this very form: the two would be one VIP.
            let v4 = address.to_ipv4_mapped()?;
            return Some(Mistake::new(
                format!("{address} is an IPv4 address in IPv6 form"),
                format!("write \"{v4}\""),
            ));
        }
        IpAddr::V4(_) => return None,
    };
    Some(Mistake::new(
        format!("{address} {kind}"),
        "write an address that other hosts can reach",
    ))
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xFFC0 == 0xFE80
}

/// A packet for a VIP that is forwarded to a VIP comes back to the gateway.
pub(super) fn no_backend_is_a_vip(file: &file::File, out: &mut Diagnostics<'_>) {
    let vips: HashMap<IpAddr, &str> = file
        .services
        .iter()
        .rev()
        .filter_map(|service| Some((*service.vip.written()?, service.path.as_str())))
        .collect();
    for backend in backends(&file.pools) {
        let Some(address) = backend.address.written() else {
            continue;
        };
        if let Some(service) = vips.get(address) {
            let wrong = format!("{address} is the VIP of {service}");
            backend
                .address
                .refuse(out, wrong, "write the server's own address");
        }
    }
}

/// A backend drops packets that claim to come from itself.
pub(super) fn no_backend_is_a_tunnel_source(
    file: &file::File,
    agent: &Agent,
    out: &mut Diagnostics<'_>,
) {
    let in_tunnels = file
        .pools
        .iter()
        .filter(|pool| pool.forward.written().is_some_and(|word| word == "ipip"));
    for backend in backends(in_tunnels) {
        let Some(address) = backend.address.written() else {
            continue;
        };
        let (is_inside, key, network) = match address {
            IpAddr::V4(address) => {
                let network = agent.tunnel_source_v4;
                (
                    network.contains(address),
                    "tunnel_source_v4",
                    network.to_string(),
                )
            }
            IpAddr::V6(address) => {
                let network = agent.tunnel_source_v6;
                (
                    network.contains(address),
                    "tunnel_source_v6",
                    network.to_string(),
                )
            }
        };
        if is_inside {
            let wrong =
                format!("{address} lies in {network}, where outer sources of ipip come from");
            let right = format!("set agent.{key} to a network that no host is in");
            backend.address.refuse(out, wrong, right);
        }
    }
}

fn backends<'f>(
    pools: impl IntoIterator<Item = &'f file::Pool>,
) -> impl Iterator<Item = &'f file::Backend> {
    pools
        .into_iter()
        .filter_map(|pool| pool.backends.written())
        .flatten()
}
