//! Changes valid bytes a little or a lot.

use fastrand::Rng;

/// Changes made at most to one input.
const CHANGES_MAX: usize = 6;
/// Bytes that mean something to some reader.
const PIECES: [&[u8]; 16] = [
    b"\0",
    b"\0\0",
    b"\0\0\0\0",
    b"\0\0\0\x04",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff",
    b"\xc3\x28",
    b"\xf0\x9f\x98\x80",
    b"'",
    b"$$",
    b"/*",
    b"--",
    b",",
    b"=",
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
        2 => insert(bytes, at, random.choice(PIECES).unwrap_or_default()),
        3 => {
            let copy = bytes[at..end].to_vec();
            insert(bytes, at, &copy);
        }
        4 => {
            let other = random.choice(seeds).cloned().unwrap_or_default();
            let from = random.usize(0..=other.len());
            insert(bytes, at, &other[from..]);
        }
        5 => insert(bytes, at, &vec![random.u8(..); random.usize(0..300)]),
        6 if at + 4 <= bytes.len() => {
            // A length, or the number of something, a little off.
            let number =
                u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let number = number.wrapping_add(random.u32(0..9)).wrapping_sub(4);
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        7 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
        _ if at < bytes.len() => bytes[at] = random.u8(..),
        _ => bytes.push(random.u8(..)),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
