//! What the data plane counts and tells.

use crate::hash::Key;

/// Why a packet was left to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// For no service, or too odd to be for one.
    NotOurs,
    /// `on_empty = "pass"`.
    Empty,
}

/// What was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Echo reply.
    Echo,
    /// RST, nobody is left.
    Reset,
    /// Port unreachable, nobody is left.
    Unreachable,
    /// RST, the flow's backend is lost.
    LossReset,
    /// Too big for the tunnel.
    TooBig,
}

/// Why a packet was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names of the counters")]
pub enum Drop {
    NoBackend,
    NoNextHop,
    TooBig,
    Fragment,
    NoHeadroom,
    NoDevice,
    NoTable,
    Internal,
    BackendLost,
    ReplyLimit,
}

/// What was done with the flow maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names of the counters")]
pub enum Flow {
    Recorded,
    Kept,
    Followed,
    Full,
    NotRecorded,
    Dead,
    Migrated,
    Repeated,
    Rescued,
    EventsLost,
}

/// What the agent is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names of the events")]
pub enum Kind {
    Suspected = 1,
    Rescued,
    Reset,
    Empty,
}

/// An event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// In which pool.
    pub pool: u16,
    /// To which backend.
    pub backend: u16,
    /// By whose packet.
    pub flow: Key,
}

/// Traffic of a service or a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names of the counters")]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    pub diverted: u64,
}

/// All counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the maps")]
pub struct Counters {
    pub passes: [u64; 2],
    pub replies: [u64; 5],
    pub drops: [u64; 10],
    pub flows: [u64; 10],
    pub services: Vec<Traffic>,
    pub backends: Vec<Traffic>,
    /// Repeated SYNs and resets of each backend.
    pub suspicions: Vec<[u64; 2]>,
}

impl Counters {
    /// All of them 0.
    #[must_use]
    pub fn new(services: usize, backends: usize) -> Self {
        Self {
            passes: [0; 2],
            replies: [0; 5],
            drops: [0; 10],
            flows: [0; 10],
            services: vec![Traffic::default(); services],
            backends: vec![Traffic::default(); backends],
            suspicions: vec![[0; 2]; backends],
        }
    }

    /// Packets that were accounted for.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let forwarded = self.services.iter().map(|service| service.packets);
        let counts = [&self.passes[..], &self.replies[..], &self.drops[..]];
        counts.into_iter().flatten().sum::<u64>() + forwarded.sum::<u64>()
    }
}
