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
    /// A TCP reset because the flow's backend was lost.
    LossReset = 3,
    /// An ICMP "fragmentation needed" or ICMPv6 "packet too big": with its tunnel header the packet
    /// would not fit.
    TooBig = 4,
}

impl Reply {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 5] = [
        Self::Echo,
        Self::Reset,
        Self::Unreachable,
        Self::LossReset,
        Self::TooBig,
    ];

    /// The name that metrics and `lb status` use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::LossReset => "loss_reset",
            Self::TooBig => "too_big",
        }
    }
}

/// One counter per reason, index of `PASSES`: what was left to the gateway's own kernel, untouched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Pass {
    /// For no service, or too odd to be for one.
    NotOurs = 0,
    /// For a service without backends whose pool says `on_empty = "pass"`.
    Empty = 1,
}

impl Pass {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 2] = [Self::NotOurs, Self::Empty];

    /// The name that metrics and `lb status` use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotOurs => "not_ours",
            Self::Empty => "empty",
        }
    }
}

/// One counter per happening, index of `FLOW_COUNTS`: what was done with the flow maps. In a
/// stable slot none of them moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum FlowCount {
    /// A record was written to `FLOWS_NEW`.
    Recorded = 0,
    /// A record went on to `FLOWS`: a second packet of the flow came.
    Kept = 1,
    /// A packet went where its record says.
    Followed = 2,
    /// `FLOWS` was full; the record stays in `FLOWS_NEW`, where another may push it out.
    Full = 3,
    /// `FLOWS_NEW` took no record.
    NotRecorded = 4,
    /// A packet met a record whose backend is gone; the record was deleted.
    Dead = 5,
    /// A flow whose backend was lost went on at another (`on_backend_loss = "migrate"`, UDP).
    Migrated = 6,
    /// A SYN came again: its backend may not answer.
    Repeated = 7,
    /// A SYN came again while no agent was alive, and was sent to the next rung.
    Rescued = 8,
    /// `EVENTS` was full; the agent was not told of something.
    EventsLost = 9,
}

impl FlowCount {
    /// Every happening, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::Recorded,
        Self::Kept,
        Self::Followed,
        Self::Full,
        Self::NotRecorded,
        Self::Dead,
        Self::Migrated,
        Self::Repeated,
        Self::Rescued,
        Self::EventsLost,
    ];

    /// The name that metrics and `lb status` use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Kept => "kept",
            Self::Followed => "followed",
            Self::Full => "full",
            Self::NotRecorded => "not_recorded",
            Self::Dead => "dead",
            Self::Migrated => "migrated",
            Self::Repeated => "repeated",
            Self::Rescued => "rescued",
            Self::EventsLost => "events_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_stands_at_its_own_number() {
        let numbers = |count: usize| (0..count as u32).collect::<Vec<_>>();
        assert_eq!(
            Reply::ALL.map(|it| it as u32)[..],
            numbers(Reply::ALL.len())
        );
        assert_eq!(Pass::ALL.map(|it| it as u32)[..], numbers(Pass::ALL.len()));
        assert_eq!(
            FlowCount::ALL.map(|it| it as u32)[..],
            numbers(FlowCount::ALL.len())
        );
    }
}
