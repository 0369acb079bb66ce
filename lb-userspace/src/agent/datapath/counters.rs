//! Reading what the program counts. Opens the maps anew, so that reading never waits for writing.

use std::collections::BTreeMap;

use aya::maps::{MapData, PerCpuArray};
use lb_common::backend::BackendId;
use lb_common::counters::{FlowCount, Pass, Reply, Traffic};
use lb_common::event::Suspicion;
use lb_common::maps::name;
use lb_common::verdict::DropReason;

use super::{DatapathError, Pins, pinned};

/// The counters of the data plane, summed over the CPUs as they are read.
pub struct Counters {
    service_traffic: PerCpuArray<MapData, Traffic>,
    backend_traffic: PerCpuArray<MapData, Traffic>,
    drops: PerCpuArray<MapData, u64>,
    replies: PerCpuArray<MapData, u64>,
    passes: PerCpuArray<MapData, u64>,
    flow_counts: PerCpuArray<MapData, u64>,
    suspicions: PerCpuArray<MapData, Suspicion>,
}

impl Counters {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        macro_rules! open {
            ($name:ident) => {
                aya::maps::Map::PerCpuArray(pinned(pins, name::$name)?)
                    .try_into()
                    .map_err(|source| DatapathError::Map {
                        map: name::$name,
                        source,
                    })?
            };
        }
        Ok(Self {
            service_traffic: open!(SERVICE_TRAFFIC),
            backend_traffic: open!(BACKEND_TRAFFIC),
            drops: open!(DROPS),
            replies: open!(REPLIES),
            passes: open!(PASSES),
            flow_counts: open!(FLOW_COUNTS),
            suspicions: open!(SUSPICIONS),
        })
    }

    /// Traffic of the service with these counters.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn service(&self, counters: u32) -> Result<Traffic, DatapathError> {
        sum_traffic(&self.service_traffic, name::SERVICE_TRAFFIC, counters)
    }

    /// Traffic of a backend.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn backend(&self, id: BackendId) -> Result<Traffic, DatapathError> {
        sum_traffic(
            &self.backend_traffic,
            name::BACKEND_TRAFFIC,
            u32::from(id.0),
        )
    }

    /// Packets dropped so far, by reason.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn drops(&self) -> Result<BTreeMap<&'static str, u64>, DatapathError> {
        DropReason::ALL
            .iter()
            .map(|reason| {
                Ok((
                    reason.name(),
                    sum(&self.drops, name::DROPS, *reason as u32)?,
                ))
            })
            .collect()
    }

    /// Packets that the program answered by itself so far, by kind.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn replies(&self) -> Result<BTreeMap<&'static str, u64>, DatapathError> {
        Reply::ALL
            .iter()
            .map(|reply| {
                Ok((
                    reply.name(),
                    sum(&self.replies, name::REPLIES, *reply as u32)?,
                ))
            })
            .collect()
    }

    /// Packets left to the gateway's own kernel so far, by reason.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn passes(&self) -> Result<BTreeMap<&'static str, u64>, DatapathError> {
        Pass::ALL
            .iter()
            .map(|pass| Ok((pass.name(), sum(&self.passes, name::PASSES, *pass as u32)?)))
            .collect()
    }

    /// What was done with the maps of flows so far.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn flow_counts(&self) -> Result<BTreeMap<&'static str, u64>, DatapathError> {
        FlowCount::ALL
            .iter()
            .map(|count| Ok((count.name(), self.flow_count(*count)?)))
            .collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn flow_count(&self, count: FlowCount) -> Result<u64, DatapathError> {
        sum(&self.flow_counts, name::FLOW_COUNTS, count as u32)
    }

    /// What live traffic says against a backend: SYNs that were repeated, and resets, since the
    /// maps were made.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn suspicions(&self, id: BackendId) -> Result<(u64, u64), DatapathError> {
        let values =
            self.suspicions
                .get(&u32::from(id.0), 0)
                .map_err(|source| DatapathError::Map {
                    map: name::SUSPICIONS,
                    source,
                })?;
        let add = |(syns, resets): (u64, u64), cpu: &Suspicion| {
            (syns + cpu.repeated_syns, resets + cpu.resets)
        };
        Ok(values.iter().fold((0, 0), add))
    }
}

fn sum(
    map: &PerCpuArray<MapData, u64>,
    name: &'static str,
    index: u32,
) -> Result<u64, DatapathError> {
    let values = map
        .get(&index, 0)
        .map_err(|source| DatapathError::Map { map: name, source })?;
    Ok(values.iter().sum())
}

fn sum_traffic(
    map: &PerCpuArray<MapData, Traffic>,
    name: &'static str,
    index: u32,
) -> Result<Traffic, DatapathError> {
    let values = map
        .get(&index, 0)
        .map_err(|source| DatapathError::Map { map: name, source })?;
    let mut total = Traffic::default();
    for cpu in values.iter() {
        total += *cpu;
    }
    Ok(total)
}
