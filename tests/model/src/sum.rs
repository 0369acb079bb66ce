//! Internet checksums, the plain way (RFC 1071).

use crate::hash::Ip;

/// A running sum of 16-bit words.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes, the first of them high; an odd end is padded with a zero.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (pairs, rest) = bytes.as_chunks::<2>();
        for pair in pairs {
            self.0 += u64::from(u16::from_be_bytes(*pair));
        }
        if let [last] = rest {
            self.0 += u64::from(*last) << 8;
        }
        self
    }

    /// Adds the pseudo-header of RFC 768, 9293 and 8200 §8.1: their sums are the same for equal
    /// lengths below 64 KiB.
    #[must_use]
    pub fn pseudo_header(self, v6: bool, from: &Ip, to: &Ip, protocol: u8, length: usize) -> Self {
        let skip = if v6 { 0 } else { 12 };
        let mut sum = self.bytes(&from[skip..]).bytes(&to[skip..]);
        sum.0 += u64::from(protocol) + length as u64;
        sum
    }

    /// The checksum.
    #[must_use]
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

/// A checksum after one word under it has changed (RFC 1624): one that was wrong stays wrong.
#[must_use]
pub fn updated(sum: u16, before: u16, after: u16) -> u16 {
    Sum(u64::from(!sum) + u64::from(!before) + u64::from(after)).finish()
}
