//! Between the model's words and the bytes in the maps: the one place that knows both.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lb_common::address::Address;
use lb_common::flow::FlowEntry;
use lb_common::maps::name;
use lb_common::service::{ServiceKey, service_cell_index, vip_filter, vip_filter_index};
use lb_model::count::{Event, Kind};
use lb_model::flow::Record;
use lb_model::frame::{self, is_mapped};
use lb_model::hash::{Ip, Key};
use lb_model::plane::Plane;
use lb_model::world::{self, Backend, Carriage, OnEmpty, Pool, Port, Service, World};

use crate::kernel::{Kernel, Memory};

/// Writes what differs between two worlds; `None` is a world of which nothing is known.
///
/// # Errors
/// The kernel's.
pub fn write(kernel: &Kernel, before: Option<&World>, after: &World) -> Result<()> {
    kernel.store(Memory::Clock, 0, after.heartbeat);
    kernel.store(Memory::Clock, 1, after.now);
    for id in 0..after.backends.len() {
        // Each of them: the program itself may have set TRACK.
        write_backend(kernel, id, &after.backends[id]);
    }
    for (id, pool) in after.pools.iter().enumerate() {
        let before = before.map(|before| &before.pools[id]);
        write_pool(kernel, id, before, pool)?;
    }
    let is_same = before.is_some_and(|it| it.ports == after.ports && it.settings == after.settings);
    if !is_same {
        write_ports(kernel, after)?;
    }
    if before.is_none_or(|before| before.services != after.services) {
        write_services(kernel, before, after)?;
    }
    Ok(())
}

/// Writes what has changed since `written`, which it brings up to date: what a step may change.
pub fn follow(kernel: &Kernel, written: &mut World, after: &World) {
    kernel.store(Memory::Clock, 0, after.heartbeat);
    kernel.store(Memory::Clock, 1, after.now);
    let backends = written.backends.iter_mut().zip(&after.backends);
    for (id, (written, after)) in backends.enumerate() {
        // Beside what is known to stand there, the program itself may have set TRACK.
        if written != after || kernel.backend_word(id * 8) as u32 != after.state {
            write_backend(kernel, id, after);
            *written = *after;
        }
    }
    for (id, (written, after)) in written.pools.iter_mut().zip(&after.pools).enumerate() {
        let words = written.ladders.iter_mut().chain(&mut written.previous);
        let after = after.ladders.iter().chain(&after.previous);
        for (at, (written, after)) in words.zip(after).enumerate() {
            if written != after {
                kernel.store(Memory::Table(id), at, *after);
                *written = *after;
            }
        }
    }
}

fn write_backend(kernel: &Kernel, id: usize, after: &Backend) {
    let element = backend(after);
    let (words, _) = element.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        kernel.store(Memory::Backends, id * 8 + at, u64::from_ne_bytes(*word));
    }
}

fn write_pool(kernel: &Kernel, id: usize, before: Option<&Pool>, after: &Pool) -> Result<()> {
    let slots = after.ladders.len();
    for (slot, ladder) in after.ladders.iter().enumerate() {
        if before.is_none_or(|before| before.ladders[slot] != *ladder) {
            kernel.store(Memory::Table(id), slot, *ladder);
        }
    }
    for (slot, entry) in after.previous.iter().enumerate() {
        if before.is_none_or(|before| before.previous[slot] != *entry) {
            kernel.store(Memory::Table(id), slots + slot, *entry);
        }
    }
    if before.is_some_and(|it| (it.on_empty, it.resets) == (after.on_empty, after.resets)) {
        return Ok(());
    }
    let mut element = [0; 72];
    element[..4].copy_from_slice(&(slots as u32).to_ne_bytes());
    element[4] = match after.on_empty {
        OnEmpty::Reset => 0,
        OnEmpty::Drop => 1,
        OnEmpty::Pass => 2,
    };
    element[5] = u8::from(!after.resets);
    kernel.update(name::POOLS, &(id as u32).to_ne_bytes(), &element)
}

fn backend(backend: &Backend) -> [u8; 64] {
    let mut element = [0; 64];
    element[..4].copy_from_slice(&backend.state.to_ne_bytes());
    element[4..8].copy_from_slice(&backend.generation.to_ne_bytes());
    if let Some((mac, port)) = backend.hop {
        element[8..14].copy_from_slice(&mac);
        element[14..16].copy_from_slice(&port.to_le_bytes());
    }
    element[16..32].copy_from_slice(&backend.address);
    element[32..36].copy_from_slice(&u32::from(backend.pool).to_ne_bytes());
    element[36] = match backend.carriage {
        Carriage::None => 0,
        Carriage::Ethernet => 1,
        Carriage::V4 => 2,
        Carriage::V6 => 3,
    };
    element
}

fn write_ports(kernel: &Kernel, world: &World) -> Result<()> {
    for index in 0..world::PORTS_MAX {
        let port = world.ports.get(index).copied().unwrap_or_default();
        let key = (index as u32).to_ne_bytes();
        kernel.update(name::PORTS, &key, &element_of_port(&port))?;
        if port.has_device && port.interface != 0 {
            // `struct bpf_devmap_val`: the interface, and no program behind it.
            let device = u64::from(port.interface).to_le_bytes();
            kernel.update(name::DEVICES, &key, &device)?;
        } else {
            kernel.delete(name::DEVICES, &key)?;
        }
    }
    let settings = &world.settings;
    let mut element = [0; 40];
    element[10..12].fill(0xff);
    element[12..16].copy_from_slice(&settings.source_v4);
    element[16..32].copy_from_slice(&settings.source_v6);
    element[32..36].copy_from_slice(&settings.fill_v4);
    element[36..].copy_from_slice(&settings.fill_v6);
    kernel.update(name::SETTINGS, &[0; 4], &element)
}

fn element_of_port(port: &Port) -> [u8; 24] {
    let mut element = [0; 24];
    element[..4].copy_from_slice(&port.interface.to_ne_bytes());
    element[4..8].copy_from_slice(&port.mtu.to_ne_bytes());
    element[8..14].copy_from_slice(&port.mac);
    element[16..20].copy_from_slice(&port.tags[0].to_ne_bytes());
    element[20..].copy_from_slice(&port.tags[1].to_ne_bytes());
    element
}

fn write_services(kernel: &Kernel, before: Option<&World>, after: &World) -> Result<()> {
    if let Some(before) = before {
        for key in before.services.keys() {
            let key = service_key(key);
            kernel.delete(name::SERVICES, &bytes_of(&key))?;
            let index = service_cell_index(&key).to_ne_bytes();
            kernel.update(name::SERVICE_CELLS, &index, &[0; 40])?;
            let index = vip_filter_index(&key.address).to_ne_bytes();
            kernel.update(name::VIPS, &index, &[0; 4])?;
        }
    }
    let mut filters = std::collections::HashMap::<u32, (Ip, u32)>::new();
    let mut services: Vec<_> = after.services.iter().collect();
    services.sort_by_key(|(key, _)| **key);
    for (key, service) in services {
        let map_key = service_key(key);
        let value = service_value(service, after);
        kernel.update(name::SERVICES, &bytes_of(&map_key), &value)?;
        // Every third service is not in its cell: the hash map alone has it.
        if service.counters % 3 != 0 {
            let mut cell = [0; 40];
            cell[..16].copy_from_slice(&value);
            cell[16..36].copy_from_slice(&bytes_of(&map_key));
            let index = service_cell_index(&map_key).to_ne_bytes();
            kernel.update(name::SERVICE_CELLS, &index, &cell)?;
        }
        let filter = filters
            .entry(vip_filter_index(&map_key.address))
            .or_insert((key.vip, 0));
        anyhow::ensure!(
            filter.0 == key.vip,
            "two VIPs of the model fall on one filter entry"
        );
        filter.1 |= vip_filter::VIP | vip_filter::of_protocol(key.protocol);
        let is_service = key.protocol == frame::TCP || key.protocol == frame::UDP;
        if key.port == 0 && !key.later && is_service {
            filter.1 |= vip_filter::ANY_PORT;
        }
    }
    for (index, (_, flags)) in filters {
        kernel.update(name::VIPS, &index.to_ne_bytes(), &flags.to_ne_bytes())?;
    }
    Ok(())
}

/// An address as the maps have it.
#[must_use]
pub fn address(ip: &Ip) -> Address {
    if is_mapped(ip) {
        Address::v4([ip[12], ip[13], ip[14], ip[15]])
    } else {
        Address::v6(*ip)
    }
}

/// The services as the agent knows them.
#[must_use]
pub fn services(world: &World) -> BTreeMap<ServiceKey, lb_common::service::Service> {
    let service = |(key, service): (&world::ServiceKey, &Service)| {
        let slots = world.pools[usize::from(service.pool)].ladders.len() as u32;
        let service = lb_common::service::Service {
            pool: service.pool,
            previous_pool: service.previous_pool,
            slots,
            counters: service.counters,
            detours: service.detours,
            options: service.options,
            mss: service.mss,
        };
        (service_key(key), service)
    };
    world.services.iter().map(service).collect()
}

fn service_key(key: &world::ServiceKey) -> ServiceKey {
    ServiceKey {
        address: address(&key.vip),
        port: key.port.to_be_bytes(),
        protocol: key.protocol,
        pad: u8::from(key.later),
    }
}

fn bytes_of(key: &ServiceKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.address.octets());
    bytes[16..18].copy_from_slice(&key.port);
    bytes[18] = key.protocol;
    bytes[19] = key.pad;
    bytes
}

fn service_value(service: &Service, world: &World) -> [u8; 16] {
    let slots = world.pools[usize::from(service.pool)].ladders.len() as u32;
    let mut value = [0; 16];
    value[..2].copy_from_slice(&service.pool.to_ne_bytes());
    value[2..4].copy_from_slice(&service.previous_pool.to_ne_bytes());
    value[4..8].copy_from_slice(&slots.to_ne_bytes());
    value[8..12].copy_from_slice(&service.counters.to_ne_bytes());
    value[12] = service.detours;
    value[13] = service.options;
    value[14..].copy_from_slice(&service.mss.to_ne_bytes());
    value
}

/// A flow's key as it lies in the maps.
#[must_use]
pub fn flow_key(key: &Key) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&key.source);
    bytes[16..32].copy_from_slice(&key.destination);
    bytes[32..36].copy_from_slice(&key.ports);
    bytes[36] = key.protocol;
    bytes
}

fn key_of(bytes: &[u8; 40]) -> Option<Key> {
    Some(Key {
        source: bytes[..16].try_into().ok()?,
        destination: bytes[16..32].try_into().ok()?,
        ports: bytes[32..36].try_into().ok()?,
        protocol: (bytes[37..] == [0; 3]).then_some(bytes[36])?,
    })
}

/// A record as it lies in the maps.
#[must_use]
pub fn flow_value(record: &Record) -> [u8; 16] {
    let flags = [
        (record.is_superseded, FlowEntry::SUPERSEDED),
        (record.is_closing, FlowEntry::CLOSING),
        (record.is_opened, FlowEntry::OPENED),
    ];
    let flags = flags
        .into_iter()
        .filter(|(is_set, _)| *is_set)
        .fold(0, |all, (_, bit)| all | bit);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&record.generation.to_ne_bytes());
    bytes[4..8].copy_from_slice(&record.isn.to_ne_bytes());
    bytes[8..12].copy_from_slice(&record.last.to_ne_bytes());
    bytes[12..14].copy_from_slice(&record.backend.to_ne_bytes());
    bytes[14..].copy_from_slice(&u16::to_ne_bytes(flags));
    bytes
}

fn record_of(bytes: &[u8; 16]) -> Record {
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (backend, flags) = (word(12) as u16, (word(12) >> 16) as u16);
    Record {
        backend,
        generation: word(0),
        isn: word(4),
        last: word(8),
        is_superseded: flags & FlowEntry::SUPERSEDED != 0,
        is_closing: flags & FlowEntry::CLOSING != 0,
        is_opened: flags & FlowEntry::OPENED != 0,
    }
}

/// The records of a map, in the model's words.
///
/// # Errors
/// The kernel's, or if a key there is none.
pub fn records(kernel: &mut Kernel, map: &'static str) -> Result<Vec<(Key, Record)>> {
    kernel
        .records(map)?
        .map(|(key, value)| {
            Ok((
                key_of(key).context("a key with something in its padding")?,
                record_of(value),
            ))
        })
        .collect()
}

/// Leaves a record in a flow map, or takes it away.
///
/// # Errors
/// The kernel's.
pub fn write_record(kernel: &Kernel, plane: &Plane, is_new: bool, key: &Key) -> Result<()> {
    let (map, records) = if is_new {
        (name::FLOWS_NEW, &plane.flows_new)
    } else {
        (name::FLOWS, &plane.flows)
    };
    match records.get(key) {
        Some(record) => kernel.update(map, &flow_key(key), &flow_value(record)),
        None => kernel.delete(map, &flow_key(key)),
    }
}

/// An event in the model's words.
///
/// # Errors
/// If it says something unknown.
pub fn event(bytes: &[u8; 48]) -> Result<Event> {
    let kinds = [Kind::Suspected, Kind::Rescued, Kind::Reset, Kind::Empty];
    let number = u32::from_ne_bytes(bytes[..4].try_into()?);
    let kind = kinds.into_iter().find(|kind| *kind as u32 == number);
    let key: &[u8; 40] = bytes[8..].try_into()?;
    Ok(Event {
        kind: kind.with_context(|| format!("an event of kind {number}"))?,
        pool: u16::from_ne_bytes([bytes[4], bytes[5]]),
        backend: u16::from_ne_bytes([bytes[6], bytes[7]]),
        flow: key_of(key).context("a flow with something in its padding")?,
    })
}
