//! Which port of the data plane stands for which interface.
//!
//! A VLAN's port is the interface that carries its frames, with the tags that they have there: the
//! program writes them itself.

use std::collections::BTreeMap;

use lb_common::maps::PORTS_MAX;
use lb_common::port::Port;

use super::interface::Interface;

/// The largest IP packet that any interface is taken to send: what the length field of IPv4 can say.
const MTU_MAX: u32 = u16::MAX as u32;
/// The most VLAN tags of a frame.
pub const TAGS_MAX: usize = 2;

/// The ports in use. A port is given when a next hop first leads out of its interface, and kept.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    ports: BTreeMap<u16, Port>,
    /// Which port a VLAN has, by the VLAN's own number. Not known of ports as an earlier agent left
    /// them, until a next hop leads there again.
    vlans: BTreeMap<u32, u16>,
}

/// Where the frames of an interface really leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// The interface that carries them: itself, unless it is a VLAN.
    pub interface_index: u32,
    /// The tags that they have there, the outer one first; 0 where there is none.
    pub tags: [u32; TAGS_MAX],
}

/// Why an interface cannot be a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// It has no Ethernet address.
    #[error("interface {0} has no Ethernet address: backends must be reached over Ethernet")]
    NoMac(String),
    /// All ports are taken.
    #[error(
        "no port left for interface {0}: backends may be behind {PORTS_MAX} interfaces at most"
    )]
    Exhausted(String),
    /// A VLAN in a VLAN in a VLAN.
    #[error("interface {0} has more than {TAGS_MAX} VLAN tags: backends may be behind {TAGS_MAX}")]
    TooManyTags(String),
}

impl Egress {
    /// Of an interface and those below it, itself first: each the VLAN of the one that follows.
    ///
    /// # Errors
    /// [`PortError::TooManyTags`].
    pub fn of(chain: &[Interface]) -> Result<Self, PortError> {
        let mut egress = Self {
            interface_index: 0,
            tags: [0; TAGS_MAX],
        };
        let (Some(interface), Some(carrier)) = (chain.first(), chain.last()) else {
            return Ok(egress);
        };
        egress.interface_index = carrier.index;
        // What is nearest to the carrier is outermost in a frame.
        let mut places = egress.tags.iter_mut();
        for vlan in chain.iter().rev().filter_map(|interface| interface.vlan) {
            *places
                .next()
                .ok_or_else(|| PortError::TooManyTags(interface.name.clone()))? = vlan.tag;
        }
        Ok(egress)
    }
}

impl Ports {
    /// The ports as an earlier agent left them.
    #[must_use]
    pub fn adopt(ports: BTreeMap<u16, Port>) -> Self {
        Self {
            ports,
            vlans: BTreeMap::new(),
        }
    }

    /// The port that stands for this interface, if there is one.
    #[must_use]
    pub fn index_of(&self, interface_index: u32) -> Option<u16> {
        let is_it =
            |port: &Port| port.interface_index == interface_index && port.tags == [0; TAGS_MAX];
        self.vlans.get(&interface_index).copied().or_else(|| {
            let mut ports = self.ports.iter();
            ports.find(|(_, port)| is_it(port)).map(|(index, _)| *index)
        })
    }

    /// Whether this port stands for an interface.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        self.ports.contains_key(&index)
    }

    /// Forgets every interface that is not among `present`.
    pub fn keep_only(&mut self, present: &[Interface]) {
        let is_there = |index: u32| present.iter().any(|interface| interface.index == index);
        self.ports.retain(|_, port| is_there(port.interface_index));
        let gone = self.vlans.keys().copied().filter(|vlan| !is_there(*vlan));
        for vlan in gone.collect::<Vec<_>>() {
            self.forget(vlan);
        }
    }

    /// The interface is gone: its port is free for another.
    pub fn forget(&mut self, interface_index: u32) {
        if let Some(index) = self.vlans.remove(&interface_index) {
            self.ports.remove(&index);
        }
        self.ports
            .retain(|_, port| port.interface_index != interface_index);
        self.vlans.retain(|_, index| self.ports.contains_key(index));
    }

    /// The port for an interface as it is now, and whether the data plane does not know it yet.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn place(
        &mut self,
        interface: &Interface,
        egress: Egress,
    ) -> Result<(u16, Port, bool), PortError> {
        let mac = interface
            .mac
            .ok_or_else(|| PortError::NoMac(interface.name.clone()))?;
        let port = Port {
            interface_index: egress.interface_index,
            mtu: interface.mtu.min(MTU_MAX),
            mac: mac.0,
            pad: [0; 2],
            tags: egress.tags,
        };
        let is_it =
            |there: &Port| there.interface_index == port.interface_index && there.tags == port.tags;
        let present = self.ports.iter().find(|(_, there)| is_it(there));
        let index = match self.vlans.get(&interface.index) {
            Some(index) => *index,
            None => match present {
                Some((index, _)) => *index,
                None => (0..PORTS_MAX as u16)
                    .find(|index| !self.ports.contains_key(index))
                    .ok_or_else(|| PortError::Exhausted(interface.name.clone()))?,
            },
        };
        if egress.interface_index != interface.index {
            self.vlans.insert(interface.index, index);
        }
        let is_news = self.ports.insert(index, port) != Some(port);
        Ok((index, port, is_news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::interface::{Mac, Vlan};

    fn interface(index: u32, mtu: u32) -> Interface {
        Interface {
            index,
            name: format!("eth{index}"),
            mac: Some(Mac([2, 0, 0, 0, 0, index as u8])),
            mtu,
            is_up: true,
            resolves_neighbours: true,
            xdp: None,
            vlan: None,
        }
    }

    fn vlan(index: u32, parent: u32, tag: u32) -> Interface {
        Interface {
            vlan: Some(Vlan { parent, tag }),
            ..interface(index, 1500)
        }
    }

    /// Its own egress, as of an interface that is no VLAN.
    fn place(ports: &mut Ports, interface: &Interface) -> Result<(u16, Port, bool), PortError> {
        ports.place(interface, Egress::of(std::slice::from_ref(interface))?)
    }

    #[test]
    fn a_vlan_is_a_port_of_its_carrier_with_its_tags_outer_first() {
        let mut ports = Ports::default();
        let (carrier, outer) = (interface(7, 1500), vlan(8, 7, 0x88a8_0064));
        let inner = vlan(9, 8, 0x8100_0016);
        place(&mut ports, &carrier).unwrap();
        let egress = Egress::of(&[outer.clone(), carrier.clone()]).unwrap();
        let (index, port, _) = ports.place(&outer, egress).unwrap();
        assert_eq!((index, port.interface_index), (1, 7));
        assert_eq!(port.tags, [0x88a8_0064, 0]);
        let chain = [inner.clone(), outer.clone(), carrier.clone()];
        let (index, port, _) = ports.place(&inner, Egress::of(&chain).unwrap()).unwrap();
        assert_eq!((index, port.interface_index), (2, 7));
        assert_eq!(port.tags, [0x88a8_0064, 0x8100_0016]);
        assert_eq!(port.mac, inner.mac.unwrap().0);
        assert_eq!([7, 8, 9].map(|it| ports.index_of(it)), [0, 1, 2].map(Some));

        // An agent that starts finds the same ports again.
        let mut adopted = Ports::adopt(ports.ports.clone());
        assert_eq!(adopted.index_of(9), None);
        let again = adopted.place(&inner, Egress::of(&chain).unwrap());
        assert!(matches!(again, Ok((2, _, false))));

        ports.forget(8);
        assert_eq!(
            [7, 8, 9].map(|it| ports.index_of(it)),
            [Some(0), None, Some(2)]
        );
        ports.keep_only(&[carrier]);
        assert!(ports.contains(0) && !ports.contains(2));
        let deep = [vlan(10, 9, 1), inner, outer, interface(7, 1500)];
        assert_eq!(
            Egress::of(&deep),
            Err(PortError::TooManyTags("eth10".into()))
        );
    }

    #[test]
    fn an_interface_keeps_its_port_and_a_change_of_it_is_news() {
        let mut ports = Ports::default();
        assert!(matches!(
            place(&mut ports, &interface(7, 1500)),
            Ok((0, _, true))
        ));
        assert!(matches!(
            place(&mut ports, &interface(9, 1500)),
            Ok((1, _, true))
        ));
        assert!(matches!(
            place(&mut ports, &interface(7, 1500)),
            Ok((0, _, false))
        ));
        assert!(matches!(
            place(&mut ports, &interface(7, 1400)),
            Ok((0, _, true))
        ));
        assert_eq!(ports.index_of(9), Some(1));
        ports.keep_only(&[interface(7, 1500), interface(9, 1500)]);
        assert!(ports.contains(0) && ports.contains(1));
        ports.forget(7);
        assert!(!ports.contains(0) && ports.contains(1));
        assert!(matches!(
            place(&mut ports, &interface(11, 1500)),
            Ok((0, _, true))
        ));
    }

    #[test]
    fn a_device_without_a_mac_and_one_too_many_are_refused_by_name() {
        let mut ports = Ports::default();
        let tunnel = Interface {
            mac: None,
            ..interface(3, 1480)
        };
        assert_eq!(
            place(&mut ports, &tunnel),
            Err(PortError::NoMac("eth3".into()))
        );
        for index in 1..=PORTS_MAX {
            place(&mut ports, &interface(index, 1500)).unwrap();
        }
        assert_eq!(
            place(&mut ports, &interface(99, 1500)),
            Err(PortError::Exhausted("eth99".into()))
        );
    }
}
