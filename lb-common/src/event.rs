//! What the program tells the agent at once: records of the ring `EVENTS`, and what it suspects.

use crate::flow::FlowKey;

/// One record of `EVENTS`.
///
/// The same backend (or pool) is told of once per tick and CPU at most, however many packets
/// say the same.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// An [`EventKind`] as a number.
    pub kind: u32,
    /// The pool.
    pub pool: u16,
    /// The backend; [`BackendId::NONE`](crate::backend::BackendId::NONE) where none is meant.
    pub backend: u16,
    /// The flow whose packet brought it up.
    pub flow: FlowKey,
}

const _: () = assert!(size_of::<Event>() == 48);

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum EventKind {
    /// A SYN came again: the backend that its flow was sent to may not answer.
    Suspected = 1,
    /// As `Suspected`, and as no agent was alive the SYN went to the next rung.
    Rescued = 2,
    /// A flow of a lost backend was reset.
    Reset = 3,
    /// No backend takes a packet of this pool.
    Empty = 4,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Suspected, Self::Rescued, Self::Reset, Self::Empty];

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// One element of `SUSPICIONS`, per CPU: what live traffic says against a backend.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Suspicion {
    /// SYNs that came again after they were sent to it.
    pub repeated_syns: u64,
    /// Resets sent to flows that it had.
    pub resets: u64,
    /// Tick ([`tick`](crate::flow::tick)) in which the agent was last told that SYNs are repeated.
    pub told_repeated: u32,
    /// The same for resets.
    pub told_reset: u32,
}

const _: () = assert!(size_of::<Suspicion>() == 24);

/// Fingerprints of SYNs: a direct-mapped array, in which a later SYN pushes an earlier out.
pub const FINGERPRINTS: u32 = 8192;
/// A SYN with the fingerprint of an earlier one counts as sent again from this age on, ns: 2²⁷,
/// about 134 ms. Sooner it is the network that doubled it.
pub const REPEATED_AFTER_NS: u64 = 1 << 27;
/// And until this age, ns: 2³³, about 8.6 s.
pub const REPEATED_UNTIL_NS: u64 = 1 << 33;
/// An agent whose last sign of life is older than this, ns, is taken for dead: 500 ms.
pub const AGENT_SILENT_NS: u64 = 500_000_000;
/// How often a living agent gives a sign of life, ns: 50 ms.
pub const AGENT_BEAT_NS: u64 = 50_000_000;
