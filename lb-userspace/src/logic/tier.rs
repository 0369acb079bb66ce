//! What a tier is to the daemon: the listener for one protocol, and what stands behind it.

use std::sync::{Arc, Weak};

use futures::future::LocalBoxFuture;
use tokio::sync::watch;

use super::{Daemon, Exposition};
use crate::config::LogicConfig;
use crate::control::{CacheStatus, TierStatus};

/// How far the daemon is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    Serving,
    /// It serves, and `/readyz` fails, so that gateways send no new flows.
    Unready,
    /// Listeners close, clients finish what they do and leave.
    Draining,
    /// Now.
    Stopped,
}

/// One of the threads that serve, as a tier sees it.
pub(crate) struct Worker {
    /// When to stop.
    pub phase: watch::Receiver<Phase>,
}

/// The listener for one protocol, and what stands behind it. The object is what its threads share;
/// everything else belongs to one thread.
pub(crate) trait Tier: Send + Sync {
    /// Its key in `[logic]`.
    fn name(&self) -> &'static str;

    /// Serves the clients of one thread until [`Phase::Stopped`].
    fn serve(self: Arc<Self>, worker: Worker) -> LocalBoxFuture<'static, ()>;

    /// Runs on the main thread as long as the daemon does: watches servers, follows authorities.
    fn background(self: Arc<Self>) -> LocalBoxFuture<'static, ()>;

    /// Whether it can serve, or why not; `None`: it has no say in that.
    fn ready(&self) -> Option<Result<(), String>>;

    /// Clients connected, on all threads.
    fn clients(&self) -> u64;

    /// Takes a new configuration, which is valid by itself.
    ///
    /// # Errors
    /// Where it cannot be taken: then nothing of it is.
    fn reload(&self, config: &LogicConfig) -> anyhow::Result<()>;

    /// Learns of the daemon, when all tiers are there.
    fn meet(&self, _daemon: Weak<Daemon>) {}

    /// What `lb status` shows.
    fn status(&self) -> TierStatus;

    /// What `lb cache status` shows, by the tier that is one.
    fn cache(&self) -> Option<CacheStatus> {
        None
    }

    /// What Prometheus fetches.
    fn expose(&self, out: &mut Exposition);
}
