//! The rules that can be taken out of the model one at a time: a fuzzer that does not notice that
//! one is missing does not test it.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule of the data plane.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

rules! {
    /// A SYN goes where a record on a backend that takes new flows says.
    SynFollowsRecord,
    /// A SYN that is sent elsewhere deletes a record that no longer counts.
    SynDeletesDeadRecord,
    /// Where a SYN overrides a record in `FLOWS`, that is superseded and not deleted.
    SynSupersedes,
    /// A record in `FLOWS_NEW` that is not a SYN's moves to `FLOWS`, superseded.
    SynKeepsOlderRecord,
    /// A SYN that repeats under another sequence number leaves its record without one.
    SynForgetsSequence,
    /// A SYN is recorded where a record of its flow is alive, also in a slot that needs none.
    SynRecordsBesideRecord,
    /// A record made by a SYN counts only for sequence numbers behind it.
    SequenceWindow,
    /// A superseded record counts when nothing else does.
    SupersededIsLast,
    /// A record's generation must be its backend's.
    Generation,
    /// A record's backend must be alive.
    AliveOnHit,
    /// A dead record is deleted.
    DeadIsDeleted,
    /// A second packet moves the record to `FLOWS`.
    MoveToFlows,
    /// `FLOWS` evicts nobody.
    FlowsIsBounded,
    /// The last packet's time is kept.
    LastSeen,
    /// FIN and RST mark, and any other packet unmarks.
    ClosingMark,
    /// New flows and unrecorded flows have owners of their own.
    OldIsNotNew,
    /// UDP has an owner bit of its own.
    UdpHasItsOwnBit,
    /// A slot that is changed has its flows at the previous owner.
    PreviousOwner,
    /// The previous owner must still own flows.
    PreviousMustOwn,
    /// In a changed slot everything is recorded.
    ChangedRecords,
    /// The flag of TCP is not that of UDP.
    ChangedByProtocol,
    /// A slot with a flag is not stable.
    FlagsLeaveFastPath,
    /// A backend with `TRACK` is not stable.
    TrackLeavesFastPath,
    /// Flows of a lost backend are reset.
    LostResets,
    /// A lost rung counts only before the owner.
    LostBeforeOwner,
    /// Datagrams are never reset.
    UdpNeverLost,
    /// A reset is never answered.
    ResetIsNotAnswered,
    /// `on_backend_loss = "migrate"`.
    Migrate,
    /// A flow that migrates is recorded.
    MigrationRecords,
    /// `tracking = "always"`.
    Always,
    /// `tracking = "never"`.
    Never,
    /// Flows of a service that changed its pool.
    PreviousPool,
    /// QUIC Initials open flows.
    QuicInitial,
    /// SYNs that come again are counted.
    Repeated,
    /// They are sent to the next rung when no agent is alive.
    Rescue,
    /// A rescue marks the stable backend that it left.
    RescueTracks,
    /// Slots behind the flow's own are looked at.
    WalkGoesOn,
    /// The walk comes to the first slot behind the last.
    WalkWraps,
    /// ICMP errors follow their flow's record.
    IcmpFollowsRecord,
    /// ICMP errors record nothing.
    IcmpRecordsNothing,
    /// An ICMP error is of a flow only if it was sent to whom the quoted packet came from.
    IcmpIsToQuotedSource,
    /// A fragment of an ICMP error is dropped.
    IcmpIsWhole,
    /// Sources that are no single host get no ICMP error.
    HostsAreAnswered,
    /// ICMP errors are limited.
    AnswersAreLimited,
    /// IPv6 senders are told no less than 1280.
    SixNeedsNoLess,
    /// Ports of a service with fragments count as 0.
    FragmentsHaveNoPorts,
    /// A SYN's segment size is brought down to what the service says.
    ClampsMss,
}

/// Which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules(Option<Rule>);

impl Rules {
    /// All of them.
    pub const ALL: Self = Self(None);

    /// All but this one.
    #[must_use]
    pub const fn without(rule: Rule) -> Self {
        Self(Some(rule))
    }

    /// Whether `rule` holds.
    #[must_use]
    #[inline]
    pub fn hold(self, rule: Rule) -> bool {
        self.0 != Some(rule)
    }
}
