//! Network interfaces by name or index: what the agent must know of them, and when it changes.
//!
//! The agent looks up the interfaces it attaches to, and shows how XDP sits on them; `neighbour`
//! looks up where a route leads. Nothing here changes an interface.

mod watch;

use std::fmt;

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
        LinkXdp, XdpAttached as Attached,
    },
};

pub use self::watch::{LinkChange, LinkWatch};
use super::netlink::{Netlink, NetlinkError, Verb};

/// EtherType of the usual VLAN tag, which kernels do not always spell out.
const IEEE_802_1Q: u16 = 0x8100;

const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that every station hears.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// From the kernel's bytes; `None` unless it is a usable address of one station.
    pub fn unicast(bytes: &[u8]) -> Option<Self> {
        let mac: [u8; 6] = bytes.try_into().ok()?;
        let is_group = mac[0] & 1 == 1;
        (mac != [0; 6] && !is_group).then_some(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where in the path of a packet the XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpAttachMode {
    /// In the network card.
    Offload,
    /// In the driver, before a socket buffer is made.
    Native,
    /// In the kernel's generic path: works everywhere, slower.
    Generic,
}

impl XdpAttachMode {
    /// The word shown to people, as in the configuration's `xdp_mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offload => "offload",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for XdpAttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The XDP program on an interface. Where there are several, the one that sees packets first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpAttached {
    /// How it is attached.
    pub mode: XdpAttachMode,
    /// The kernel's id of the program.
    pub program_id: u32,
}

/// What makes an interface a VLAN of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The interface that carries its frames.
    pub parent: u32,
    /// The tag that they have there: EtherType and VLAN id, as in a data-plane port.
    pub tag: u32,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it, stable while it lives.
    pub index: u32,
    /// Its name, as in `eth0`.
    pub name: String,
    /// Its Ethernet address; `None` for a device that has none (a tunnel, for example).
    pub mac: Option<Mac>,
    /// Largest packet it sends, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Switched on, with carrier, ready to send.
    pub is_up: bool,
    /// Finds its neighbours by ARP and neighbour discovery. Not so loopback, tunnels, dummies.
    pub resolves_neighbours: bool,
    /// The XDP program on it, whoever attached it.
    pub xdp: Option<XdpAttached>,
    /// The interface below, if this is a VLAN.
    pub vlan: Option<Vlan>,
}

/// Why an interface could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of that name or number.
    #[error("there is no network interface {0} on this host: `ip link` lists those there are")]
    NotFound(String),
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl Interface {
    /// The interface of this name.
    pub async fn by_name(netlink: &Netlink, name: &str) -> Result<Self, InterfaceError> {
        let mut query = LinkMessage::default();
        query
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        Self::one(netlink, query, name).await
    }

    /// The interface of this number.
    pub async fn by_index(netlink: &Netlink, index: u32) -> Result<Self, InterfaceError> {
        let mut query = LinkMessage::default();
        query.header.index = index;
        Self::one(netlink, query, &format!("number {index}")).await
    }

    /// All interfaces.
    pub async fn all(netlink: &Netlink) -> Result<Vec<Self>, NetlinkError> {
        let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = netlink
            .request(Verb::Dump, query, || "list the interfaces".to_owned())
            .await?;
        Ok(links.iter().filter_map(from_answer).collect())
    }

    async fn one(
        netlink: &Netlink,
        query: LinkMessage,
        called: &str,
    ) -> Result<Self, InterfaceError> {
        let query = RouteNetlinkMessage::GetLink(query);
        match netlink
            .request(Verb::Get, query, || format!("look up interface {called}"))
            .await
        {
            Ok(answer) => answer
                .iter()
                .find_map(from_answer)
                .ok_or_else(|| InterfaceError::NotFound(called.to_owned())),
            Err(error) if error.errno() == Some(ENODEV) => {
                Err(InterfaceError::NotFound(called.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn from_answer(answer: &RouteNetlinkMessage) -> Option<Interface> {
    match answer {
        RouteNetlinkMessage::NewLink(link) => parse(link),
        _ => None,
    }
}

/// `None` for messages that are not about the interface itself: bridge ports and wireless events
/// come as the same message type.
fn parse(link: &LinkMessage) -> Option<Interface> {
    if link.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = link.header.flags;
    let is_ethernet = link.header.link_layer_type == LinkLayerType::Ether;
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        is_up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running),
        resolves_neighbours: is_ethernet
            && !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback),
        xdp: None,
        vlan: None,
    };
    let (mut parent, mut tag) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(bytes) if is_ethernet => interface.mac = Mac::unicast(bytes),
            LinkAttribute::Xdp(xdp) => interface.xdp = parse_xdp(xdp),
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => tag = infos.iter().find_map(vlan_tag),
            _ => {}
        }
    }
    interface.vlan = parent.zip(tag).map(|(parent, tag)| Vlan { parent, tag });
    (!interface.name.is_empty()).then_some(interface)
}

/// The tag of a VLAN's frames; `None` for what is no VLAN.
fn vlan_tag(info: &LinkInfo) -> Option<u32> {
    let LinkInfo::Data(InfoData::Vlan(attributes)) = info else {
        return None;
    };
    let id = attributes.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })?;
    let protocol = attributes.iter().find_map(|attribute| match attribute {
        InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
        _ => None,
    });
    Some(u32::from(protocol.unwrap_or(IEEE_802_1Q)) << 16 | u32::from(id))
}

fn parse_xdp(attributes: &[LinkXdp]) -> Option<XdpAttached> {
    let (mut attached, mut any) = (None, None);
    let (mut offload, mut native, mut generic) = (None, None, None);
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(how) => attached = Some(*how),
            LinkXdp::ProgId(id) => any = Some(*id),
            LinkXdp::HwProgId(id) => offload = Some(*id),
            LinkXdp::DrvProgId(id) => native = Some(*id),
            LinkXdp::SkbProgId(id) => generic = Some(*id),
            _ => {}
        }
    }
    let only = |mode, own: Option<u32>| {
        own.or(any)
            .map(|program_id| XdpAttached { mode, program_id })
    };
    match attached? {
        Attached::Hardware => only(XdpAttachMode::Offload, offload),
        Attached::Driver => only(XdpAttachMode::Native, native),
        Attached::SocketBuffer => only(XdpAttachMode::Generic, generic),
        // In the order in which packets meet them.
        Attached::Multiple => [
            (XdpAttachMode::Offload, offload),
            (XdpAttachMode::Native, native),
            (XdpAttachMode::Generic, generic),
        ]
        .into_iter()
        .find_map(|(mode, id)| id.map(|program_id| XdpAttached { mode, program_id })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_xdp_is_attached_is_told_with_the_program_that_sees_packets_first() {
        let native = XdpAttached {
            mode: XdpAttachMode::Native,
            program_id: 7,
        };
        let generic = XdpAttached {
            mode: XdpAttachMode::Generic,
            program_id: 9,
        };
        let cases = [
            ("nothing said", vec![], None),
            (
                "nothing attached",
                vec![LinkXdp::Attached(Attached::None)],
                None,
            ),
            (
                "in the driver",
                vec![
                    LinkXdp::Attached(Attached::Driver),
                    LinkXdp::ProgId(7),
                    LinkXdp::DrvProgId(7),
                ],
                Some(native),
            ),
            (
                "generic, from a kernel that gives one id only",
                vec![
                    LinkXdp::Attached(Attached::SocketBuffer),
                    LinkXdp::ProgId(9),
                ],
                Some(generic),
            ),
            (
                "both",
                vec![
                    LinkXdp::Attached(Attached::Multiple),
                    LinkXdp::SkbProgId(9),
                    LinkXdp::DrvProgId(7),
                ],
                Some(native),
            ),
        ];
        for (description, attributes, expected) in cases {
            assert_eq!(parse_xdp(&attributes), expected, "{description}");
        }
    }

    #[test]
    fn a_group_address_is_no_station() {
        assert_eq!(Mac::unicast(&[0x33, 0x33, 0, 0, 0, 1]), None);
        assert_eq!(Mac::unicast(&[0; 6]), None);
        assert_eq!(Mac::unicast(&[2, 0, 0, 0, 0]), None);
        assert_eq!(
            Mac::unicast(&[2, 0, 0, 0, 0, 1]),
            Some(Mac([2, 0, 0, 0, 0, 1]))
        );
    }
}
