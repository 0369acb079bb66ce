//! Which port of the data plane stands for which interface.

use std::collections::BTreeMap;

use lb_common::maps::PORTS_MAX;
use lb_common::port::Port;

use super::interface::Interface;

/// The ports in use. A port is given when a next hop first leads out of its interface, and kept.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    ports: BTreeMap<u16, Port>,
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
}

impl Ports {
    /// The ports as an earlier agent left them.
    #[must_use]
    pub fn adopt(ports: BTreeMap<u16, Port>) -> Self {
        Self { ports }
    }

    /// The port that stands for this interface, if there is one.
    #[must_use]
    pub fn index_of(&self, interface_index: u32) -> Option<u16> {
        self.ports
            .iter()
            .find(|(_, port)| port.interface_index == interface_index)
            .map(|(index, _)| *index)
    }

    /// Whether this port stands for an interface.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        self.ports.contains_key(&index)
    }

    /// Forgets every interface that is not among `present`.
    pub fn keep_only(&mut self, present: &[Interface]) {
        self.ports.retain(|_, port| {
            let is_port = |interface: &Interface| interface.index == port.interface_index;
            present.iter().any(is_port)
        });
    }

    /// The interface is gone: its port is free for another.
    pub fn forget(&mut self, interface_index: u32) {
        self.ports
            .retain(|_, port| port.interface_index != interface_index);
    }

    /// The port for an interface as it is now, and whether the data plane does not know it yet.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn place(&mut self, interface: &Interface) -> Result<(u16, Port, bool), PortError> {
        let mac = interface
            .mac
            .ok_or_else(|| PortError::NoMac(interface.name.clone()))?;
        let port = Port {
            interface_index: interface.index,
            mtu: interface.mtu,
            mac: mac.0,
            pad: [0; 2],
            tags: [0; 2],
        };
        let index = match self.index_of(interface.index) {
            Some(index) => index,
            None => (0..PORTS_MAX as u16)
                .find(|index| !self.ports.contains_key(index))
                .ok_or_else(|| PortError::Exhausted(interface.name.clone()))?,
        };
        let is_news = self.ports.insert(index, port) != Some(port);
        Ok((index, port, is_news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::interface::Mac;

    fn interface(index: u32, mtu: u32) -> Interface {
        Interface {
            index,
            name: format!("eth{index}"),
            mac: Some(Mac([2, 0, 0, 0, 0, index as u8])),
            mtu,
            is_up: true,
            resolves_neighbours: true,
            xdp: None,
        }
    }

    #[test]
    fn an_interface_keeps_its_port_and_a_change_of_it_is_news() {
        let mut ports = Ports::default();
        assert!(matches!(ports.place(&interface(7, 1500)), Ok((0, _, true))));
        assert!(matches!(ports.place(&interface(9, 1500)), Ok((1, _, true))));
        assert!(matches!(
            ports.place(&interface(7, 1500)),
            Ok((0, _, false))
        ));
        assert!(matches!(ports.place(&interface(7, 1400)), Ok((0, _, true))));
        assert_eq!(ports.index_of(9), Some(1));
        ports.keep_only(&[interface(7, 1500), interface(9, 1500)]);
        assert!(ports.contains(0) && ports.contains(1));
        ports.forget(7);
        assert!(!ports.contains(0) && ports.contains(1));
        assert!(matches!(
            ports.place(&interface(11, 1500)),
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
        assert_eq!(ports.place(&tunnel), Err(PortError::NoMac("eth3".into())));
        for index in 1..=PORTS_MAX {
            ports.place(&interface(index, 1500)).unwrap();
        }
        assert_eq!(
            ports.place(&interface(99, 1500)),
            Err(PortError::Exhausted("eth99".into()))
        );
    }
}
