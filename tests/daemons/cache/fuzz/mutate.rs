//! Changes valid bytes of RESP a little or a lot.

use fastrand::Rng;

/// Changes made at most to one input.
const CHANGES_MAX: usize = 6;
/// What means something to a reader of RESP.
const PIECES: [&[u8]; 20] = [
    b"\r\n",
    b"\r",
    b"\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*1\r\n",
    b"*1048577\r\n",
    b"$536870913\r\n",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"%1\r\n",
    b">2\r\n",
    b"|1\r\n",
    b"_\r\n",
    b"\"",
    b"\\x",
    b"'",
];

/// One of the seeds, changed, sometimes joined with another.
pub(super) fn mutated(random: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..=CHANGES_MAX) {
        change(random, &mut bytes, seeds);
    }
    bytes
}

fn change(random: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.usize(0..=bytes.len());
    let end = random.usize(at..=bytes.len());
    match random.u8(0..10) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 | 3 => insert(bytes, at, random.choice(PIECES).unwrap_or_default()),
        4 => {
            let copy = bytes[at..end].to_vec();
            insert(bytes, at, &copy);
        }
        5 => {
            let other = random.choice(seeds).cloned().unwrap_or_default();
            let from = random.usize(0..=other.len());
            insert(bytes, at, &other[from..]);
        }
        6 => insert(bytes, at, &vec![random.u8(..); random.usize(0..300)]),
        // A length a little off.
        7 if at < bytes.len() && bytes[at].is_ascii_digit() => bytes[at] = random.u8(b'0'..=b'9'),
        8 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
        _ if at < bytes.len() => bytes[at] = random.u8(..),
        _ => bytes.push(random.u8(..)),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
