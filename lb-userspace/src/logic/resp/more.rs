//! What only some clients need: a name, a transaction, subscriptions, connections of their own.

use std::collections::BTreeSet;

use super::link::LinkId;

/// What CLIENT REPLY asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// None to the command that follows this one.
    SkipNext,
    /// None to this command.
    Skip,
}

#[derive(Debug, Default)]
pub(super) struct More {
    pub name: Vec<u8>,
    pub replies: Replies,
    pub transaction: Option<Transaction>,
    /// A connection that watches keys, and its server.
    pub watch: Option<(LinkId, usize)>,
    /// A connection that a command of this client blocks.
    pub blocking: Option<LinkId>,
    pub subscriptions: Option<Box<Subscriptions>>,
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// As they will be sent.
    pub commands: Vec<u8>,
    pub count: u32,
    /// Whose keys they are.
    pub server: Option<usize>,
    /// One of them was refused: EXEC will be, too.
    pub is_spoilt: bool,
}

/// What a client listens to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub channels: BTreeSet<Vec<u8>>,
    pub patterns: BTreeSet<Vec<u8>>,
    pub shard_channels: BTreeSet<Vec<u8>>,
    /// Connections, and their servers.
    pub links: Vec<(LinkId, usize)>,
}

impl Subscriptions {
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shard_channels.is_empty()
    }
}

impl More {
    /// Whether the command at hand gets no answer.
    pub fn mutes(&self) -> bool {
        matches!(self.replies, Replies::Off | Replies::Skip)
    }

    /// The next command begins.
    pub fn next_command(&mut self) {
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            other => other,
        };
    }

    /// In RESP 2 a client that listens may do nothing else.
    pub fn is_subscribed(&self) -> bool {
        let subscriptions = self.subscriptions.as_ref();
        subscriptions.is_some_and(|subscriptions| !subscriptions.is_empty())
    }
}
