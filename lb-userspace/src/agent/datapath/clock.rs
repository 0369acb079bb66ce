//! Time as the program knows it, and the agent's sign of life in `CLOCK`: without that the program takes
//! the agent for dead and sends repeated SYNs elsewhere by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_common::event::AGENT_BEAT_NS;

use super::mapping::ClockWords;

/// Monotonic nanoseconds: the clock of every time in the maps.
///
/// # Panics
/// If the kernel has no monotonic clock.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .expect("every Linux has a monotonic clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Nanoseconds between two ticks of the kernel's timer: what its coarse clock counts in. 0 if unknown.
pub(super) fn tick_ns() -> u32 {
    nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(0, |tick| Duration::from(tick).as_nanos() as u32)
}

/// A thread that does nothing but say that this process is alive: neither a table being built nor a
/// verdict being stored holds it up. Ends when dropped.
#[derive(Debug)]
pub struct Heartbeat {
    words: Arc<ClockWords>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Gives the first sign at once, so that no packet is taken from a backend on the word of an
    /// agent that was dead until now.
    pub(super) fn start(words: ClockWords) -> io::Result<Self> {
        words.beat(monotonic_ns());
        let words = Arc::new(words);
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let (words, is_over) = (Arc::clone(&words), Arc::clone(&is_over));
            thread::Builder::new()
                .name("heartbeat".into())
                .spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        words.beat(monotonic_ns());
                        thread::park_timeout(Duration::from_nanos(AGENT_BEAT_NS));
                    }
                })?
        };
        Ok(Self {
            words,
            is_over,
            thread: Some(thread),
        })
    }

    /// How long ago the last sign was given.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.words.last_beat()))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic: it stores a word.
            let _ = thread.join();
        }
    }
}
