//! What RESP is made of, for a fuzzer.

use fastrand::Rng;
use lb_tests::fuzz::Dialect;

pub(super) const RESP: Dialect = Dialect {
    pieces: &[],
    misstate,
};

/// Another digit where one stands.
fn misstate(random: &mut Rng, bytes: &mut [u8]) -> bool {
    match bytes.first_mut() {
        Some(digit) if digit.is_ascii_digit() => {
            *digit = random.u8(b'0'..=b'9');
            true
        }
        _ => false,
    }
}
