//! Maps that live in this process's memory: one store here is what the program reads next.
#![expect(unsafe_code, reason = "memory shared with the kernel has no safe type")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lb_common::backend::{Backend, BackendId, BackendState, NextHop};
use lb_common::ladder::Slot;
use memmap2::{MmapOptions, MmapRaw};

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

/// Copies `slots` into a fresh table map that no program reads yet.
pub(super) fn write_table(fd: &impl AsRawFd, slots: &[Slot]) -> io::Result<()> {
    let memory = MmapOptions::new()
        .len(size_of_val(slots))
        .map_raw(fd.as_raw_fd())?;
    // SAFETY: the mapping is as long as `slots`, starts on a page, and nobody else has it.
    unsafe {
        memory
            .as_mut_ptr()
            .cast::<Slot>()
            .copy_from_nonoverlapping(slots.as_ptr(), slots.len());
    }
    Ok(())
}

/// Reads a table of `entries` slots. Only flags may change meanwhile, each slot in one store.
pub(super) fn read_table(fd: &impl AsRawFd, entries: usize) -> io::Result<Vec<Slot>> {
    let memory = MmapOptions::new()
        .len(entries * size_of::<Slot>())
        .map_raw(fd.as_raw_fd())?;
    let first = memory.as_mut_ptr().cast::<u64>();
    let slot = |index| {
        // SAFETY: `index` is below `entries`, and the mapping starts on a page.
        let word = unsafe { AtomicU64::from_ptr(first.add(index)) };
        Slot(word.load(Ordering::Relaxed))
    };
    Ok((0..entries).map(slot).collect())
}
