//! The Internet checksum (RFC 1071), summed and updated in place (RFC 1624).
//!
//! Sums are over 16-bit words as they lie in memory: one's complement addition does not care
//! about byte order (RFC 1071 §2), so nothing is swapped on the way.

/// Folds a sum of 16-bit words into 16 bits with end-around carry. `sum` must be below 2³², which
/// 65,536 words cannot exceed.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// As [`fold`], a sum of 32-bit words.
#[inline(always)]
#[must_use]
pub const fn fold_wide(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold(sum as u32)
}

/// The sum, not yet folded, of an even number of bytes.
#[inline(always)]
#[must_use]
pub const fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(N.is_multiple_of(2), "a checksum is over whole 16-bit words") };
    let mut total = 0;
    let mut at = 0;
    while at < N {
        total += u16::from_ne_bytes([bytes[at], bytes[at + 1]]) as u32;
        at += 2;
    }
    total
}

/// The checksum field for data whose words add up to `sum`.
#[inline(always)]
#[must_use]
pub const fn finish(sum: u32) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// The checksum field of an IPv4 header whose five words lie in `words` as in memory, the field
/// itself zero.
#[inline(always)]
#[must_use]
pub const fn finish_words(words: &[u32; 5]) -> [u8; 2] {
    let [a, b, c, d, e] = *words;
    let sum = a as u64 + b as u64 + c as u64 + d as u64 + e as u64;
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    finish(((sum & 0xffff) + (sum >> 16)) as u32)
}

/// The checksum field after the 16-bit word `old` became `new`: RFC 1624 equation 3,
/// `HC' = ~(~HC + ~m + m')`, which also gets the zero sums right that equation 2 of RFC 1141 does not.
#[inline(always)]
#[must_use]
pub const fn update(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let sum = !u16::from_ne_bytes(checksum) as u32
        + !u16::from_ne_bytes(old) as u32
        + u16::from_ne_bytes(new) as u32;
    finish(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_of_rfc_1071_style_examples_sums_up() {
        // A header whose checksum field (b8 61) is known.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(finish(sum(&header)), [0, 0], "a right header sums to zero");
        let mut blank = header;
        blank[10] = 0;
        blank[11] = 0;
        assert_eq!(finish(sum(&blank)), [0xb8, 0x61]);
        let words = core::array::from_fn(|word| {
            u32::from_ne_bytes(*blank[4 * word..].first_chunk().unwrap())
        });
        assert_eq!(finish_words(&words), [0xb8, 0x61]);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(mut data: [u8; 20], at in 0usize..9, new: [u8; 2]) {
            // Any packet has a word that is not zero, so the two zeros of one's complement
            // cannot be taken for each other.
            data[18] = 0x45;
            let before = finish(sum(&data));
            let old = [data[2 * at], data[2 * at + 1]];
            data[2 * at] = new[0];
            data[2 * at + 1] = new[1];
            prop_assert_eq!(update(before, old, new), finish(sum(&data)));
        }

        #[test]
        fn words_of_either_width_fold_to_one_sum(data: [u8; 20]) {
            let words = data.as_chunks::<4>().0.iter();
            let wide = words.map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
            prop_assert_eq!(fold_wide(wide), fold(sum(&data)));
        }
    }
}
