//! Who serves whose keys, as the authority sees it: the one thing that changes and that all threads
//! share. A thread never changes it; it takes the newest at the start of a turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The state of all servers of layer one.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Counts up with each change.
    pub version: u64,
    /// In the order of the configuration: layer one, then the spares.
    pub servers: Vec<Server>,
}

/// What is to be done with one server's keys.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Where they are written.
    pub writer: SocketAddr,
    /// Counts up whenever another server takes the writes.
    pub epoch: u64,
    /// Where they may be read meanwhile; `None` where that is nowhere.
    pub copy: Option<SocketAddr>,
    /// The process of the copy that has caught up.
    pub copy_run_id: Option<Arc<str>>,
    pub serving: Serving,
    /// The process that may serve, as it calls itself; `None`: nobody yet.
    pub run_id: Option<Arc<str>>,
    /// Until when the authority has vouched for the writer, in milliseconds of the daemon's clock;
    /// looked at where no stale read is allowed.
    pub vouched_until_ms: Arc<AtomicU64>,
}

/// How a server's keys are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// By the writer.
    Writer,
    /// It has failed and has no copy that could take its place: by that other server, empty at first.
    Spare(usize),
}
