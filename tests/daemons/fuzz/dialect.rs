//! What PostgreSQL's protocol, and the link's, are made of, for a fuzzer.

use fastrand::Rng;
use lb_tests::fuzz::Dialect;

pub(super) const POSTGRES: Dialect = Dialect {
    pieces: &[],
    misstate,
};

/// A length, or the number of something, a little off.
fn misstate(random: &mut Rng, bytes: &mut [u8]) -> bool {
    let Some(number) = bytes.first_chunk_mut() else {
        return false;
    };
    let off = u32::from_be_bytes(*number).wrapping_add(random.u32(0..9));
    *number = off.wrapping_sub(4).to_be_bytes();
    true
}
