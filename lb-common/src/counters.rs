//! What the program counts. Every map of counters is per CPU: the program adds without atomics,
//! the agent sums over the CPUs.

/// Traffic of one service or one backend. All counts only grow, until the maps are removed.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, as received: Ethernet header included, tunnel header not.
    pub bytes: u64,
    /// TCP SYNs forwarded. Datagrams do not say where a flow begins and are not counted here.
    pub new_flows: u64,
    /// Packets that did not go to rung 0 of their slot.
    pub diverted: u64,
}

const _: () = assert!(size_of::<Traffic>() == 32);

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.new_flows = self.new_flows.wrapping_add(other.new_flows);
        self.diverted = self.diverted.wrapping_add(other.diverted);
    }
}

/// One counter per reason, index of `REPLIES`: what the program answered by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Reply {
    /// An echo request to a VIP.
    Echo = 0,
    /// A TCP reset because no backend is left.
    Reset = 1,
    /// An ICMP or ICMPv6 "port unreachable" because no backend is left.
    Unreachable = 2,
}

impl Reply {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Echo, Self::Reset, Self::Unreachable];

    /// The name that metrics and `lb status` use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
        }
    }
}
