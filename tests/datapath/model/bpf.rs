//! The calls into the kernel that a fuzzer makes millions of times, without anything between: one
//! buffer, one syscall, no allocation.
#![expect(unsafe_code, reason = "bpf(2) takes pointers")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands of bpf(2).
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEM: c_int = 2;
const MAP_DELETE_ELEM: c_int = 3;
const PROG_TEST_RUN: c_int = 10;
const MAP_LOOKUP_BATCH: c_int = 24;

/// `union bpf_attr`, as far as any of these calls goes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
struct Attributes([u32; 20]);

impl Attributes {
    fn put(&mut self, at: usize, number: u64) -> &mut Self {
        self.0[at] = number as u32;
        self.0[at + 1] = (number >> 32) as u32;
        self
    }
}

fn call(command: c_int, attributes: &mut Attributes) -> io::Result<i64> {
    // SAFETY: the attributes are as long as said, and every pointer in them is to memory that
    // the callers below borrow for as long as the call lasts, of at least the size that the
    // kernel reads or writes for this command.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn element(fd: BorrowedFd<'_>, key: &[u8], value: u64) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.0[0] = fd.as_raw_fd() as u32;
    attributes.put(2, key.as_ptr() as u64).put(4, value);
    attributes
}

/// Makes an array that may stand in an array of maps and be mapped into memory.
pub fn create_table(entries: u32, value_size: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.0[..5].copy_from_slice(&[2, 4, value_size, entries, flags]);
    let fd = call(MAP_CREATE, &mut attributes)?;
    // SAFETY: the kernel has just made the descriptor for this caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// Writes an element.
pub fn update(fd: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attributes = element(fd, key, value.as_ptr() as u64);
    call(MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Deletes an element; one that is not there is no error.
pub fn delete(fd: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    match call(MAP_DELETE_ELEM, &mut element(fd, key, 0)) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Keys and values of a map from its beginning, as many as there are and the buffers hold.
pub struct Batch {
    /// The keys, one after another.
    pub keys: Vec<u8>,
    /// The values.
    pub values: Vec<u8>,
    entries: u32,
}

impl Batch {
    /// Buffers for `entries` elements of these sizes.
    pub fn new(entries: u32, key_size: usize, value_size: usize) -> Self {
        Self {
            keys: vec![0; entries as usize * key_size],
            values: vec![0; entries as usize * value_size],
            entries,
        }
    }

    /// Fills the buffers from the map and says how many elements it gave.
    pub fn read(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut position = [0_u8; 8];
        let mut attributes = Attributes::default();
        attributes
            .put(2, position.as_mut_ptr() as u64)
            .put(4, self.keys.as_mut_ptr() as u64)
            .put(6, self.values.as_mut_ptr() as u64);
        attributes.0[8] = self.entries;
        attributes.0[9] = fd.as_raw_fd() as u32;
        match call(MAP_LOOKUP_BATCH, &mut attributes) {
            // The end of the map was reached before that of the buffers.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(attributes.0[8] as usize),
        }
    }
}

/// A program run on one frame after another.
pub struct TestRun {
    attributes: Attributes,
    context: Box<[u8; 24]>,
    /// What the program left, as long as [`TestRun::run`] said.
    pub output: Vec<u8>,
}

impl TestRun {
    /// For a program whose frames are never longer than `output` bytes.
    pub fn new(program: BorrowedFd<'_>, output: usize) -> Self {
        let mut attributes = Attributes::default();
        attributes.0[0] = program.as_raw_fd() as u32;
        attributes.0[8] = 1;
        attributes.0[10] = 24;
        Self {
            attributes,
            context: Box::new([0; 24]),
            output: vec![0; output],
        }
    }

    /// Runs a frame that came in by `interface`: return value, and the length of what is in `output`.
    pub fn run(&mut self, frame: &[u8], interface: u32) -> io::Result<(u32, usize)> {
        self.context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        self.context[12..16].copy_from_slice(&interface.to_ne_bytes());
        let mut attributes = self.attributes;
        attributes.0[2] = frame.len() as u32;
        attributes.0[3] = self.output.len() as u32;
        attributes
            .put(4, frame.as_ptr() as u64)
            .put(6, self.output.as_mut_ptr() as u64)
            .put(12, self.context.as_ptr() as u64);
        call(PROG_TEST_RUN, &mut attributes)?;
        Ok((attributes.0[1], attributes.0[3] as usize))
    }
}
