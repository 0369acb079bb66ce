//! Which service a packet is for.

use lb_common::packet::{Family, ICMP, ICMPV6, Packet, Transport};
use lb_common::service::{LATER_FRAGMENTS, Service, ServiceKey, vip_filter, vip_filter_index};

use crate::maps;

/// What the packet's destination is.
pub enum Found {
    /// A service.
    Service(&'static Service),
    /// A VIP, asked for itself and not for a service of it.
    Vip,
    /// Nothing of ours.
    Nothing,
}

/// Looks the destination up.
#[inline(always)]
pub fn find(packet: &Packet) -> Found {
    match Filter::of(packet) {
        Some(filter) => filter.find(packet),
        None => Found::Nothing,
    }
}

/// What the filter says of a packet's destination: it answers for almost all packets that are not
/// ours, at the price of an array lookup in place of a hash lookup.
pub struct Filter(u32);

impl Filter {
    /// `None` if the destination is no VIP.
    #[inline(always)]
    pub fn of(packet: &Packet) -> Option<Self> {
        let filter = maps::vip_filter(vip_filter_index(&packet.destination));
        (filter & vip_filter::VIP != 0).then_some(Self(filter))
    }

    #[inline(always)]
    fn find(self, packet: &Packet) -> Found {
        match packet.transport {
            Transport::Tcp(_) | Transport::Udp | Transport::Error => match self.service(packet) {
                Some(service) => Found::Service(service),
                None => Found::Nothing,
            },
            Transport::EchoRequest => vip(packet),
            // Without a port it may be of any service with this protocol.
            Transport::LaterFragment
                if self.0 & vip_filter::of_protocol(packet.protocol) != 0
                    && !is_icmp_of_other_family(packet) =>
            {
                later_fragment(packet)
            }
            Transport::LaterFragment => Found::Nothing,
        }
    }

    /// The service of a packet that has a port.
    #[inline(always)]
    pub fn service(self, packet: &Packet) -> Option<&'static Service> {
        let mut key = key(packet, packet.destination_port(), packet.protocol);
        let service = maps::service(key);
        if service.is_some() || self.0 & vip_filter::ANY_PORT == 0 {
            return service;
        }
        key.port = [0; 2];
        maps::service(key)
    }
}

/// The service that takes the VIP's fragments, if one does.
#[inline(always)]
fn later_fragment(packet: &Packet) -> Found {
    let mut key = key(packet, [0; 2], packet.protocol);
    key.pad = LATER_FRAGMENTS;
    match maps::service(key) {
        Some(service) => Found::Service(service),
        None => vip(packet),
    }
}

/// Whether the destination is a VIP at all, by the VIP's own entry.
#[inline(always)]
fn vip(packet: &Packet) -> Found {
    match maps::service(key(packet, [0; 2], icmp(packet))) {
        Some(_) => Found::Vip,
        None => Found::Nothing,
    }
}

/// ICMP as the packet's family has it.
#[inline(always)]
fn icmp(packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => ICMP,
        Family::V6 => ICMPV6,
    }
}

/// Whether it is ICMP as only the other family has it: nothing that a VIP would ever answer.
#[inline(always)]
fn is_icmp_of_other_family(packet: &Packet) -> bool {
    matches!(packet.protocol, ICMP | ICMPV6) && packet.protocol != icmp(packet)
}

#[inline(always)]
fn key(packet: &Packet, port: [u8; 2], protocol: u8) -> ServiceKey {
    ServiceKey {
        address: packet.destination,
        port,
        protocol,
        pad: 0,
    }
}
