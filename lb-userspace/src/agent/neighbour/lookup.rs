//! The way to one address: route, interface, neighbour.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
};

use super::{
    NextHop, Target, Unresolved,
    entry::{Entry, EntryKey, Neighbour},
};
use crate::agent::{
    interface::{Interface, InterfaceError},
    netlink::{Netlink, NetlinkError, Verb},
};

/// What a lookup found.
#[derive(Debug)]
pub(super) struct Found {
    /// The row of the neighbour table that the answer depends on, where the way got so far.
    pub(super) key: Option<EntryKey>,
    pub(super) answer: Answer,
}

/// The answer of a lookup, and what should follow from it.
#[derive(Debug)]
pub(super) enum Answer {
    /// The next hop, and whether it needs no asking to stay so.
    Known { next_hop: NextHop, is_kept: bool },
    /// The neighbour has not answered yet; the reason to give if it stays like that.
    Asking(Unresolved),
    /// The neighbour did not answer; worth asking again.
    Silent(Unresolved),
    /// No neighbour to ask.
    Impossible(Unresolved),
}

/// The interfaces met while looking up many addresses: asked for once each.
pub(super) type Interfaces = HashMap<u32, Interface>;

/// A route, as far as it concerns us.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    interface_index: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

/// Looks up the next hop of `target` as the kernel sees it now.
pub(super) async fn look_up(
    netlink: &Netlink,
    target: &Target,
    interfaces: &mut Interfaces,
) -> Found {
    let way = match find_way(netlink, target).await {
        Ok(way) => way,
        Err(reason) => {
            return Found {
                key: None,
                answer: Answer::Impossible(reason),
            };
        }
    };
    let key = (way.interface_index, way.gateway.unwrap_or(target.address));
    let answer = match find_neighbour(netlink, target, way, key, interfaces).await {
        Ok(answer) => answer,
        Err(reason) => Answer::Impossible(reason),
    };
    Found {
        key: Some(key),
        answer,
    }
}

async fn find_way(netlink: &Netlink, target: &Target) -> Result<Way, Unresolved> {
    let address = target.address;
    let query = RouteNetlinkMessage::GetRoute(route_query(address));
    let what = || format!("find the route to {address}");
    let answer = netlink
        .request(Verb::Get, query, what)
        .await
        .map_err(|error| refused(address, &error))?;
    let way = answer
        .iter()
        .find_map(|object| match object {
            RouteNetlinkMessage::NewRoute(route) => Some(parse_route(address, route)),
            _ => None,
        })
        .unwrap_or(Err(Unresolved::NoRoute { address }))?;
    match way.gateway {
        Some(gateway) if target.on_link_required => Err(Unresolved::NotOnLink { address, gateway }),
        _ => Ok(way),
    }
}

async fn find_neighbour(
    netlink: &Netlink,
    target: &Target,
    way: Way,
    key: EntryKey,
    interfaces: &mut Interfaces,
) -> Result<Answer, Unresolved> {
    let address = target.address;
    let failed = |reason: String| Unresolved::LookupFailed { address, reason };
    let interface = match interfaces.get(&way.interface_index) {
        Some(interface) => interface,
        None => match Interface::by_index(netlink, way.interface_index).await {
            Ok(interface) => interfaces.entry(interface.index).or_insert(interface),
            // It went between the two questions; the routes through it go with it.
            Err(InterfaceError::NotFound(_)) => return Err(Unresolved::NoRoute { address }),
            Err(error) => return Err(failed(error.to_string())),
        },
    };
    if !interface.is_up {
        return Err(Unresolved::InterfaceDown {
            address,
            interface: interface.name.clone(),
        });
    }
    if !interface.resolves_neighbours {
        return Err(Unresolved::NoLinkLayer {
            address,
            interface: interface.name.clone(),
        });
    }
    let entry = Entry::get(netlink, key)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let no_neighbour = || Unresolved::NoNeighbour {
        neighbour: key.1,
        interface: interface.name.clone(),
    };
    Ok(match entry.neighbour {
        Neighbour::Known(mac) => Answer::Known {
            next_hop: NextHop {
                interface_index: way.interface_index,
                mac,
                gateway: way.gateway,
                source: way.source,
            },
            is_kept: entry.is_kept,
        },
        Neighbour::Asking => Answer::Asking(no_neighbour()),
        Neighbour::Silent => Answer::Silent(no_neighbour()),
    })
}

/// Which addresses a changed route may lead; `None` when that cannot be told, so perhaps all.
pub(super) fn prefix_of(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        })?;
    IpNet::new(address, length).ok()
}

fn route_query(address: IpAddr) -> RouteMessage {
    let mut query = RouteMessage::default();
    (
        query.header.address_family,
        query.header.destination_prefix_length,
    ) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    query
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    query
}

/// The kernel answers some kinds of route with an errno instead of the route.
fn refused(address: IpAddr, error: &NetlinkError) -> Unresolved {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::ENETUNREACH) => Unresolved::NoRoute { address },
        Some(Errno::EHOSTUNREACH) => Unresolved::Refused {
            address,
            kind: "unreachable",
        },
        Some(Errno::EACCES) => Unresolved::Refused {
            address,
            kind: "prohibit",
        },
        Some(Errno::EINVAL) => Unresolved::Refused {
            address,
            kind: "blackhole",
        },
        Some(Errno::EAGAIN) => Unresolved::Refused {
            address,
            kind: "throw",
        },
        _ => Unresolved::LookupFailed {
            address,
            reason: error.to_string(),
        },
    }
}

fn parse_route(address: IpAddr, route: &RouteMessage) -> Result<Way, Unresolved> {
    match route.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(Unresolved::Local { address }),
        RouteType::Unreachable => {
            return Err(Unresolved::Refused {
                address,
                kind: "unreachable",
            });
        }
        RouteType::Prohibit => {
            return Err(Unresolved::Refused {
                address,
                kind: "prohibit",
            });
        }
        RouteType::BlackHole => {
            return Err(Unresolved::Refused {
                address,
                kind: "blackhole",
            });
        }
        RouteType::Throw => {
            return Err(Unresolved::Refused {
                address,
                kind: "throw",
            });
        }
        RouteType::Broadcast => {
            return Err(Unresolved::NotUnicast {
                address,
                kind: "broadcast",
            });
        }
        RouteType::Multicast => {
            return Err(Unresolved::NotUnicast {
                address,
                kind: "multicast",
            });
        }
        RouteType::Anycast => {
            return Err(Unresolved::NotUnicast {
                address,
                kind: "anycast",
            });
        }
        other => {
            let reason = format!("the route is of an unknown type ({other:?})");
            return Err(Unresolved::LookupFailed { address, reason });
        }
    }
    let (mut interface_index, mut gateway, mut source) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface_index = Some(*index),
            RouteAttribute::Gateway(via) => gateway = ip(via),
            // An IPv4 route through an IPv6 gateway (RFC 5549).
            RouteAttribute::Via(RouteVia::Inet6(via)) => gateway = Some(IpAddr::V6(*via)),
            RouteAttribute::Via(RouteVia::Inet(via)) => gateway = Some(IpAddr::V4(*via)),
            RouteAttribute::PrefSource(from) => source = ip(from),
            _ => {}
        }
    }
    let interface_index = interface_index.ok_or(Unresolved::NoRoute { address })?;
    Ok(Way {
        interface_index,
        gateway,
        source,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.kind = kind;
        route.attributes = attributes;
        route
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_gateway() {
        let via = "fe80::1".parse().unwrap();
        let route = route(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(4),
                RouteAttribute::Via(RouteVia::Inet6(via)),
            ],
        );
        let way = parse_route("192.0.2.1".parse().unwrap(), &route).unwrap();
        assert_eq!(
            way,
            Way {
                interface_index: 4,
                gateway: Some(via.into()),
                source: None
            }
        );
    }

    #[test]
    fn routes_that_lead_to_no_host_say_why() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for (kind, expected) in [
            (RouteType::Local, Unresolved::Local { address }),
            (
                RouteType::BlackHole,
                Unresolved::Refused {
                    address,
                    kind: "blackhole",
                },
            ),
            (
                RouteType::Broadcast,
                Unresolved::NotUnicast {
                    address,
                    kind: "broadcast",
                },
            ),
            // A route without an interface leads nowhere.
            (RouteType::Unicast, Unresolved::NoRoute { address }),
        ] {
            assert_eq!(
                parse_route(address, &route(kind, Vec::new())),
                Err(expected)
            );
        }
    }
}
