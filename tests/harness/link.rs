//! Links between namespaces: veth pairs, and bridges for segments with more than two hosts.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::mac::Mac;
use crate::namespace::Namespace;
use crate::run_directory::next_number;

/// What a link carries unless told otherwise, in bytes.
pub const MTU: u32 = 1500;

/// One end of a veth pair.
#[derive(Clone, Debug)]
pub struct End<'a> {
    namespace: &'a Namespace,
    device: &'a str,
    mac: Option<Mac>,
    mtu: u32,
    addresses: Vec<IpNet>,
    bridge: Option<&'a str>,
}

impl<'a> End<'a> {
    /// An end in `namespace`, without an address.
    pub fn new(namespace: &'a Namespace, device: &'a str) -> End<'a> {
        End {
            namespace,
            device,
            mac: None,
            mtu: MTU,
            addresses: Vec::new(),
            bridge: None,
        }
    }

    /// Adds addresses, with prefix length. The first IPv4 one also gives the MAC
    /// ([`Mac::of`]) if none is set.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = IpNet>) -> End<'a> {
        self.addresses.extend(addresses);
        self
    }

    /// Sets the MAC address.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> End<'a> {
        self.mac = Some(mac);
        self
    }

    /// Sets the MTU in bytes. A veth that carries native XDP takes at most about 3,500.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> End<'a> {
        self.mtu = mtu;
        self
    }

    /// Makes this end a port of a bridge in its namespace.
    #[must_use]
    pub fn bridge(mut self, bridge: &'a str) -> End<'a> {
        self.bridge = Some(bridge);
        self
    }

    fn chosen_mac(&self) -> Mac {
        let by_address = self.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(Mac::of(address)),
            IpAddr::V6(_) => None,
        });
        self.mac.or(by_address).unwrap_or_else(|| {
            let [.., a, b, c, d] = next_number().to_be_bytes();
            Mac([0x02, 0x01, a, b, c, d])
        })
    }

    fn bring_up(&self) -> Result<()> {
        let device = self.device;
        set_offloads(self.namespace, device)?;
        let mut commands = String::new();
        if let Some(bridge) = self.bridge {
            let _ = writeln!(commands, "link set {device} master {bridge}");
        }
        let _ = writeln!(commands, "link set {device} up");
        for address in &self.addresses {
            let nodad = if address.addr().is_ipv6() {
                " nodad"
            } else {
                ""
            };
            let _ = writeln!(commands, "address add {address} dev {device}{nodad}");
        }
        self.namespace.ip_batch(&commands)
    }
}

/// Makes a veth pair and brings both ends up.
///
/// # Errors
/// If a device of that name exists already, or an address is refused.
pub fn connect(left: &End, right: &End) -> Result<()> {
    let describe = |end: &End| {
        format!(
            "name {} address {} mtu {}",
            end.device,
            end.chosen_mac(),
            end.mtu
        )
    };
    left.namespace
        .ip_batch(&format!(
            "link add {} type veth peer {} netns {}\n",
            describe(left),
            describe(right),
            right.namespace.name(),
        ))
        .with_context(|| format!("link {} with {}", left.device, right.device))?;
    left.bring_up()?;
    right.bring_up()
}

/// Makes a bridge (a learning switch, no spanning tree) that ends can join.
///
/// # Errors
/// If the kernel has no bridge, or the name is taken.
pub fn bridge(namespace: &Namespace, name: &str, mtu: u32) -> Result<()> {
    // Snooping would hold back neighbour solicitations until a querier is known.
    namespace.ip_batch(&format!(
        "link add {name} mtu {mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set {name} up\n"
    ))
}

/// Makes a veth carry whole frames to and from XDP programs.
fn set_offloads(namespace: &Namespace, device: &str) -> Result<()> {
    // tx off: the sender would leave partial checksums that a redirected frame carries to the end.
    // gro on: a veth drops frames redirected to it unless its peer polls (NAPI), and it polls if
    // GRO is on or an XDP program is attached.
    namespace
        .tool("ethtool", &["-K", device, "tx", "off", "gro", "on"])
        .map(|_| ())
}
