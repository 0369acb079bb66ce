//! The contract between lb's eBPF program and its user space, and the packet logic that both share.
//!
//! Everything here is plain data and pure functions: no operating system, no allocation, no
//! unsafe code but the promise that map types are plain data. The same parser, hash and ladder
//! walk run in the kernel and under `cargo test`.
//! The map types are `repr(C)` with explicit padding; their sizes are asserted where they are
//! defined, because a size that differs between the two sides is refused only at load time.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod address;
pub mod backend;
pub mod checksum;
pub mod counters;
pub mod event;
pub mod flow;
pub mod ladder;
pub mod maps;
pub mod packet;
#[cfg(feature = "user")]
mod pod;
pub mod pool;
pub mod port;
pub mod quic;
pub mod service;
pub mod settings;
pub mod verdict;
