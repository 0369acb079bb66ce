//! What becomes of a packet, and why.

use crate::counters::Pass;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To the gateway's own kernel, untouched.
    Pass(Pass),
    /// Out of the interface that it came in by.
    Transmit,
    /// Out of another interface: an index into `DEVICES`.
    Redirect(u16),
}

/// Why a packet was dropped; index of the per-CPU map `DROPS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum DropReason {
    /// No backend of the pool takes flows, and `on_empty` says drop.
    NoBackend = 0,
    /// The chosen backend's next hop is not known.
    NoNextHop = 1,
    /// With its tunnel header the packet would exceed the MTU of the interface it leaves by.
    TooBig = 2,
    /// A fragment of a packet for a service.
    Fragment = 3,
    /// The driver left no room in front of the packet for a tunnel header.
    NoHeadroom = 4,
    /// The interface that the packet should leave by is not in the device map.
    NoDevice = 5,
    /// The service's pool has no table: the agent has not published one yet.
    NoTable = 6,
    /// Something that cannot happen did: a map lookup that never fails failed.
    Internal = 7,
    /// Its flow's backend was lost, and the packet is one that is never answered: a reset, or an
    /// ICMP error about the flow.
    BackendLost = 8,
    /// An answer was due, and the limit of answers per moment was reached.
    ReplyLimit = 9,
}

impl DropReason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::NoBackend,
        Self::NoNextHop,
        Self::TooBig,
        Self::Fragment,
        Self::NoHeadroom,
        Self::NoDevice,
        Self::NoTable,
        Self::Internal,
        Self::BackendLost,
        Self::ReplyLimit,
    ];

    /// The name that metrics and `lb status` use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::NoNextHop => "no_next_hop",
            Self::TooBig => "too_big",
            Self::Fragment => "fragment",
            Self::NoHeadroom => "no_headroom",
            Self::NoDevice => "no_device",
            Self::NoTable => "no_table",
            Self::Internal => "internal",
            Self::BackendLost => "backend_lost",
            Self::ReplyLimit => "reply_limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_number() {
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }
}
