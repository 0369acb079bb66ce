//! The maps of flows: listing, looking up and deleting records. Opens the maps anew, so that a sweep
//! never waits for the writer of the tables, nor that for it.
#![expect(
    unsafe_code,
    reason = "aya has no batches; the system call takes pointers"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{HashMap, IterableMap, MapData, MapError};
use lb_common::flow::{FlowEntry, FlowKey};
use lb_common::maps::name;

use super::{DatapathError, Pins, pinned};
use crate::agent::flows::Listed;

/// Records that one system call brings, if no bucket holds more: bounds the time of a step.
const BATCH: u32 = 4096;
/// A bucket with more records than a batch takes makes the kernel refuse; then the batch grows, to
/// this at most.
const BATCH_MAX: u32 = 1 << 20;

/// `FLOWS` and `FLOWS_NEW`.
pub struct FlowMaps {
    kept: HashMap<MapData, FlowKey, FlowEntry>,
    new: HashMap<MapData, FlowKey, FlowEntry>,
    sizes: FlowSizes,
}

/// Most records of each map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowSizes {
    /// Of `FLOWS`.
    pub kept: u32,
    /// Of `FLOWS_NEW`.
    pub new: u32,
}

impl FlowSizes {
    /// Of maps made for this many flows.
    #[must_use]
    pub const fn of(flows_max: u32) -> Self {
        Self {
            kept: flows_max,
            new: flows_max.div_ceil(4),
        }
    }
}

/// Where a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(u32);

/// Some records, and where the listing goes on; `None` after the last.
pub type Listing = (Vec<Listed>, Option<Position>);

impl FlowMaps {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let failed = |map| move |source| DatapathError::Map { map, source };
        let kept = pinned(pins, name::FLOWS)?;
        let new = pinned(pins, name::FLOWS_NEW)?;
        let size = |map: &MapData| map.info().map(|info| info.max_entries());
        let sizes = FlowSizes {
            kept: size(&kept).map_err(failed(name::FLOWS))?,
            new: size(&new).map_err(failed(name::FLOWS_NEW))?,
        };
        let kept = aya::maps::Map::HashMap(kept);
        let new = aya::maps::Map::LruHashMap(new);
        Ok(Self {
            kept: kept.try_into().map_err(failed(name::FLOWS))?,
            new: new.try_into().map_err(failed(name::FLOWS_NEW))?,
            sizes,
        })
    }

    /// Most records of each map, as the kernel has them.
    #[must_use]
    pub fn sizes(&self) -> FlowSizes {
        self.sizes
    }

    /// The records of `FLOWS_NEW` or `FLOWS` from a position on (`None`: the first), a few thousand
    /// at a time. Records that come or go meanwhile are listed or not; one that stays is. Records go
    /// from the first map to the second: whoever must see all of them lists `FLOWS_NEW` first.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn batch(
        &self,
        is_new: bool,
        position: Option<Position>,
    ) -> Result<Listing, DatapathError> {
        let (map, name) = self.map(is_new);
        let mut batch = BATCH;
        loop {
            match lookup_batch(map, position, batch) {
                Ok((records, next)) => {
                    let listed = |(key, entry)| Listed { key, entry, is_new };
                    return Ok((records.into_iter().map(listed).collect(), next));
                }
                // The next bucket alone holds more than a batch.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && batch < BATCH_MAX => {
                    batch *= 4;
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => {
                    let source = MapError::IoError(error);
                    return Err(DatapathError::Map { map: name, source });
                }
            }
        }
    }

    /// Every record, `FLOWS_NEW` first.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn all(&self) -> Result<Vec<Listed>, DatapathError> {
        let mut all = Vec::new();
        for is_new in [true, false] {
            let mut position = None;
            loop {
                let (batch, next) = self.batch(is_new, position)?;
                all.extend(batch);
                position = next;
                if position.is_none() {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// The record of a flow in `FLOWS_NEW` or `FLOWS`.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn get(&self, key: &FlowKey, is_new: bool) -> Result<Option<FlowEntry>, DatapathError> {
        let (map, name) = self.map(is_new);
        match map.get(key, 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(DatapathError::Map { map: name, source }),
        }
    }

    /// Deletes a record if it still is as it was listed; whether it is gone. One that was used or
    /// written anew since stays.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn delete(&mut self, record: &Listed) -> Result<bool, DatapathError> {
        match self.get(&record.key, record.is_new)? {
            None => return Ok(true),
            Some(there) if there != record.entry => return Ok(false),
            Some(_) => {}
        }
        let (map, name) = if record.is_new {
            (&mut self.new, name::FLOWS_NEW)
        } else {
            (&mut self.kept, name::FLOWS)
        };
        match map.remove(&record.key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(true),
            Err(source) => Err(DatapathError::Map { map: name, source }),
        }
    }

    /// Writes a record, for tests.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn insert(&mut self, record: &Listed) -> Result<(), DatapathError> {
        let (map, name) = if record.is_new {
            (&mut self.new, name::FLOWS_NEW)
        } else {
            (&mut self.kept, name::FLOWS)
        };
        map.insert(record.key, record.entry, 0)
            .map_err(|source| DatapathError::Map { map: name, source })
    }

    fn map(&self, is_new: bool) -> (&HashMap<MapData, FlowKey, FlowEntry>, &'static str) {
        if is_new {
            (&self.new, name::FLOWS_NEW)
        } else {
            (&self.kept, name::FLOWS)
        }
    }
}

type Records = Vec<(FlowKey, FlowEntry)>;

fn lookup_batch(
    map: &HashMap<MapData, FlowKey, FlowEntry>,
    position: Option<Position>,
    most: u32,
) -> io::Result<(Records, Option<Position>)> {
    let mut keys = vec![EMPTY_KEY; most as usize];
    let mut entries = vec![FlowEntry::default(); most as usize];
    let mut from = position.map_or(0, |position| position.0);
    let mut next = 0u32;
    let mut attributes = Batch {
        in_batch: if position.is_some() {
            (&raw mut from) as u64
        } else {
            0
        },
        out_batch: (&raw mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: entries.as_mut_ptr() as u64,
        count: most,
        map_fd: map.map().fd().as_fd().as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `attributes` and the word `from`, writes the count, the word `next`
    // and at most `most` elements to the two vectors, which have that length; all outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LOOKUP_BATCH,
            &raw mut attributes,
            size_of::<Batch>(),
        )
    };
    let next = match result {
        0 => Some(Position(next)),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => None,
            error => return Err(error),
        },
    };
    keys.truncate(attributes.count as usize);
    Ok((keys.into_iter().zip(entries).collect(), next))
}

/// `BPF_MAP_LOOKUP_BATCH`.
const LOOKUP_BATCH: libc::c_int = 24;

const EMPTY_KEY: FlowKey = FlowKey {
    source: lb_common::address::Address { words: [0; 4] },
    destination: lb_common::address::Address { words: [0; 4] },
    ports: [0; 4],
    protocol: 0,
    pad: [0; 3],
};

/// The part of `union bpf_attr` that batches use (linux/bpf.h).
#[repr(C, align(8))]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}
