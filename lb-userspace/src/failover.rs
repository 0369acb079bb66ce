//! Which server takes a shard's writes, which may serve a read, and what to do about a statement whose
//! server was lost: from what the servers' proxies told, and the time.
//!
//! Asked by `lb logic` for each statement that it sends. Pure: time is an argument, and nothing here
//! waits, sends or stores. Roles are observed, never decided: some failover manager promotes, and an
//! *epoch* (a cluster and one of its timelines) says which promotion came last. The rules:
//!
//! - writes go to a server that said that it is primary of the highest epoch known, and to nobody if
//!   two did; never to one of an older epoch, even if that is the only one left;
//! - a server of another cluster is nobody's;
//! - a read goes where the session's floor has been replayed, and never into a history that is over;
//! - only what surely did nothing, or does nothing, is done again.

mod condition;
mod floor;
mod hedge;
mod line;
mod repeat;
mod shard;
mod topology;
mod view;

#[cfg(test)]
mod tests;

pub use self::condition::{Condition, Limits};
pub use self::floor::{Floor, Sight, sight};
pub use self::hedge::{HEDGES_SAVED_MAX, Hedges};
pub use self::line::{Admission, Line, LineFull, Ticket};
pub use self::repeat::{Progress, State, Then, Work, after_loss, code};
pub use self::topology::{ServerId, Shard, Topology, TopologyError};
pub use self::view::{Reads, Refusal, View, Writes};
