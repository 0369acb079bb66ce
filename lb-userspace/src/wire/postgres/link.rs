//! The link between `lb logic` and `lb db-proxy`: what the two say to each other on a connection of
//! PostgreSQL's protocol that was opened with the startup option [`OPTION`]. docs/link.md says when.
//!
//! Written and read by both daemons; never looks at a socket or a clock. Every message has the tag
//! [`TAG`], which PostgreSQL uses in neither direction, and then a byte that says which one it is.

mod field;
mod heartbeat;
mod kept;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::field::Fields;
pub use self::heartbeat::{Answering, Heartbeat, Load, Role};
use self::kept::Kept;
use super::write;

/// The startup option that asks for a link. A plain PostgreSQL names it in its
/// NegotiateProtocolVersion and goes on without.
pub const OPTION: &str = "_pq_.lb_link";
/// The tag of every message of the link, both ways.
pub const TAG: u8 = b'L';
/// The version that [`Hello`] names.
pub const VERSION: u16 = 1;

/// SQLSTATEs that only a link sees. Nothing of the refused segment reached PostgreSQL.
pub mod code {
    /// The server has not replayed the floor yet, or it is not known whether it has. Another server
    /// may have, and this one may later.
    pub const FLOOR_AHEAD: &str = "LB001";
    /// The server never will have what the floor stands for: it lies beyond the switch point of the
    /// server's history, or in another history, or in another cluster.
    pub const FLOOR_LOST: &str = "LB002";
    /// A write came to a server that is no primary, or whose epoch is older than the floor's.
    pub const NOT_PRIMARY: &str = "LB003";
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A stream of heartbeats; takes [`Attest`], and no queries.
    Watch,
    /// A session that also takes [`Floor`] and gets [`Position`].
    Session,
}

impl Mode {
    /// The value of the startup option; `None` for what this version does not know.
    #[must_use]
    pub fn of_option(value: &str) -> Option<Self> {
        match value {
            "watch" => Some(Self::Watch),
            "session" => Some(Self::Session),
            _ => None,
        }
    }

    /// The value of the startup option.
    #[must_use]
    pub const fn as_option(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Session => "session",
        }
    }
}

/// A place in the write-ahead log, in bytes, as `pg_lsn` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |part: &str| u32::from_str_radix(part, 16).ok().map(u64::from);
        Some(Self(part(high)? << 32 | part(low)?))
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Whose history a position belongs to. A promotion begins a new timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct Epoch {
    /// Which cluster (`system_identifier`); 0 if unknown.
    pub system: u64,
    /// Which timeline; 0 if unknown.
    pub timeline: u32,
    /// Where the timeline left the one before it; 0 for the first timeline. Two servers that were
    /// promoted by mistake are on timelines of the same number that began at different places.
    pub began: Lsn,
}

impl Epoch {
    /// Whether a server says that it knows nothing.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.system == 0 || self.timeline == 0
    }

    /// Whether this epoch came after `other`: of the same cluster, and of a later timeline.
    #[must_use]
    pub const fn is_after(&self, other: &Self) -> bool {
        self.system == other.system && self.timeline > other.timeline
    }

    /// Whether both are timelines of one number and yet not the same: two servers were promoted.
    #[must_use]
    pub fn is_rival_of(&self, other: &Self) -> bool {
        self.system == other.system && self.timeline == other.timeline && self.began != other.began
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "timeline {} of system {}", self.timeline, self.system)
    }
}

/// What a segment is announced as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It writes nothing: no [`Position`] follows.
    Read,
    /// It may write: admitted by a primary only.
    Write,
}

/// Announces the next segment: a Query, or everything up to the next Sync. It is admitted only by a
/// server that has replayed at least the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// What the segment does.
    pub intent: Intent,
    /// How long the proxy may wait for the server to get there, in milliseconds. 0: the proxy looks
    /// once more, and then refuses.
    pub patience_ms: u16,
    /// Whose position it is. Unknown ([`Epoch::is_unknown`]): there is no floor.
    pub epoch: Epoch,
    /// What must have been replayed.
    pub position: Lsn,
}

/// The highest epoch that a logic daemon has seen a primary attest. Only on watch links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attest {
    /// That epoch.
    pub epoch: Epoch,
}

/// There is a link: the last message before the first ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What both may use; a client that wants more goes on without a link.
    pub version: u16,
}

/// Everything that segments up to a count have written lies below a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How many ReadyForQuery messages the client had been sent when the position was asked for,
    /// not counting that of the login: it covers the writes of that many segments.
    pub segments: u64,
    /// Of the primary.
    pub epoch: Epoch,
    /// The end of the log then.
    pub position: Lsn,
}

/// What the proxy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProxy {
    /// The link begins.
    Hello(Hello),
    /// On watch links, several times a second.
    Heartbeat(Box<Heartbeat>),
    /// On session links, after a segment that may have written.
    Position(Position),
}

/// What a logic daemon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromLogic {
    /// On session links, before a segment.
    Floor(Floor),
    /// On watch links, at any time.
    Attest(Attest),
}

/// Why the body of a link's message is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A field is cut off, or has a value that it cannot have.
    #[error("a message {kind:?} of the link is malformed")]
    Malformed {
        /// Which message.
        kind: char,
    },
    /// This version does not know such a message.
    #[error("there is no message {kind:?} of the link in this direction")]
    Unknown {
        /// Which message.
        kind: char,
    },
}

impl FromProxy {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::message(out, TAG, |out| match self {
            Self::Hello(hello) => {
                out.push(b'H');
                out.extend_from_slice(&hello.version.to_be_bytes());
            }
            Self::Heartbeat(heartbeat) => {
                out.push(b'B');
                heartbeat.write(out);
            }
            Self::Position(position) => {
                out.push(b'P');
                out.extend_from_slice(&position.segments.to_be_bytes());
                field::write_epoch(out, position.epoch);
                out.extend_from_slice(&position.position.0.to_be_bytes());
            }
        });
    }

    /// Reads a message's body. Fields behind those that this version knows are ignored.
    ///
    /// # Errors
    /// If it is none that a proxy sends.
    pub fn read(body: &[u8]) -> Result<Self, LinkError> {
        read(body, |kind, fields| {
            Some(match kind {
                b'H' => Self::Hello(Hello {
                    version: fields.u16()?,
                }),
                b'B' => Self::Heartbeat(Box::new(Heartbeat::read(fields)?)),
                b'P' => Self::Position(Position {
                    segments: fields.u64()?,
                    epoch: fields.epoch()?,
                    position: fields.lsn()?,
                }),
                _ => return None,
            })
        })
    }
}

impl FromLogic {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::message(out, TAG, |out| match self {
            Self::Floor(floor) => {
                out.push(b'F');
                out.push(match floor.intent {
                    Intent::Read => b'r',
                    Intent::Write => b'w',
                });
                out.extend_from_slice(&floor.patience_ms.to_be_bytes());
                field::write_epoch(out, floor.epoch);
                out.extend_from_slice(&floor.position.0.to_be_bytes());
            }
            Self::Attest(attest) => {
                out.push(b'A');
                field::write_epoch(out, attest.epoch);
            }
        });
    }

    /// Reads a message's body. Fields behind those that this version knows are ignored.
    ///
    /// # Errors
    /// If it is none that a logic daemon sends.
    pub fn read(body: &[u8]) -> Result<Self, LinkError> {
        read(body, |kind, fields| {
            Some(match kind {
                b'F' => Self::Floor(Floor {
                    intent: match fields.u8()? {
                        b'r' => Intent::Read,
                        b'w' => Intent::Write,
                        _ => return None,
                    },
                    patience_ms: fields.u16()?,
                    epoch: fields.epoch()?,
                    position: fields.lsn()?,
                }),
                b'A' => Self::Attest(Attest {
                    epoch: fields.epoch()?,
                }),
                _ => return None,
            })
        })
    }
}

/// The kinds of both directions.
const KINDS: &[u8] = b"HBPFA";

fn read<M>(
    body: &[u8],
    message: impl FnOnce(u8, &mut Fields<'_>) -> Option<M>,
) -> Result<M, LinkError> {
    let &[kind, ref rest @ ..] = body else {
        return Err(LinkError::Malformed { kind: '\0' });
    };
    message(kind, &mut Fields(rest)).ok_or(if KINDS.contains(&kind) {
        LinkError::Malformed {
            kind: char::from(kind),
        }
    } else {
        LinkError::Unknown {
            kind: char::from(kind),
        }
    })
}
