//! An interface that packets leave by: map `PORTS`, beside the device map `DEVICES`.

/// One element of `PORTS`; the index is the port of a [`NextHop`](crate::backend::NextHop).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// The kernel's index of the interface; 0 is an index that nobody uses.
    pub interface_index: u32,
    /// The largest IP packet that the interface takes, in bytes.
    pub mtu: u32,
    /// The interface's own MAC address: the source of every frame sent there.
    pub mac: [u8; 6],
    /// Always zero.
    pub pad: [u8; 2],
    /// VLAN tags of the frames sent there, the outer one first; 0 where there is none. A tag as on
    /// the wire: EtherType (0x8100 or 0x88a8), then priority and VLAN id, read as a big-endian
    /// number.
    pub tags: [u32; 2],
}

impl Port {
    /// Bytes of VLAN tags on the frames sent there.
    #[inline(always)]
    #[must_use]
    pub const fn tags_len(&self) -> usize {
        (self.tags[0] != 0) as usize * 4 + (self.tags[1] != 0) as usize * 4
    }
    /// The MAC address as a little-endian number, its first byte lowest.
    #[inline(always)]
    #[must_use]
    pub const fn mac_word(&self) -> u64 {
        let ([a, b, c, d, e, f], [g, h]) = (self.mac, self.pad);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

const _: () = assert!(size_of::<Port>() == 24);
