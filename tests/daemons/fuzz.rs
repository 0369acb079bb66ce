//! Bytes that nobody would send: what reads the protocol never panics, and what is read and written
//! again is the same; a running proxy goes on serving others whatever a client or a server sends it.
//!
//! Structured: valid messages, changed a little or a lot. Seconds in the suite, ten minutes for the
//! codecs with `--long`. `LB_TEST_SEED` repeats a run.

mod codecs;
mod dialect;
mod live;

use std::time::{Duration, Instant};

use lb_tests::scale;

/// How long a fuzzer runs.
fn budget(short: Duration, long: Duration) -> Budget {
    Budget {
        until: Instant::now() + if scale::is_long() { long } else { short },
    }
}

struct Budget {
    until: Instant,
}

impl Budget {
    fn is_left(&self) -> bool {
        Instant::now() < self.until
    }
}

/// Bytes as a test's author would write them.
fn shown(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}
