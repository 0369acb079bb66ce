//! Where to send what is meant for a backend: output interface and MAC address, kept known and fresh.
//!
//! The reconciler says which addresses it needs ([`NextHops::set_targets`]) and hears of each one's
//! next hop, and of every change of it, as a [`NextHopChange`]. The kernel is the authority: its
//! routes choose the way, its neighbour table the MAC. All that we add is the wish that the neighbour
//! be resolved and stay so. Nothing here writes a BPF map or decides about a backend.
//!
//! `lookup` answers for one address, `entry` is one row of the neighbour table, `unresolved` the
//! reasons why there is no answer, `tracked` what was made of it, `watcher` the task that keeps the
//! answers up to date.

mod entry;
mod lookup;
mod tracked;
mod unresolved;
mod watcher;

use std::{net::IpAddr, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::unresolved::Unresolved;
use self::watcher::Watcher;
use super::{
    interface::Mac,
    netlink::{Netlink, NetlinkError},
};

/// Changes that wait for the reconciler; past it the watcher waits, and the kernel buffers.
pub const CHANGES_MAX: usize = 1024;

/// Events within this time are answered together.
pub const COALESCE_INTERVAL: Duration = Duration::from_millis(2);

/// While an address is unresolved the kernel is asked again this often to resolve it.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long a neighbour that is being asked keeps what was known of it before (at first: nothing)
/// until it is reported as unresolved. A flush of the neighbour table passes unnoticed thereby.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Everything is looked up anew this often, whether or not the kernel reported a change. On kernels
/// that do not manage neighbours by themselves (before 5.16) this also keeps them in use.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// An address whose next hop is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The caller's name for it. Of several with the same id the last counts.
    pub id: u32,
    /// Where packets shall go.
    pub address: IpAddr,
    /// The address itself must be the neighbour (`forward = "l2"`): a gateway does not do.
    pub on_link_required: bool,
}

/// How to send a frame on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The output interface.
    pub interface_index: u32,
    /// The neighbour's Ethernet address.
    pub mac: Mac,
    /// The neighbour, where it is not the address itself.
    pub gateway: Option<IpAddr>,
    /// The address that this host would send from.
    pub source: Option<IpAddr>,
}

/// What is now known of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHopChange {
    /// [`Target::id`].
    pub id: u32,
    /// The next hop, or why there is none.
    pub result: Result<NextHop, Unresolved>,
}

/// The running watcher; stops when dropped. The neighbours stay managed by the kernel then, because
/// the data plane goes on without the agent; `set_targets(vec![])` first gives them back.
#[derive(Debug)]
pub struct NextHops {
    targets: watch::Sender<Vec<Target>>,
    _task: JoinSet<()>,
}

impl NextHops {
    /// Starts watching, in the network namespace of the calling thread.
    pub fn start(netlink: Netlink) -> Result<(Self, mpsc::Receiver<NextHopChange>), NetlinkError> {
        let (targets, wanted) = watch::channel(Vec::new());
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let watcher = Watcher::new(netlink, wanted, changes)?;
        let mut task = JoinSet::new();
        task.spawn(watcher.run());
        Ok((
            Self {
                targets,
                _task: task,
            },
            receiver,
        ))
    }

    /// Replaces the whole set of targets. New ones, and those whose address or requirement changed,
    /// are reported within [`RESOLVE_TIMEOUT`]; the others only when their next hop changes. A
    /// change of a target that was just removed may still be under way.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.targets.send_replace(targets);
    }
}
