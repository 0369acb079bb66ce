//! The VIPs as addresses of this host (`manage_vips`): added, kept, taken away again.
//!
//! The reconciler calls this with the whole set that should be there. An address that somebody else
//! put on this host is never touched, neither now nor when it stops being wanted.

use std::{collections::HashMap, net::IpAddr};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{
        AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
        AddressScope, CacheInfo,
    },
};

use super::{
    interface::Interface,
    netlink::{MARK, Netlink, NetlinkError, Verb},
};

const EEXIST: i32 = nix::errno::Errno::EEXIST as i32;
const EADDRNOTAVAIL: i32 = nix::errno::Errno::EADDRNOTAVAIL as i32;

/// The first kernel that remembers who added an address (`IFA_PROTO`).
const KERNEL_WITH_MARKS: (u32, u32) = (5, 18);

/// What [`Vips::ensure`] did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VipReport {
    /// Added now.
    pub added: Vec<IpAddr>,
    /// Ours already, and still wanted.
    pub kept: Vec<IpAddr>,
    /// Ours, no longer wanted, taken away now.
    pub removed: Vec<IpAddr>,
    /// Wanted, but somebody else's address already; left alone.
    pub foreign: Vec<IpAddr>,
}

/// The VIPs on this host.
#[derive(Debug)]
pub struct Vips {
    netlink: Netlink,
    keeps_marks: bool,
    remembered: Vec<IpAddr>,
}

/// An address as the kernel has it.
#[derive(Debug)]
struct Found {
    interface_index: u32,
    is_host_wide: bool,
    is_marked: bool,
    message: AddressMessage,
}

impl Vips {
    /// `remembered` is what earlier runs added, from the agent's state directory. It is believed
    /// only where the kernel cannot remember by itself (before 5.18).
    pub fn new(netlink: Netlink, remembered: Vec<IpAddr>) -> Self {
        let keeps_marks = nix::sys::utsname::uname()
            .is_ok_and(|kernel| release_keeps_marks(&kernel.release().to_string_lossy()));
        Self {
            netlink,
            keeps_marks,
            remembered,
        }
    }

    /// Makes `wanted` the whole set of VIPs on this host, on `interface`. Ours that sit elsewhere
    /// move there; ours that are not wanted go. When it fails half way, calling it again continues.
    pub async fn ensure(
        &mut self,
        wanted: &[IpAddr],
        interface: &Interface,
    ) -> Result<VipReport, NetlinkError> {
        let mut report = VipReport::default();
        let found = self.found().await?;
        for (address, places) in &found {
            for place in places.iter().filter(|place| self.is_ours(*address, place)) {
                let is_wanted = wanted.contains(address);
                if !is_wanted || place.interface_index != interface.index {
                    self.remove(*address, place).await?;
                }
                if !is_wanted {
                    report.removed.push(*address);
                }
            }
        }
        for address in wanted {
            let places = found.get(address).map_or(&[][..], Vec::as_slice);
            if places.iter().any(|place| !self.is_ours(*address, place)) {
                report.foreign.push(*address);
            } else if places
                .iter()
                .any(|place| place.interface_index == interface.index)
            {
                report.kept.push(*address);
            } else if self.add(*address, interface).await? {
                report.added.push(*address);
            } else {
                report.foreign.push(*address);
            }
        }
        self.remembered = [&report.added[..], &report.kept[..]].concat();
        report.removed.sort();
        Ok(report)
    }

    /// Takes every address of ours off this host, and says which they were.
    pub async fn remove_all(&mut self) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut removed = Vec::new();
        for (address, places) in self.found().await? {
            for place in places.iter().filter(|place| self.is_ours(address, place)) {
                self.remove(address, place).await?;
                removed.push(address);
            }
        }
        self.remembered.clear();
        removed.sort();
        Ok(removed)
    }

    /// What of the VIPs is ours now: to be written to the state directory after each
    /// [`Vips::ensure`], and handed to [`Vips::new`] by the next run.
    pub fn ours(&self) -> &[IpAddr] {
        &self.remembered
    }

    fn is_ours(&self, address: IpAddr, place: &Found) -> bool {
        place.is_marked
            || (!self.keeps_marks && place.is_host_wide && self.remembered.contains(&address))
    }

    async fn found(&self) -> Result<HashMap<IpAddr, Vec<Found>>, NetlinkError> {
        let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let what = || "list the addresses of this host".to_owned();
        let mut found: HashMap<IpAddr, Vec<Found>> = HashMap::new();
        for answer in self.netlink.request(Verb::Dump, query, what).await? {
            if let RouteNetlinkMessage::NewAddress(message) = answer
                && let Some((address, place)) = parse(message)
            {
                found.entry(address).or_default().push(place);
            }
        }
        Ok(found)
    }

    /// False when somebody else added it in the meantime.
    async fn add(&self, address: IpAddr, interface: &Interface) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(to_add(address, interface.index));
        let what = || format!("add {address} to {}", interface.name);
        match self.netlink.request(Verb::Create, message, what).await {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, address: IpAddr, place: &Found) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(place.message.clone());
        let what = || format!("remove {address} from interface {}", place.interface_index);
        match self.netlink.request(Verb::Delete, message, what).await {
            // Somebody was quicker.
            Err(error) if error.errno() == Some(EADDRNOTAVAIL) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn release_keeps_marks(release: &str) -> bool {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= KERNEL_WITH_MARKS,
        _ => false,
    }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn to_add(address: IpAddr, interface_index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.prefix_len = host_prefix(address);
    message.header.index = interface_index;
    message.header.scope = AddressScope::Universe;
    let mut flags = AddressFlags::Noprefixroute;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    match address {
        IpAddr::V4(_) => message.header.family = AddressFamily::Inet,
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Another gateway may hold the VIP as well: duplicate detection would disable it.
            flags |= AddressFlags::Nodad;
            message.header.flags = AddressHeaderFlags::Nodad;
            // Deprecated from the start, or the host's own connections would use it as their
            // source (RFC 6724 rule 3 avoids deprecated ones).
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_preferred = 0;
            lifetimes.ifa_valid = u32::MAX;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetimes));
        }
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(MARK)));
    message
}

fn parse(message: AddressMessage) -> Option<(IpAddr, Found)> {
    let (mut local, mut peer, mut is_marked) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Protocol(protocol) => {
                is_marked = *protocol == AddressProtocol::Other(MARK);
            }
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end's; IPv6 gives `Local` only there.
    let address = local.or(peer)?;
    let mut bare = AddressMessage::default();
    bare.header.family = message.header.family;
    bare.header.prefix_len = message.header.prefix_len;
    bare.header.index = message.header.index;
    bare.attributes.push(AddressAttribute::Local(address));
    bare.attributes
        .push(AddressAttribute::Address(peer.unwrap_or(address)));
    let place = Found {
        interface_index: message.header.index,
        is_host_wide: message.header.prefix_len == host_prefix(address),
        is_marked,
        message: bare,
    };
    Some((address, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_known_to_kernels_from_5_18_on() {
        for (release, expected) in [
            ("5.17.0-rc1", false),
            ("5.18.0", true),
            ("5.4.0-150-generic", false),
            ("6.1.0-18-amd64", true),
            ("10.0", true),
            ("odd", false),
        ] {
            assert_eq!(release_keeps_marks(release), expected, "{release}");
        }
    }

    #[test]
    fn an_ipv6_vip_is_never_a_source_of_the_hosts_own_connections() {
        let message = to_add("2001:db8::1".parse().unwrap(), 7);
        let preferred = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::CacheInfo(lifetimes) => Some(lifetimes.ifa_preferred),
                _ => None,
            });
        assert_eq!(preferred, Some(0));
    }

    #[test]
    fn what_we_add_is_recognised_as_ours() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let (found, place) = parse(to_add(address, 7)).unwrap();
        assert_eq!(found, address);
        assert!(place.is_marked && place.is_host_wide);
    }
}
