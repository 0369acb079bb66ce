//! What a proxy tells of its server, several times a second: that both are alive, and how far the
//! server is.

use super::field::{Fields, write_epoch};
use super::{Epoch, Lsn};
use crate::wire::postgres::write;

/// What a server is, and how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// It takes writes.
    Primary {
        /// The end of its log.
        inserted: Lsn,
        /// What of it would survive a crash.
        flushed: Lsn,
    },
    /// It follows.
    Standby {
        /// What it has of the log.
        received: Lsn,
        /// What of it its queries see.
        replayed: Lsn,
    },
}

/// Whether a server answers the questions of the watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answering {
    /// It does.
    Yes,
    /// A question has been waiting for its answer longer than any should.
    Silent,
    /// There is no connection to it.
    #[default]
    Unreachable,
}

/// How busy a proxy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Clients that have logged in.
    pub clients: u32,
    /// Server connections that work for one.
    pub active: u32,
    /// Clients that wait for a server connection.
    pub waiting: u32,
}

/// The state of a server, as its proxy saw it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts from 1 on each link. One that is missing was left out because the link was full.
    pub sequence: u64,
    /// Whether the server answers.
    pub answering: Answering,
    /// How long the question has waited that has no answer yet, in milliseconds; 0 if none waits.
    pub silent_ms: u32,
    /// How old what follows is, in milliseconds: counted from when it was asked.
    pub age_ms: u32,
    /// The life of the server's processes. Another number means that what the server had replayed
    /// may be gone again. 0 if unknown.
    pub incarnation: u64,
    /// When the postmaster started, in microseconds since 1970.
    pub started_us: u64,
    /// Its history.
    pub epoch: Epoch,
    /// Its role and positions.
    pub role: Role,
    /// Whether the proxy keeps everybody away from it: it is a primary of an epoch that is over.
    pub is_fenced: bool,
    /// The highest epoch that the proxy knows of.
    pub highest: Epoch,
    /// How busy the proxy is.
    pub load: Load,
    /// Why the server cannot be reached, or why it is fenced; empty if neither is so.
    pub reason: String,
}

impl Heartbeat {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (role, first, second) = match self.role {
            Role::Unknown => (b'?', Lsn(0), Lsn(0)),
            Role::Primary { inserted, flushed } => (b'p', inserted, flushed),
            Role::Standby { received, replayed } => (b's', received, replayed),
        };
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.push(match self.answering {
            Answering::Yes => b'a',
            Answering::Silent => b's',
            Answering::Unreachable => b'u',
        });
        out.extend_from_slice(&self.silent_ms.to_be_bytes());
        out.extend_from_slice(&self.age_ms.to_be_bytes());
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        out.extend_from_slice(&self.started_us.to_be_bytes());
        write_epoch(out, self.epoch);
        out.push(role);
        out.extend_from_slice(&first.0.to_be_bytes());
        out.extend_from_slice(&second.0.to_be_bytes());
        out.push(u8::from(self.is_fenced));
        write_epoch(out, self.highest);
        for count in [self.load.clients, self.load.active, self.load.waiting] {
            out.extend_from_slice(&count.to_be_bytes());
        }
        let reason = self.reason.as_bytes();
        let end = memchr::memchr(0, reason).unwrap_or(reason.len());
        write::text(out, &reason[..end]);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            sequence: fields.u64()?,
            answering: match fields.u8()? {
                b'a' => Answering::Yes,
                b's' => Answering::Silent,
                b'u' => Answering::Unreachable,
                _ => return None,
            },
            silent_ms: fields.u32()?,
            age_ms: fields.u32()?,
            incarnation: fields.u64()?,
            started_us: fields.u64()?,
            epoch: fields.epoch()?,
            role: {
                let (role, first, second) = (fields.u8()?, fields.lsn()?, fields.lsn()?);
                match role {
                    b'?' => Role::Unknown,
                    b'p' => Role::Primary {
                        inserted: first,
                        flushed: second,
                    },
                    b's' => Role::Standby {
                        received: first,
                        replayed: second,
                    },
                    _ => return None,
                }
            },
            is_fenced: fields.bool()?,
            highest: fields.epoch()?,
            load: Load {
                clients: fields.u32()?,
                active: fields.u32()?,
                waiting: fields.u32()?,
            },
            reason: fields.text()?,
        })
    }
}
