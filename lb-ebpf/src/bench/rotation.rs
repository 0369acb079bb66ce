//! What the wrapper does to the packet before each call: shared with `lbt-bench`, which writes it.

/// The packet as it must be at the start of each call, and the flows that take turns.
///
/// Flow `i` differs from flow 0 in the client's address, its port and the VIP, each by exclusive
/// or with bits of `i`. Words are bytes of the packet as they lie in memory.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Rotation {
    /// Length of the frame in bytes.
    pub length: u32,
    /// Flows that take turns; at least 1.
    pub flows: u32,
    /// The flow whose turn it is.
    pub next: u32,
    /// Source and destination port.
    pub ports: u32,
    /// IPv4: source and destination address. IPv6: the last eight bytes of the source.
    pub source: u64,
    /// IPv6: the last eight bytes of the destination.
    pub destination: u64,
    /// The device that frames are sent out of, where they are sent.
    pub device: u32,
    /// Always zero.
    pub pad: u32,
}

/// VIPs that the flows go to in turn; they differ in the lowest bits of their addresses.
pub const VIPS: u32 = 16;
