//! The largest segment size that a SYN announces (RFC 9293 §3.7.1).

use super::{Cursor, TCP_HEADER_LEN};

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;

/// Most bytes of a TCP header, options included: what its data offset can say. A bound for the
/// verifier, which looks at each of them in turn.
const HEADER_LEN_MAX: usize = 60;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// An MSS option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announced {
    /// Where its value stands, from the start of the frame.
    pub at: usize,
    /// The value, as on the wire.
    pub value: [u8; 2],
}

/// The MSS option of the segment that begins at `segment`, in a packet that ends at `end`. `None`
/// also for options that cannot be read up to there.
#[inline(always)]
pub fn announced<C: Cursor + ?Sized>(frame: &C, segment: usize, end: usize) -> Option<Announced> {
    let header: &[u8; TCP_HEADER_LEN] = frame.bytes(segment)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if segment + header_len > end {
        return None;
    }
    // Position by position, with the next option's as a number apart: the verifier then knows every
    // offset, and need not follow what each length could lead to ("BPF program is too large").
    let mut next = TCP_HEADER_LEN;
    for at in TCP_HEADER_LEN..HEADER_LEN_MAX {
        if at >= header_len {
            return None;
        }
        if at != core::hint::black_box(next) {
            continue;
        }
        let [kind] = *frame.bytes::<1>(segment + at)?;
        match kind {
            END_OF_OPTIONS => return None,
            NO_OPERATION => next = frame.forgotten(at + 1),
            MAXIMUM_SEGMENT_SIZE => {
                let [_, length, high, low] = *frame.bytes::<4>(segment + at)?;
                return (length == 4 && at + 4 <= header_len).then_some(Announced {
                    at: segment + at + 2,
                    value: [high, low],
                });
            }
            _ => {
                let [_, length] = *frame.bytes::<2>(segment + at)?;
                if length < 2 {
                    return None;
                }
                next = frame.forgotten(at + usize::from(length));
            }
        }
    }
    None
}
