//! A packet on its way to a backend.

use crate::count::{Drop, Traffic};
use crate::frame::{ETHERNET, Parsed};
use crate::hash;
use crate::plane::{Plane, Verdict};
use crate::sum::Sum;
use crate::world::{Carriage, PORTS_MAX, Port, Service, rung};

impl Plane {
    /// Sends the packet to a backend, and counts it.
    pub(crate) fn forward(
        &mut self,
        packet: &Parsed,
        frame: &[u8],
        service: &Service,
        hash: u64,
        id: u16,
        interface: u32,
    ) -> Verdict {
        let Some(backend) = self.world.backends.get(usize::from(id)).copied() else {
            return self.drop(Drop::Internal);
        };
        let Some((mac, port)) = backend.hop else {
            return self.drop(Drop::NoNextHop);
        };
        let Some(port) = self.port(port) else {
            return self.drop(Drop::NoDevice);
        };
        let overhead = match backend.carriage {
            Carriage::Ethernet => 0,
            Carriage::V4 => 20,
            Carriage::V6 => 40,
            Carriage::None => return self.drop(Drop::Internal),
        };
        if port.interface == 0 {
            return self.drop(Drop::NoDevice);
        }
        if packet.length() + overhead > port.mtu as usize {
            return self.too_big(packet, frame, (port.mtu as usize).saturating_sub(overhead));
        }
        self.out.clear();
        self.ethernet(
            &mac,
            &port,
            if overhead == 0 {
                packet.v6
            } else {
                overhead == 40
            },
        );
        match backend.carriage {
            Carriage::V4 => self.outer_v4(packet, &backend.address, hash),
            Carriage::V6 => self.outer_v6(packet, &backend.address, hash),
            _ => {}
        }
        self.out.extend_from_slice(&frame[packet.network..]);
        self.clamp(packet, frame, service);
        let verdict = if port.interface == interface {
            Verdict::Transmit
        } else if port.has_device {
            Verdict::Redirect
        } else {
            return self.drop(Drop::NoDevice);
        };
        self.sent_to = Some(id);
        self.count_traffic(packet, service, hash, id);
        verdict
    }

    /// What the map holds of a port; all zeros where nobody has written.
    fn port(&self, index: u16) -> Option<Port> {
        let index = usize::from(index);
        let port = self.world.ports.get(index).copied().unwrap_or_default();
        (index < PORTS_MAX).then_some(port)
    }

    fn count_traffic(&mut self, packet: &Parsed, service: &Service, hash: u64, id: u16) {
        let ladders = &self.world.pools[usize::from(service.pool)].ladders;
        let home = hash::slot_of(hash, ladders.len() as u32);
        let traffic = Traffic {
            packets: 1,
            bytes: (packet.length() + ETHERNET) as u64,
            new_flows: u64::from(packet.is_syn()),
            diverted: u64::from(rung(ladders[home as usize], 0) != id),
        };
        let counters = &mut self.counters;
        for total in [
            &mut counters.services[service.counters as usize],
            &mut counters.backends[usize::from(id)],
        ] {
            total.packets += traffic.packets;
            total.bytes += traffic.bytes;
            total.new_flows += traffic.new_flows;
            total.diverted += traffic.diverted;
        }
    }

    fn ethernet(&mut self, to: &[u8; 6], port: &Port, v6: bool) {
        self.out.extend_from_slice(to);
        self.out.extend_from_slice(&port.mac);
        for tag in port.tags.iter().filter(|tag| **tag != 0) {
            self.out.extend_from_slice(&tag.to_be_bytes());
        }
        let kind: u16 = if v6 { 0x86dd } else { 0x0800 };
        self.out.extend_from_slice(&kind.to_be_bytes());
    }

    /// RFC 2003; DSCP and ECN are copied (RFC 6040, normal mode).
    fn outer_v4(&mut self, packet: &Parsed, to: &hash::Ip, hash: u64) {
        let settings = &self.world.settings;
        let entropy = hash::entropy(hash).to_le_bytes();
        let mut header = [0; 20];
        header[0] = 0x45;
        header[1] = packet.class;
        header[2..4].copy_from_slice(&((packet.length() + 20) as u16).to_be_bytes());
        header[6] = 0x40;
        header[8] = 64;
        header[9] = if packet.v6 { 41 } else { 4 };
        for at in 0..4 {
            header[12 + at] = settings.source_v4[at] | settings.fill_v4[at] & entropy[at];
        }
        header[16..].copy_from_slice(&to[12..]);
        let sum = Sum::default().bytes(&header).finish();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        self.out.extend_from_slice(&header);
    }

    /// RFC 2473, without a tunnel encapsulation limit.
    fn outer_v6(&mut self, packet: &Parsed, to: &hash::Ip, hash: u64) {
        let settings = &self.world.settings;
        let entropy = hash::entropy(hash).to_le_bytes();
        let mut header = [0; 40];
        let label = hash::entropy(hash) >> 12;
        let first = 6 << 28 | u32::from(packet.class) << 20 | label;
        header[..4].copy_from_slice(&first.to_be_bytes());
        header[4..6].copy_from_slice(&(packet.length() as u16).to_be_bytes());
        header[6] = if packet.v6 { 41 } else { 4 };
        header[7] = 64;
        header[8..24].copy_from_slice(&settings.source_v6);
        for at in 0..4 {
            header[20 + at] |= settings.fill_v6[at] & entropy[at];
        }
        header[24..].copy_from_slice(to);
        self.out.extend_from_slice(&header);
    }
}
