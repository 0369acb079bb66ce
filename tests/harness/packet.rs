//! Frames for tests: built field by field, explained in words, compared field by field.
//!
//! Nothing here comes from lb-common: checksums and parsing are plain textbook code, so that a
//! mistake there cannot hide behind the same mistake here.
//!
//! ```
//! use lb_tests::packet::{self, SYN};
//!
//! let syn = packet::tcp("192.0.2.1:4000", "198.51.100.10:80").flags(SYN).sequence(7).build();
//! let sent = syn.in_tunnel("198.18.3.4", "10.0.1.11").hop_limit(64).build();
//! packet::assert_same(&sent, &sent);
//! ```

mod build;
mod checksum;
mod compare;
mod explain;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;

pub use build::{
    ACK, AH, Builder, DESTINATION_OPTIONS, ESP, FIN, HOP_BY_HOP, NO_NEXT_HEADER, PSH, ROUTING, RST,
    SYN, URG, echo_request, icmp, ip, not_ip, tcp, udp,
};
pub use compare::{assert_same, difference};
pub use explain::{Explanation, Layer, explain};

/// An Ethernet frame; prints as its explanation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    /// Where the network layer begins: behind the Ethernet header and any VLAN tags.
    pub fn network_offset(&self) -> usize {
        let mut at = 12;
        while let Some([0x81, 0x00] | [0x88, 0xa8]) = self.0.get(at..at + 2) {
            at += 4;
        }
        at + 2
    }

    /// The network layer and all that follows.
    pub fn network(&self) -> &[u8] {
        self.0.get(self.network_offset()..).unwrap_or_default()
    }

    /// What remains of the frame when its end is cut off.
    #[must_use]
    pub fn cut(&self, length: usize) -> Frame {
        Frame(self.0[..length.min(self.0.len())].to_vec())
    }

    /// This packet inside an IP tunnel (protocol 4 or 41) between two addresses, with the same
    /// MAC addresses and VLAN tags; set the outer header's other fields on the result.
    pub fn in_tunnel(&self, source: impl Address, destination: impl Address) -> Builder {
        build::tunnel(self, source.address(), destination.address())
    }

    /// What it is, in words.
    pub fn explain(&self) -> Explanation {
        explain(&self.0)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes:\n{}", self.0.len(), self.explain())
    }
}

/// An address, also as text.
pub trait Address {
    /// The address.
    ///
    /// # Panics
    /// If the text is none: a mistake in a test.
    fn address(self) -> IpAddr;
}

impl Address for &str {
    fn address(self) -> IpAddr {
        self.parse()
            .unwrap_or_else(|_| panic!("{self:?} is not an IP address"))
    }
}

impl Address for IpAddr {
    fn address(self) -> IpAddr {
        self
    }
}

impl Address for Ipv4Addr {
    fn address(self) -> IpAddr {
        self.into()
    }
}

impl Address for Ipv6Addr {
    fn address(self) -> IpAddr {
        self.into()
    }
}

/// An address with a port, also as text: `192.0.2.1:80`, `[2001:db8::1]:80`.
pub trait Endpoint {
    /// The address and port.
    ///
    /// # Panics
    /// If the text is none: a mistake in a test.
    fn endpoint(self) -> SocketAddr;
}

impl Endpoint for &str {
    fn endpoint(self) -> SocketAddr {
        self.parse()
            .unwrap_or_else(|_| panic!("{self:?} is not an address with a port"))
    }
}

impl Endpoint for SocketAddr {
    fn endpoint(self) -> SocketAddr {
        self
    }
}
