//! Maps that live in this process's memory: one store here is what the program reads next.
#![expect(unsafe_code, reason = "memory shared with the kernel has no safe type")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lb_common::backend::{Backend, BackendId, BackendState, NextHop};
use lb_common::ladder::{Previous, Slot};
use memmap2::{MmapOptions, MmapRaw};

use crate::agent::flows::{StateWrite, Table};

/// The whole of `BACKENDS`, mapped. Shared by reference between the threads of the agent; every
/// access is one atomic word.
#[derive(Debug)]
pub struct BackendStates {
    memory: MmapRaw,
    entries: usize,
}

impl BackendStates {
    /// Maps an array of `entries` backends.
    ///
    /// # Errors
    /// The kernel's, if the map is not `BPF_F_MMAPABLE` or memory is short.
    pub(super) fn map(fd: &impl AsRawFd, entries: u32) -> io::Result<Self> {
        let entries = entries as usize;
        let memory = MmapOptions::new()
            .len(entries * size_of::<Backend>())
            .map_raw(fd.as_raw_fd())?;
        Ok(Self { memory, entries })
    }

    /// Whether there is such an id.
    #[must_use]
    pub fn has(&self, id: BackendId) -> bool {
        usize::from(id.0) < self.entries
    }

    /// What the program may do with `id` at this moment.
    #[must_use]
    pub fn state(&self, id: BackendId) -> BackendState {
        BackendState(self.state_word(id).load(Ordering::Acquire))
    }

    /// The one store that takes a backend out of or into service, on every CPU and for every
    /// service at once.
    pub fn set_state(&self, id: BackendId, state: BackendState) {
        self.state_word(id).store(state.0, Ordering::Release);
    }

    /// What the agent's flow duties want of a backend: first its times, then the state, in which
    /// a `TRACK` stays that the program set meanwhile. One store, unless the program stores in the
    /// same moment.
    pub fn store(&self, write: &StateWrite) {
        for (index, since) in write.since.iter().enumerate() {
            self.since_word(write.id, index)
                .store(*since, Ordering::Release);
        }
        let wanted = write.state;
        let keeps = if wanted.has(BackendState::ALIVE) {
            BackendState::TRACK
        } else {
            0
        };
        let store = |there| Some(wanted.0 | there & keeps);
        // It is never refused: the closure gives a value for every state.
        let _ = self
            .state_word(write.id)
            .fetch_update(Ordering::Release, Ordering::Acquire, store);
    }

    /// Takes `TRACK` from a settled backend, if it is just that now; whether it was.
    pub fn settle(&self, id: BackendId) -> bool {
        let tracked = BackendState::UP.0 | BackendState::TRACK;
        self.state_word(id)
            .compare_exchange(
                tracked,
                BackendState::UP.0,
                Ordering::Release,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The generation of `id`; written before its first state, by a system call.
    #[must_use]
    pub fn generation(&self, id: BackendId) -> u32 {
        let backend = self.element(id);
        // SAFETY: the pointer is to an aligned u32 inside the mapping, which lives as long as
        // `self`.
        let word = unsafe { AtomicU32::from_ptr((&raw mut (*backend).generation).cast()) };
        word.load(Ordering::Acquire)
    }

    /// Where frames for `id` go.
    #[must_use]
    pub fn next_hop(&self, id: BackendId) -> NextHop {
        NextHop(self.next_hop_word(id).load(Ordering::Acquire))
    }

    /// Sends frames for `id` elsewhere from now on.
    pub fn set_next_hop(&self, id: BackendId, next_hop: NextHop) {
        self.next_hop_word(id).store(next_hop.0, Ordering::Release);
    }

    fn state_word(&self, id: BackendId) -> &AtomicU32 {
        let backend = self.element(id);
        // SAFETY: the pointer is to an aligned u32 inside the mapping, which lives as long as
        // `self`; all writers of the word, the kernel's program included, use whole words.
        unsafe { AtomicU32::from_ptr((&raw mut (*backend).state).cast()) }
    }

    fn since_word(&self, id: BackendId, index: usize) -> &AtomicU64 {
        let backend = self.element(id);
        assert!(index < 3, "a backend has three times");
        // SAFETY: as in `state_word`, an aligned u64, one of three.
        unsafe { AtomicU64::from_ptr((&raw mut (*backend).since).cast::<u64>().add(index)) }
    }

    fn next_hop_word(&self, id: BackendId) -> &AtomicU64 {
        let backend = self.element(id);
        // SAFETY: as in `state_word`, an aligned u64.
        unsafe { AtomicU64::from_ptr((&raw mut (*backend).next_hop).cast()) }
    }

    fn element(&self, id: BackendId) -> *mut Backend {
        let index = usize::from(id.0);
        assert!(index < self.entries, "backend id {index} is beyond the map");
        // SAFETY: the index lies inside the mapping, checked just above.
        unsafe { self.memory.as_mut_ptr().cast::<Backend>().add(index) }
    }
}

/// The two words of `CLOCK`, mapped.
#[derive(Debug)]
pub struct ClockWords(MmapRaw);

impl ClockWords {
    /// Maps `CLOCK`.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn map(fd: &impl AsRawFd) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .len(2 * size_of::<u64>())
            .map_raw(fd.as_raw_fd())?;
        Ok(Self(memory))
    }

    /// Says that the agent is alive at this time, monotonic ns; 0 says nothing.
    pub fn beat(&self, now: u64) {
        self.word(0).store(now, Ordering::Release);
    }

    /// When it last did.
    #[must_use]
    pub fn last_beat(&self) -> u64 {
        self.word(0).load(Ordering::Acquire)
    }

    /// Sets the time that a program loaded with `CLOCK_IN_MAP` goes by. For tests.
    pub fn set(&self, now: u64) {
        self.word(1).store(now, Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the mapping holds two aligned words and lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast::<u64>().add(index)) }
    }
}

/// The ladders of a table that the program reads, mapped: flags are taken from them in place.
#[derive(Debug)]
pub(super) struct LiveTable {
    memory: MmapRaw,
    slots: usize,
}

impl LiveTable {
    /// Maps the first half of a table of `slots` slots.
    pub fn map(fd: &impl AsRawFd, slots: usize) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .len(slots * size_of::<Slot>())
            .map_raw(fd.as_raw_fd())?;
        Ok(Self { memory, slots })
    }

    /// Replaces a slot by one store.
    pub fn store(&self, index: u32, slot: Slot) {
        let index = index as usize;
        assert!(index < self.slots, "slot {index} is beyond the table");
        // SAFETY: the index lies inside the mapping, checked just above; the program reads whole
        // slots.
        let word =
            unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(index)) };
        word.store(slot.0, Ordering::Release);
    }
}

/// Copies a table into a fresh map that no program reads yet. The second half, the previous owners,
/// stays zero where the table has none: nobody reads it without a slot's flag.
pub(super) fn write_table(fd: &impl AsRawFd, table: &Table) -> io::Result<()> {
    let (slots, previous) = (&table.slots, &table.previous);
    assert!(
        previous.len() <= slots.len(),
        "a slot has one previous owner"
    );
    let memory = MmapOptions::new()
        .len(2 * size_of_val::<[Slot]>(slots))
        .map_raw(fd.as_raw_fd())?;
    let first = memory.as_mut_ptr();
    // SAFETY: the mapping is twice as long as `slots`, `previous` is no longer than that, the
    // mapping starts on a page, and nobody else has it.
    unsafe {
        first
            .cast::<Slot>()
            .copy_from_nonoverlapping(slots.as_ptr(), slots.len());
        first
            .cast::<Previous>()
            .add(slots.len())
            .copy_from_nonoverlapping(previous.as_ptr(), previous.len());
    }
    Ok(())
}

/// Reads a table of `slots` slots. Only flags may change meanwhile, each slot in one store.
pub(super) fn read_table(fd: &impl AsRawFd, slots: usize) -> io::Result<Table> {
    let memory = MmapOptions::new()
        .len(2 * slots * size_of::<Slot>())
        .map_raw(fd.as_raw_fd())?;
    let first = memory.as_mut_ptr().cast::<u64>();
    let word = |index| {
        // SAFETY: `index` is below twice `slots`, and the mapping starts on a page.
        let word = unsafe { AtomicU64::from_ptr(first.add(index)) };
        word.load(Ordering::Relaxed)
    };
    let ladders: Vec<Slot> = (0..slots).map(|index| Slot(word(index))).collect();
    let has_previous = |slot: &Slot| slot.0 & (Slot::CHANGED_TCP | Slot::CHANGED_UDP) != 0;
    let previous = if ladders.iter().any(has_previous) {
        (slots..2 * slots)
            .map(|index| Previous(word(index)))
            .collect()
    } else {
        Vec::new()
    };
    Ok(Table {
        slots: ladders.into(),
        previous: previous.into(),
    })
}
