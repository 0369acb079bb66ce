//! Bytes that nobody would send: what reads RESP never panics, and finds the same in pieces as in one;
//! a running `lb logic` goes on serving others whatever a client or a server sends it.
//!
//! Valid bytes, changed a little or a lot. Seconds in the suite, ten minutes for the codecs with
//! `--long`. `LB_TEST_SEED` repeats a run.

mod codecs;
mod dialect;
mod live;

use std::time::{Duration, Instant};

use lb_tests::scale;

/// When a fuzzer is to end.
fn until(short: Duration, long: Duration) -> Instant {
    Instant::now() + if scale::is_long() { long } else { short }
}

/// Bytes as a test's author would write them.
fn shown(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}
