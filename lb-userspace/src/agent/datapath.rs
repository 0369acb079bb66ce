//! The kernel's side of the gateway: loads the program, opens or creates the pinned maps, attaches
//! to interfaces, writes what `plan` decided, reads what is there.
//!
//! The only user of aya and, with [`mapping`], the only place with unsafe code. It decides nothing.

mod attach;
mod clock;
mod counters;
mod flows;
mod mapping;
mod pins;
mod ring;
mod tables;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use aya::maps::xdp::XdpMapError;
use aya::maps::{
    Array, ArrayOfMaps, DevMap, HashMap, MapData, MapError, PerCpuArray, PerCpuValues,
};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::backend::{Backend, BackendId};
use lb_common::counters::Traffic;
use lb_common::event::{FINGERPRINTS, Suspicion};
use lb_common::flow::{FlowEntry, FlowKey};
use lb_common::ladder::Slot;
use lb_common::maps::{self, BACKENDS_MAX, POOLS_MAX, PORTS_MAX, SERVICES_MAX, name};
use lb_common::pool::{Pool, PoolId};
use lb_common::port::Port;
use lb_common::service::{
    SERVICE_CELLS, Service, ServiceCell, ServiceKey, VIP_FILTER_ENTRIES, service_cell_index,
};
use lb_common::settings::Settings;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use self::attach::{AttachError, AttachMode, Attachment};
pub use self::clock::{Heartbeat, monotonic_ns};
pub use self::counters::Counters;
pub use self::flows::{FlowMaps, FlowSizes, Listing, Position};
pub use self::mapping::{BackendStates, ClockWords};
pub use self::pins::{PinError, PinLock, Pins, remove as remove_pins};
pub use self::ring::EventRing;

use self::mapping::LiveTable;
use crate::agent::flows::Table;
use crate::agent::plan::{Actual, MapWrite};

/// The eBPF object that the build script made; empty in a build with `LB_SKIP_BPF=1`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf"));

/// The eBPF object, for tests that load the program with maps of their own; empty in a build without.
#[must_use]
pub fn object() -> &'static [u8] {
    OBJECT
}

/// Why the data plane could not be brought up, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The binary was built without the program.
    #[error(
        "this lb was built without its eBPF program (LB_SKIP_BPF=1); build it again without that \
         variable"
    )]
    NoProgram,
    /// The kernel refused for lack of privilege.
    #[error("the kernel does not let this process load BPF programs; run lb agent as root")]
    NotPermitted,
    /// The kernel refused the program or a map.
    #[error("the kernel refused the eBPF program; lb wants Linux 5.18 or newer: {0}")]
    Load(String),
    /// Pinning failed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map could not be read or written.
    #[error("map {map}: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// A map could not be mapped into memory.
    #[error("map {map}: cannot map it into memory: {source}")]
    Mapping {
        /// Name of the map.
        map: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// How to bring the data plane up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration's `[agent].pin`.
    pub pin: PathBuf,
    /// Whether the program logs packets. Off costs nothing: the verifier removes the code.
    pub log_packets: bool,
    /// Entries of `FLOWS`, if the maps are made now; `FLOWS_NEW` gets a quarter.
    pub flows_max: u32,
    /// Whether the program takes the time from `CLOCK` in place of the kernel's clock. For tests.
    pub clock_in_map: bool,
}

impl Options {
    /// What an agent without special wishes takes, below this path.
    #[must_use]
    pub fn at(pin: impl Into<PathBuf>) -> Self {
        Self {
            pin: pin.into(),
            log_packets: false,
            flows_max: maps::FLOWS_DEFAULT,
            clock_in_map: false,
        }
    }
}

/// The data plane of this host.
pub struct Datapath {
    ebpf: Ebpf,
    pins: Pins,
    is_taken_over: bool,
    /// Nobody else writes to this data plane.
    _lock: PinLock,
    services: HashMap<MapData, ServiceKey, Service>,
    service_cells: Array<MapData, ServiceCell>,
    vips: Array<MapData, u32>,
    pools: Array<MapData, Pool>,
    tables: ArrayOfMaps<MapData, MapData>,
    /// The tables that the program reads, mapped as they were needed.
    live_tables: BTreeMap<PoolId, LiveTable>,
    backends: Array<MapData, Backend>,
    ports: Array<MapData, Port>,
    devices: DevMap<MapData>,
    settings: Array<MapData, Settings>,
    service_traffic: PerCpuArray<MapData, Traffic>,
    backend_traffic: PerCpuArray<MapData, Traffic>,
}

/// Kernel memory that the maps take, in bytes: what loading will cost, before it is done.
#[must_use]
pub fn memory_bytes(table_slots: impl Iterator<Item = u32>, flows: FlowSizes) -> u64 {
    // Per element: the kernel's header of a hash element and its bucket are about 64 bytes.
    const HASH_OVERHEAD: u64 = 64;
    const RECORD: u64 = (size_of::<FlowKey>() + size_of::<FlowEntry>()) as u64;
    let cpus = aya::util::nr_cpus().unwrap_or(1);
    let traffic = size_of::<Traffic>() as u64 * cpus as u64;
    let suspicions = size_of::<Suspicion>() as u64 * cpus as u64;
    let marks = u64::from(FINGERPRINTS) * 8;
    let flows = u64::from(flows.kept) + u64::from(flows.new);
    let tables: u64 = table_slots
        .map(|slots| 2 * u64::from(slots) * size_of::<Slot>() as u64)
        .sum();
    u64::from(SERVICES_MAX) * (36 + HASH_OVERHEAD + traffic)
        + u64::from(BACKENDS_MAX) * (size_of::<Backend>() as u64 + traffic + suspicions)
        + flows * (RECORD + HASH_OVERHEAD)
        + marks
        + u64::from(maps::EVENTS_BYTES)
        + u64::from(POOLS_MAX) * size_of::<Pool>() as u64
        + u64::from(VIP_FILTER_ENTRIES) * 8
        + u64::from(SERVICE_CELLS) * size_of::<ServiceCell>() as u64
        + tables
}

impl Datapath {
    /// Loads the program and opens the pinned maps, creating what is not there yet. Attaches
    /// nothing and changes nothing that runs.
    ///
    /// # Errors
    /// Says what the kernel lacks or refuses, and what to do about it.
    pub fn open(options: &Options) -> Result<Self, DatapathError> {
        if OBJECT.is_empty() {
            return Err(DatapathError::NoProgram);
        }
        let pins = Pins::prepare(&options.pin)?;
        // Another agent may listen on another control socket.
        let lock = pins.lock()?;
        let is_first = !pins.exist();
        Self::load(options, pins, lock).inspect_err(|_| {
            // A kernel that refuses the program has taken its maps already: leave no trace of them.
            if is_first && let Err(error) = remove_pins(&options.pin) {
                tracing::warn!(%error, "cannot remove what was pinned");
            }
        })
    }

    fn load(options: &Options, pins: Pins, lock: PinLock) -> Result<Self, DatapathError> {
        let log_level = if options.log_packets {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let mut loader = EbpfLoader::new();
        // With the level fixed at load time, the verifier proves the logging dead and drops it.
        loader.override_global(aya_log::LEVEL, &log_level, false);
        let clock_in_map = u32::from(options.clock_in_map);
        loader.override_global(maps::CLOCK_IN_MAP, &clock_in_map, false);
        let tick_ns = clock::tick_ns();
        loader.override_global(maps::TICK_NS, &tick_ns, false);
        let sizes = FlowSizes::of(options.flows_max);
        loader.map_max_entries(name::FLOWS, sizes.kept);
        loader.map_max_entries(name::FLOWS_NEW, sizes.new);
        for map in name::ALL {
            loader.map_pin_path(map, pins.map(map));
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error))?;
        let program: &mut Xdp = ebpf
            .program_mut(maps::PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| DatapathError::Load("the object has no gateway program".into()))?;
        program.load().map_err(|error| refused(&error))?;
        Self::with_maps(ebpf, pins, lock)
    }

    fn with_maps(mut ebpf: Ebpf, pins: Pins, lock: PinLock) -> Result<Self, DatapathError> {
        macro_rules! take {
            ($name:ident) => {
                ebpf.take_map(name::$name)
                    .ok_or(MapError::InvalidName {
                        name: name::$name.into(),
                    })
                    .and_then(TryInto::try_into)
                    .map_err(|source| DatapathError::Map {
                        map: name::$name,
                        source,
                    })?
            };
        }
        Ok(Self {
            services: take!(SERVICES),
            service_cells: take!(SERVICE_CELLS),
            vips: take!(VIPS),
            pools: take!(POOLS),
            tables: take!(TABLES),
            live_tables: BTreeMap::new(),
            backends: take!(BACKENDS),
            ports: take!(PORTS),
            devices: take!(DEVICES),
            settings: take!(SETTINGS),
            service_traffic: take!(SERVICE_TRAFFIC),
            backend_traffic: take!(BACKEND_TRAFFIC),
            ebpf,
            pins,
            is_taken_over: false,
            _lock: lock,
        })
    }

    /// The states and next hops of all backends, mapped into this process.
    ///
    /// # Errors
    /// The kernel's, if it cannot map the array.
    pub fn backend_states(&self) -> Result<BackendStates, DatapathError> {
        let map = pinned(&self.pins, name::BACKENDS)?;
        BackendStates::map(&MapFdNumber::of(&map), BACKENDS_MAX).map_err(|source| {
            DatapathError::Mapping {
                map: name::BACKENDS,
                source,
            }
        })
    }

    /// The maps of flows, independent of this writer.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn flow_maps(&self) -> Result<FlowMaps, DatapathError> {
        FlowMaps::open(&self.pins)
    }

    /// The ring of what the program tells at once.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn event_ring(&self) -> Result<EventRing, DatapathError> {
        EventRing::open(&self.pins)
    }

    /// The agent's sign of life and the time of tests, mapped into this process.
    ///
    /// # Errors
    /// The kernel's, if it cannot map the array.
    pub fn clock(&self) -> Result<ClockWords, DatapathError> {
        let map = pinned(&self.pins, name::CLOCK)?;
        ClockWords::map(&MapFdNumber::of(&map)).map_err(|source| DatapathError::Mapping {
            map: name::CLOCK,
            source,
        })
    }

    /// Says that this agent is alive, from now until what is returned is dropped.
    ///
    /// # Errors
    /// The kernel's, if it cannot map the array or start a thread.
    pub fn heartbeat(&self) -> Result<Heartbeat, DatapathError> {
        Heartbeat::start(self.clock()?).map_err(|source| DatapathError::Mapping {
            map: name::CLOCK,
            source,
        })
    }

    /// A reader of the counters, independent of this writer.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn counters(&self) -> Result<Counters, DatapathError> {
        Counters::open(&self.pins)
    }

    /// The gateway program, for tests that run packets through it.
    ///
    /// # Errors
    /// If the object does not hold the program.
    pub fn program(&mut self) -> Result<&mut Xdp, DatapathError> {
        self.ebpf
            .program_mut(maps::PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| DatapathError::Load("the object has no gateway program".into()))
    }

    /// Sends what the program logs of packets to this daemon's own log, until the daemon ends.
    ///
    /// # Errors
    /// If the object has no log, or the kernel refuses to watch it.
    pub fn forward_packet_log(&mut self) -> anyhow::Result<()> {
        let logger = aya_log::EbpfLogger::init(&mut self.ebpf)?;
        #[expect(
            deprecated,
            reason = "the other constructor is unsafe; this reader owns its map"
        )]
        let mut readable = AsyncFd::with_interest(logger, Interest::READABLE)?;
        tokio::spawn(async move {
            while let Ok(mut guard) = readable.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        });
        Ok(())
    }

    /// Whether the interfaces run the program that this process loaded, and not an earlier agent's.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.is_taken_over
    }

    /// Says so.
    pub fn set_taken_over(&mut self) {
        self.is_taken_over = true;
    }

    /// Where this data plane is pinned.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Carries out one write of a plan.
    ///
    /// # Errors
    /// The kernel's, with the map's name. A write that failed changed nothing.
    pub fn apply(&mut self, write: &MapWrite) -> Result<(), DatapathError> {
        match write {
            MapWrite::Settings(settings) => set(&mut self.settings, name::SETTINGS, 0, settings),
            MapWrite::Port { index, port } => {
                set(&mut self.ports, name::PORTS, u32::from(*index), port)?;
                self.devices
                    .set(u32::from(*index), port.interface_index, None, 0)
                    .map_err(|error| match error {
                        XdpMapError::MapError(source) => source,
                        // Only a program behind the device can cause it, and none is given.
                        XdpMapError::ChainedProgramNotSupported => {
                            MapError::IoError(io::ErrorKind::Unsupported.into())
                        }
                    })
                    .map_err(|source| DatapathError::Map {
                        map: name::DEVICES,
                        source,
                    })
            }
            MapWrite::Backend { id, backend } => {
                set(&mut self.backends, name::BACKENDS, u32::from(id.0), backend)
            }
            MapWrite::ZeroBackendTraffic(id) => zero(
                &mut self.backend_traffic,
                name::BACKEND_TRAFFIC,
                u32::from(id.0),
            ),
            MapWrite::Pool { id, pool } => set(&mut self.pools, name::POOLS, id.0, pool),
            MapWrite::Table { pool, table } => self.publish_table(*pool, table),
            // An array of maps has no removal in aya; one empty slot gives the memory back.
            MapWrite::RemoveTable(pool) => self.publish_table(*pool, &Table::fresh([Slot::EMPTY])),
            MapWrite::Vip { index, flags } => set(&mut self.vips, name::VIPS, *index, flags),
            MapWrite::ZeroServiceTraffic(counters) => {
                zero(&mut self.service_traffic, name::SERVICE_TRAFFIC, *counters)
            }
            MapWrite::Service { key, service } => {
                self.vacate_cell(key)?;
                self.services
                    .insert(key, service, 0)
                    .map_err(|source| DatapathError::Map {
                        map: name::SERVICES,
                        source,
                    })?;
                self.occupy_cell(key, service)
            }
            MapWrite::RemoveService(key) => {
                self.vacate_cell(key)?;
                self.services
                    .remove(key)
                    .map_err(|source| DatapathError::Map {
                        map: name::SERVICES,
                        source,
                    })
            }
        }
    }

    /// Copies a service to its cell, if no other service has it. The service first, then the key:
    /// a packet that finds the key finds the service.
    fn occupy_cell(&mut self, key: &ServiceKey, service: &Service) -> Result<(), DatapathError> {
        const MAP: &str = name::SERVICE_CELLS;
        let index = service_cell_index(key);
        if get(&self.service_cells, MAP, index)?.key != ServiceKey::VACANT {
            return Ok(());
        }
        for key in [ServiceKey::VACANT, *key] {
            let cell = ServiceCell {
                service: *service,
                key,
                pad: 0,
            };
            set(&mut self.service_cells, MAP, index, &cell)?;
        }
        Ok(())
    }

    /// Takes the key of a service's cell away: its packets are looked up in the hash table.
    fn vacate_cell(&mut self, key: &ServiceKey) -> Result<(), DatapathError> {
        const MAP: &str = name::SERVICE_CELLS;
        let index = service_cell_index(key);
        let cell = get(&self.service_cells, MAP, index)?;
        if cell.key != *key {
            return Ok(());
        }
        let vacant = ServiceCell {
            key: ServiceKey::VACANT,
            ..cell
        };
        set(&mut self.service_cells, MAP, index, &vacant)
    }

    /// Reads everything that the plan compares with: the maps as they stand in the kernel.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn actual(&self) -> Result<Actual, DatapathError> {
        let mut actual = Actual {
            settings: get(&self.settings, name::SETTINGS, 0)?,
            vips: read_all(&self.vips, name::VIPS)?,
            ..Actual::default()
        };
        for index in 0..PORTS_MAX as u16 {
            let port = get(&self.ports, name::PORTS, u32::from(index))?;
            if port.interface_index != 0 {
                actual.ports.insert(index, port);
            }
        }
        for id in 0..POOLS_MAX {
            let pool = get(&self.pools, name::POOLS, id)?;
            if pool.slots != 0 {
                actual.pools.insert(PoolId(id), pool);
                if let Some(table) = self.table(PoolId(id), pool.slots)? {
                    let ladder = |slot: &Slot| Slot(slot.0 & !Slot::FLAGS);
                    let ladders = table.slots.iter().map(ladder).collect();
                    actual.tables.insert(PoolId(id), ladders);
                }
            }
        }
        for id in 0..BACKENDS_MAX as u16 {
            let backend = get(&self.backends, name::BACKENDS, u32::from(id))?;
            if backend != Backend::FREE {
                actual.backends.insert(BackendId(id), backend);
            }
        }
        actual.services = self
            .services
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|source| DatapathError::Map {
                map: name::SERVICES,
                source,
            })?;
        Ok(actual)
    }
}

fn refused(error: &(dyn std::error::Error + 'static)) -> DatapathError {
    let not_permitted = |error: &&(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
                && !nix::unistd::Uid::effective().is_root()
        })
    };
    if causes(error).any(|cause| not_permitted(&cause)) {
        return DatapathError::NotPermitted;
    }
    let text: Vec<String> = causes(error).map(ToString::to_string).collect();
    DatapathError::Load(text.join(": "))
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn pinned(pins: &Pins, map: &'static str) -> Result<MapData, DatapathError> {
    MapData::from_pin(pins.map(map)).map_err(|source| DatapathError::Map { map, source })
}

fn set<V: Pod>(
    map: &mut Array<MapData, V>,
    name: &'static str,
    index: u32,
    value: &V,
) -> Result<(), DatapathError> {
    map.set(index, value, 0)
        .map_err(|source| DatapathError::Map { map: name, source })
}

fn get<V: Pod>(
    map: &Array<MapData, V>,
    name: &'static str,
    index: u32,
) -> Result<V, DatapathError> {
    map.get(&index, 0)
        .map_err(|source| DatapathError::Map { map: name, source })
}

fn read_all<V: Pod>(map: &Array<MapData, V>, name: &'static str) -> Result<Vec<V>, DatapathError> {
    map.iter()
        .collect::<Result<_, _>>()
        .map_err(|source| DatapathError::Map { map: name, source })
}

fn zero(
    map: &mut PerCpuArray<MapData, Traffic>,
    name: &'static str,
    index: u32,
) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::Map { map: name, source };
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed(MapError::IoError(error)))?;
    let zeros = PerCpuValues::try_from(vec![Traffic::default(); cpus])
        .map_err(|error| failed(MapError::IoError(error)))?;
    map.set(index, zeros, 0).map_err(failed)
}

/// The number of a map's descriptor, in the form that memory mapping asks for.
struct MapFdNumber(std::os::fd::RawFd);

impl MapFdNumber {
    fn of(map: &MapData) -> Self {
        use std::os::fd::{AsFd, AsRawFd};
        Self(map.fd().as_fd().as_raw_fd())
    }
}

impl std::os::fd::AsRawFd for MapFdNumber {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0
    }
}
