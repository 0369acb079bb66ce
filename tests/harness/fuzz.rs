//! What fuzzers of every protocol share: valid bytes changed a little or a lot, and an end that must come.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use anyhow::{Context, Result};
use fastrand::Rng;

/// Changes made at most to one input.
const CHANGES_MAX: usize = 6;

/// What a protocol is made of.
pub struct Dialect {
    /// Bytes that mean something to its readers.
    pub pieces: &'static [&'static [u8]],
    /// Makes a length that stands first a little wrong; whether one does.
    pub misstate: fn(&mut Rng, &mut [u8]) -> bool,
}

impl Dialect {
    /// One of the seeds, changed, sometimes joined with another.
    #[must_use]
    pub fn mutated(&self, random: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = random.choice(seeds).cloned().unwrap_or_default();
        for _ in 0..random.usize(1..=CHANGES_MAX) {
            self.change(random, &mut bytes, seeds);
        }
        bytes
    }

    fn change(&self, random: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = random.usize(0..=bytes.len());
        let end = random.usize(at..=bytes.len());
        match random.u8(0..11) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 | 3 => insert(
                bytes,
                at,
                random.choice(self.pieces).copied().unwrap_or_default(),
            ),
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
            7 if (self.misstate)(random, &mut bytes[at..]) => {}
            8 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            _ if at < bytes.len() => bytes[at] = random.u8(..),
            _ => bytes.push(random.u8(..)),
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Reads until the other end closes, by a reset or otherwise; how long it may be silent is the
/// stream's timeout.
///
/// # Errors
/// If it does neither answer nor close.
pub fn to_the_end(stream: &mut TcpStream) -> Result<()> {
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error).context("neither an answer nor an end"),
        }
    }
}
