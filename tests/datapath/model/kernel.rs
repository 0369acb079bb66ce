//! The real program with maps of its own: what a world says goes in, frames go through, and what
//! the program remembers and counts comes out in the model's words.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Map, MapData, RingBuf};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use lb_common::maps::{self, BACKENDS_MAX, CLOCK_IN_MAP, TABLE_FLAGS, name};
use lb_model::plane::Verdict;
use memmap2::{MmapOptions, MmapRaw};

use crate::bpf::{self, Batch, TestRun};

/// Slots of the table that each pool has; the last pool has none.
pub const TABLES: [u32; 9] = [1, 3, 7, 7, 13, 13, 61, 251, 0];
/// Room for records in `FLOWS`: less than there are flows, so that it fills.
pub const FLOWS_ENTRIES: u32 = 24;
/// Far more than there are flows: what an LRU map evicts is the kernel's own choice.
const FLOWS_NEW_ENTRIES: u32 = 8192;
/// The longest frame that comes out.
const OUTPUT_MAX: usize = 4096;
/// Elements that are read of the maps that count by backend and by service.
pub const COUNTED: u32 = 64;

/// A loaded program.
pub struct Kernel {
    maps: HashMap<&'static str, MapData>,
    _tables: Vec<OwnedFd>,
    tables: Vec<Option<MmapRaw>>,
    backends: MmapRaw,
    clock: MmapRaw,
    events: RingBuf<MapData>,
    test_run: TestRun,
    cpus: usize,
    flows: Batch,
    counts: HashMap<&'static str, Batch>,
    // Declared last: the program goes after what uses it.
    _ebpf: Ebpf,
}

/// Maps that count, per CPU: value size and how many elements are looked at.
const COUNTERS: [(&str, usize, u32); 7] = [
    (name::PASSES, 8, 2),
    (name::REPLIES, 8, 5),
    (name::DROPS, 8, 10),
    (name::FLOW_COUNTS, 8, 10),
    (name::SERVICE_TRAFFIC, 32, COUNTED),
    (name::BACKEND_TRAFFIC, 32, COUNTED),
    (name::SUSPICIONS, 24, COUNTED),
];

impl Kernel {
    /// Loads the program.
    ///
    /// # Errors
    /// Without root, or if the kernel refuses.
    pub fn load() -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader
            .override_global("AYA_LOG_LEVEL", &0_u8, false)
            .override_global(CLOCK_IN_MAP, &1_u32, true)
            .map_max_entries(name::FLOWS, FLOWS_ENTRIES)
            .map_max_entries(name::FLOWS_NEW, FLOWS_NEW_ENTRIES);
        let object = lb_userspace::agent::datapath::object();
        let mut ebpf = loader.load(object).context("load the program (as root)")?;
        let program: &mut Xdp = ebpf
            .program_mut(maps::PROGRAM)
            .context("the object has no gateway program")?
            .try_into()?;
        program.load().context("the kernel refused the program")?;
        let test_run = TestRun::new(program.fd()?.as_fd(), OUTPUT_MAX);
        let mut maps = HashMap::new();
        for name in name::ALL.into_iter().filter(|name| *name != name::EVENTS) {
            let map = ebpf
                .take_map(name)
                .with_context(|| format!("no map {name}"))?;
            maps.insert(name, data(map)?);
        }
        let events = ebpf.take_map(name::EVENTS).context("no map EVENTS")?;
        let map_in = |map: &str, bytes: usize| -> Result<MmapRaw> {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&maps[map].fd().as_fd());
            Ok(MmapOptions::new().len(bytes).map_raw(fd)?)
        };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let (tables, mapped) = tables(maps[name::TABLES].fd().as_fd())?;
        let counts = COUNTERS
            .map(|(name, size, entries)| (name, Batch::new(entries, 4, size * cpus)))
            .into();
        Ok(Self {
            backends: map_in(name::BACKENDS, BACKENDS_MAX as usize * 64)?,
            clock: map_in(name::CLOCK, 16)?,
            maps,
            _tables: tables,
            tables: mapped,
            events: events.try_into()?,
            test_run,
            cpus,
            flows: Batch::new(FLOWS_NEW_ENTRIES, 40, 16),
            counts,
            _ebpf: ebpf,
        })
    }

    /// Runs a frame: what became of it. What came out is [`Kernel::output`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(&mut self, frame: &[u8], interface: u32) -> Result<(Verdict, usize)> {
        let (number, length) = self
            .test_run
            .run(frame, interface)
            .context("BPF_PROG_TEST_RUN")?;
        let verdict = match number {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Transmit,
            4 => Verdict::Redirect,
            other => bail!("the program returned {other}"),
        };
        Ok((verdict, length))
    }

    /// The frame that came out, with whatever an earlier one left behind its end.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.test_run.output
    }

    /// The descriptor of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> BorrowedFd<'_> {
        self.maps[name].fd().as_fd()
    }

    /// Writes an element.
    ///
    /// # Errors
    /// The kernel's.
    pub fn update(&self, name: &str, key: &[u8], value: &[u8]) -> Result<()> {
        bpf::update(self.map(name), key, value).with_context(|| format!("write to {name}"))
    }

    /// Deletes an element.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&self, name: &str, key: &[u8]) -> Result<()> {
        bpf::delete(self.map(name), key).with_context(|| format!("delete from {name}"))
    }

    /// Every record of a flow map: key and value as they lie there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn records(
        &mut self,
        name: &'static str,
    ) -> Result<impl Iterator<Item = (&[u8; 40], &[u8; 16])>> {
        let fd = self.maps[name].fd().as_fd();
        let count = self
            .flows
            .read(fd)
            .with_context(|| format!("read {name}"))?;
        let keys = self.flows.keys.as_chunks().0;
        let values = self.flows.values.as_chunks().0;
        Ok(keys.iter().zip(values).take(count))
    }

    /// Elements of a per-CPU map, summed over the CPUs word by word.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sums<const WORDS: usize>(&mut self, name: &'static str) -> Result<Vec<[u64; WORDS]>> {
        let fd = self.maps[name].fd().as_fd();
        let batch = self.counts.get_mut(name).context("not a map of counters")?;
        let count = batch.read(fd).with_context(|| format!("read {name}"))?;
        let (words, _) = batch.values.as_chunks::<8>();
        let elements = words.chunks_exact(WORDS * self.cpus).take(count);
        Ok(elements.map(sum).collect())
    }

    /// Sets the elements that count to zero, on every CPU.
    ///
    /// # Errors
    /// The kernel's.
    pub fn zero_counters(&mut self) -> Result<()> {
        for (name, size, entries) in COUNTERS {
            let zeros = vec![0; size * self.cpus];
            for index in 0..entries {
                self.update(name, &index.to_ne_bytes(), &zeros)?;
            }
        }
        Ok(())
    }

    /// Takes the next event out of the ring.
    pub fn event(&mut self) -> Option<[u8; 48]> {
        let event = self.events.next()?;
        (*event).try_into().ok()
    }

    /// Stores a word of a mapped map, whole.
    pub fn store(&self, what: Memory, index: usize, word: u64) {
        let at = match what {
            Memory::Backends => self.backends.as_mut_ptr(),
            Memory::Clock => self.clock.as_mut_ptr(),
            Memory::Table(pool) => match &self.tables[pool] {
                Some(table) => table.as_mut_ptr(),
                None => return,
            },
        };
        store(at, index, word);
    }

    /// A word of `BACKENDS`.
    #[must_use]
    pub fn backend_word(&self, index: usize) -> u64 {
        load(self.backends.as_mut_ptr(), index)
    }
}

/// A map that is mapped into memory, as an array of words.
#[derive(Clone, Copy)]
pub enum Memory {
    /// Eight words a backend.
    Backends,
    /// The heartbeat, and the time.
    Clock,
    /// A pool's table: ladders, then previous owners.
    Table(usize),
}

#[expect(unsafe_code, reason = "memory shared with the kernel has no safe type")]
fn store(memory: *mut u8, index: usize, word: u64) {
    // SAFETY: the mapping starts on a page; `index` lies inside it, for all indices are counted from
    // the same constants that the maps were made with.
    unsafe { memory.cast::<u64>().add(index).write_volatile(word) }
}

#[expect(unsafe_code, reason = "memory shared with the kernel has no safe type")]
fn load(memory: *mut u8, index: usize) -> u64 {
    // SAFETY: as in `store`.
    unsafe { memory.cast::<u64>().add(index).read_volatile() }
}

fn sum<const WORDS: usize>(element: &[[u8; 8]]) -> [u64; WORDS] {
    let mut sum = [0; WORDS];
    for cpu in element.chunks_exact(WORDS) {
        for (total, word) in sum.iter_mut().zip(cpu) {
            *total += u64::from_ne_bytes(*word);
        }
    }
    sum
}

fn tables(outer: BorrowedFd<'_>) -> Result<(Vec<OwnedFd>, Vec<Option<MmapRaw>>)> {
    let (mut fds, mut mapped) = (Vec::new(), Vec::new());
    for (pool, slots) in (0_u32..).zip(TABLES) {
        if slots == 0 {
            mapped.push(None);
            continue;
        }
        let fd = bpf::create_table(2 * slots, 8, TABLE_FLAGS).context("make a table")?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        bpf::update(outer, &pool.to_ne_bytes(), &number.to_ne_bytes()).context("publish it")?;
        let bytes = 2 * slots as usize * 8;
        mapped.push(Some(MmapOptions::new().len(bytes).map_raw(number)?));
        fds.push(fd);
    }
    ensure!(mapped.len() == TABLES.len(), "every pool has its place");
    Ok((fds, mapped))
}

fn data(map: Map) -> Result<MapData> {
    Ok(match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::DevMap(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::Unsupported(data) => data,
        _ => bail!("a map of a kind that the gateway has no use for"),
    })
}
