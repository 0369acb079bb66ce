//! Why an address has no next hop, in words for people.

use std::net::IpAddr;

/// Why an address has no next hop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The routing tables do not know the way.
    #[error("no route to {address}")]
    NoRoute {
        /// The target.
        address: IpAddr,
    },
    /// A route forbids it: `unreachable`, `prohibit`, `blackhole`, `throw`.
    #[error("the route to {address} refuses packets ({kind})")]
    Refused {
        /// The target.
        address: IpAddr,
        /// The route's type, as `ip route` names it.
        kind: &'static str,
    },
    /// The route leads through a gateway, where the target itself must be the neighbour.
    #[error(
        "{address} is behind gateway {gateway}, not on this link: forward = \"l2\" reaches only hosts on the same link, \"ipip\" any"
    )]
    NotOnLink {
        /// The target.
        address: IpAddr,
        /// The gateway.
        gateway: IpAddr,
    },
    /// The address is this host's own.
    #[error("{address} is an address of this host")]
    Local {
        /// The target.
        address: IpAddr,
    },
    /// The address is not one host's: broadcast, multicast, anycast.
    #[error("{address} is not the address of a single host ({kind})")]
    NotUnicast {
        /// The target.
        address: IpAddr,
        /// The route's type.
        kind: &'static str,
    },
    /// The output interface is switched off or has no carrier.
    #[error("interface {interface} on the way to {address} is down or has no carrier")]
    InterfaceDown {
        /// The target.
        address: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// Nobody answers ARP or neighbour discovery for the next hop.
    #[error(
        "no answer to {} for {neighbour} on {interface}",
        if neighbour.is_ipv4() { "ARP" } else { "neighbour discovery" }
    )]
    NoNeighbour {
        /// The target or its gateway.
        neighbour: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// The output interface carries no Ethernet frames: loopback, tunnel, point-to-point.
    #[error("{address} is reached through {interface}, which carries no Ethernet frames")]
    NoLinkLayer {
        /// The target.
        address: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// The kernel did not say. Looked up again every second.
    #[error("cannot look up the way to {address}: {reason}")]
    LookupFailed {
        /// The target.
        address: IpAddr,
        /// What the kernel said instead.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_neighbour_is_described_in_the_words_of_its_protocol() {
        for (neighbour, expected) in [
            ("192.0.2.1", "no answer to ARP for 192.0.2.1 on eth0"),
            (
                "2001:db8::1",
                "no answer to neighbour discovery for 2001:db8::1 on eth0",
            ),
        ] {
            let reason = Unresolved::NoNeighbour {
                neighbour: neighbour.parse().unwrap(),
                interface: "eth0".to_owned(),
            };
            assert_eq!(reason.to_string(), expected);
        }
    }
}
