//! What every packet may need and only the agent's configuration knows: map `SETTINGS`, one element.

use crate::address::Address;

/// The outer source addresses of tunnels. The bits below the prefixes are filled from the flow's
/// hash, so that a backend's network card spreads the flows over its queues.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Outer source of IPv4 tunnels; in the last word.
    pub tunnel_source_v4: Address,
    /// Outer source of IPv6 tunnels.
    pub tunnel_source_v6: Address,
    /// The bits of an IPv4 outer source that the flow's hash fills, as the word lies in memory.
    pub tunnel_fill_v4: u32,
    /// The same for the last 32 bits of an IPv6 outer source.
    pub tunnel_fill_v6: u32,
}

const _: () = assert!(size_of::<Settings>() == 40);
