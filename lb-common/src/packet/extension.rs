//! IPv6 extension headers (RFC 8200 §4): what stands behind them.

use super::{Cursor, TRANSPORT_OFFSET_MAX, be16};

/// Most extension headers that are skipped: one of each kind in the order that RFC 8200 §4.1
/// recommends, destination options twice. A bound for the verifier.
pub const EXTENSION_HEADERS_MAX: usize = 6;

/// Most bytes of one extension header: what its length field can say.
pub const EXTENSION_HEADER_LEN_MAX: usize = 256 * 8;

const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const AUTHENTICATION: u32 = 51;
const DESTINATION_OPTIONS: u32 = 60;

/// "More fragments" and the fragment offset of a fragment header (RFC 8200 §4.5).
const FRAGMENT_MASK: u32 = 0xfff9;
const FRAGMENT_OFFSET_MASK: u32 = 0xfff8;

/// What comes behind the extension headers.
///
/// Wide fields, because the program has this in memory, where the compiler writes neighbouring bytes
/// in one go ("misaligned stack access", LLVM 22, Linux 6.18).
#[derive(Clone, Copy)]
pub struct Behind {
    /// Where it begins, from the start of the frame.
    pub offset: usize,
    /// What it is, as an IP protocol number.
    pub protocol: u32,
    /// Fragment offset and "more fragments" of a fragment header; 0 without one, and in one of a
    /// packet that is whole.
    pub fragment: u32,
}

impl Behind {
    /// Whether it is of one among several fragments.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.fragment != 0
    }

    /// Whether that is not the first: what comes behind is not the beginning of anything.
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment & FRAGMENT_OFFSET_MASK != 0
    }
}

/// Walks from `offset`, where a header of the kind `next_header` begins, to the first that is no
/// extension header. `None`: one ends behind `end`, stands where it must not, routes the packet
/// on, or there are too many.
#[inline(always)]
pub fn skip<C: Cursor + ?Sized>(
    frame: &C,
    next_header: u8,
    offset: usize,
    end: usize,
) -> Option<Behind> {
    let mut behind = Behind {
        offset,
        protocol: u32::from(next_header),
        fragment: 0,
    };
    walk(frame, &mut behind, end).then_some(behind)
}

/// Not inlined: it runs for a packet and for the packet that an error quotes. An `Option` is
/// nothing that such a function of the program can give back ("Invalid member bits_offset" in the
/// BTF of its type, LLVM 22, Linux 6.18).
#[inline(never)]
fn walk<C: Cursor + ?Sized>(frame: &C, behind: &mut Behind, end: usize) -> bool {
    for number in 0..EXTENSION_HEADERS_MAX + 1 {
        match behind.protocol {
            // RFC 8200 §4.1: only ever the first.
            HOP_BY_HOP if number != 0 => return false,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
                if number < EXTENSION_HEADERS_MAX => {}
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS => {
                return false;
            }
            _ => return true,
        }
        let Some(header) = frame.bytes::<8>(behind.offset) else {
            return false;
        };
        let units = usize::from(header[1]);
        let length = match behind.protocol {
            // RFC 8200 §4.4: with segments left, the packet has not arrived where it is going.
            ROUTING if header[3] != 0 => return false,
            FRAGMENT => 8,
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        if behind.protocol == FRAGMENT {
            // A second such header does not make whole what the first says is in pieces.
            behind.fragment |= u32::from(be16(header, 2)) & FRAGMENT_MASK;
        }
        behind.protocol = u32::from(header[0]);
        behind.offset = frame.forgotten(behind.offset + length);
        if behind.offset > end || behind.offset > TRANSPORT_OFFSET_MAX {
            return false;
        }
        if behind.is_later_fragment() {
            return true;
        }
    }
    false
}
