//! What is compared: lb with its maps, and the floor with the same services and backends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{ProgramFd, Xdp};
use lb_common::backend::{Backend, BackendId, Encapsulation, NextHop};
use lb_common::ladder::{Previous, RUNGS, Slot};
use lb_common::maps::{FLOWS_DEFAULT, SLOTS_DEFAULT};
use lb_common::packet::{TCP, UDP};
use lb_common::pool::{OnEmpty, PoolId};
use lb_common::port::Port;
use lb_common::service::ServiceKey;
use lb_common::settings::Settings;
use lb_tests::datapath::{Gateway, LOOPBACK};
use lb_tests::mac::Mac;
use lb_userspace::agent::datapath::Options;
use lb_userspace::agent::flows::Table;
use lb_userspace::agent::plan::MapWrite;

use super::packets::{TCP_PORT, UDP_PORT, VIP_V4, VIP_V6};
use super::wrapper::{VIPS, Wrapper};

/// Backends of each family; those of IPv6 come behind those of IPv4.
const BACKENDS: u16 = 200;
/// The pool of the IPv4 services.
const V4: PoolId = PoolId(0);
/// Slots of the floor's table.
const FLOOR_SLOTS: u32 = 65_536;

/// lb, set up with 16 VIPs and 200 backends for each family.
pub struct Contestants {
    gateway: Gateway,
}

impl Contestants {
    /// Loads lb and fills its maps.
    pub fn new() -> Result<Self> {
        Self::behind(LOOPBACK)
    }

    /// The same, for packets that come in by an interface and leave by it.
    pub fn behind(interface: u32) -> Result<Self> {
        let mut gateway = Gateway::with(|options| Options {
            flows_max: FLOWS_DEFAULT,
            ..options
        })?;
        gateway.port(0, interface, Mac([2, 0, 0, 0, 0, 9]), 1500)?;
        gateway.settings(Settings {
            tunnel_source_v4: "198.18.0.0".parse::<IpAddr>()?.into(),
            tunnel_source_v6: "100::".parse::<IpAddr>()?.into(),
            tunnel_fill_v4: u32::from_ne_bytes([0, 0, 0xff, 0xff]),
            tunnel_fill_v6: u32::MAX,
        });
        let v4 = gateway.pool(V4.0, OnEmpty::Reset, table(0));
        let v6 = gateway.pool(1, OnEmpty::Reset, table(BACKENDS));
        for number in 0..BACKENDS {
            let [high, low] = number.to_be_bytes();
            let address = Ipv4Addr::new(10, 1, high, low);
            gateway.backend(number, v4, address, Encapsulation::Ipv4);
            let address = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, number);
            gateway.backend(BACKENDS + number, v6, address, Encapsulation::Ipv6);
        }
        services(&mut gateway, v4, v6)?;
        gateway.apply()?;
        for number in 0..2 * BACKENDS {
            gateway.up(BackendId(number), mac(number), 0);
        }
        Ok(Self { gateway })
    }

    /// lb's program.
    pub fn program(&mut self) -> Result<ProgramFd> {
        Ok(self.gateway.datapath.program()?.fd()?.try_clone()?)
    }

    /// The same, to be attached.
    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        Ok(self.gateway.datapath.program()?)
    }

    /// Makes every slot of the IPv4 table one whose owner changed a moment ago: what was rung 1 is
    /// the owner of before, and every flow is recorded.
    pub fn unsettle(&mut self) -> Result<()> {
        let ladders = &self.gateway.desired.tables[&V4];
        let previous = ladders
            .iter()
            .map(|slot| Previous::new(slot.rung(1), slot.rung(1)));
        let table = Table {
            previous: previous.collect(),
            slots: ladders.iter().map(|it| Slot(it.0 | Slot::FLAGS)).collect(),
        };
        let write = MapWrite::Table { pool: V4, table };
        Ok(self.gateway.datapath.apply(&write)?)
    }

    /// How many flows are recorded for good.
    pub fn recorded(&self) -> Result<usize> {
        let all = self.gateway.datapath.flow_maps()?.all()?;
        Ok(all.iter().filter(|it| !it.is_new).count())
    }

    /// Forgets the flows of which one packet was seen.
    pub fn forget_new(&self) -> Result<()> {
        let mut maps = self.gateway.datapath.flow_maps()?;
        for record in maps.all()?.iter().filter(|it| it.is_new) {
            maps.delete(record)?;
        }
        Ok(())
    }

    /// Gives the floor the same services, backends and port, and a table of the same size.
    pub fn fill_floor(&self, wrapper: &mut Wrapper) -> Result<()> {
        let desired = &self.gateway.desired;
        let mut services: HashMap<MapData, ServiceKey, u32> = wrapper.map("FLOOR_SERVICES")?;
        for (key, service) in &desired.services {
            services.insert(key, u32::from(service.pool) * u32::from(BACKENDS), 0)?;
        }
        let mut slots: Array<MapData, u32> = wrapper.map("FLOOR_TABLE")?;
        for slot in 0..FLOOR_SLOTS {
            slots.set(slot, scattered(slot) % u32::from(BACKENDS), 0)?;
        }
        let mut backends: Array<MapData, Backend> = wrapper.map("FLOOR_BACKENDS")?;
        for (id, backend) in &desired.backends {
            let next_hop = NextHop::new(mac(id.0).0, 0);
            let backend = Backend {
                next_hop,
                ..*backend
            };
            backends.set(u32::from(id.0), backend, 0)?;
        }
        let mut ports: Array<MapData, Port> = wrapper.map("FLOOR_PORTS")?;
        Ok(ports.set(0, desired.ports[&0], 0)?)
    }
}

fn services(gateway: &mut Gateway, v4: PoolId, v6: PoolId) -> Result<()> {
    let first_v4: Ipv4Addr = VIP_V4.parse()?;
    let first_v6: Ipv6Addr = VIP_V6.parse()?;
    for number in 0..VIPS {
        let vip_v4 = Ipv4Addr::from_bits(first_v4.to_bits() + number);
        let vip_v6 = Ipv6Addr::from_bits(first_v6.to_bits() + u128::from(number));
        for (port, protocol) in [(TCP_PORT, TCP), (UDP_PORT, UDP)] {
            gateway.service(vip_v4.into(), port, protocol, v4);
            gateway.service(vip_v6.into(), port, protocol, v6);
        }
    }
    Ok(())
}

/// Every slot names four of the backends from `first` on, at random: to the program that looks
/// them up, as good as what the ladder builder makes.
fn table(first: u16) -> Vec<Slot> {
    let rung = |slot: u32, rung: u32| {
        let number = scattered(slot * RUNGS as u32 + rung) % u32::from(BACKENDS);
        BackendId(first + number as u16)
    };
    (0..SLOTS_DEFAULT)
        .map(|slot| Slot::new([0, 1, 2, 3].map(|number| rung(slot, number))))
        .collect()
}

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac([2, 0, 0, 1, high, low])
}

/// A number that looks random, the same in every run.
fn scattered(number: u32) -> u32 {
    let mixed = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbb67_ae85_84ca_a73b) >> 32) as u32
}
