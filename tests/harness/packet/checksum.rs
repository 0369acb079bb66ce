//! The Internet checksum, as RFC 1071 tells it.

use std::net::IpAddr;

/// One's complement of the one's complement sum of all 16-bit words; 0 for bytes that contain
/// their own right checksum.
pub(super) fn internet(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of a transport segment together with the pseudo header (RFC 9293 §3.1,
/// RFC 8200 §8.1).
pub(super) fn transport(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(40 + segment.len());
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    // IPv4 has zero, protocol, 16-bit length; IPv6 has 32-bit length, three zeros, next header:
    // the same words in another order, and the order does not matter to the sum.
    bytes.extend((segment.len() as u32).to_be_bytes());
    bytes.extend([0, protocol]);
    bytes.extend(segment);
    internet(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // RFC 1071 §3: the sum of these is ddf2.
        assert_eq!(
            internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        // A much quoted IPv4 header; its checksum is b861.
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(internet(&header), 0);
        (header[10], header[11]) = (0, 0);
        assert_eq!(internet(&header), 0xb861);
        // An odd byte at the end is the high half of a word.
        assert_eq!(internet(&[0x12]), !0x1200);
    }
}
