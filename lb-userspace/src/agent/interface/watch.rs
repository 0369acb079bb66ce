//! The running watch of all interfaces.

use std::{collections::HashMap, time::Duration};

use rtnetlink::{
    MulticastGroup,
    packet_route::{AddressFamily, RouteNetlinkMessage},
};
use tokio::{sync::mpsc, task::JoinSet, time};

use super::{Interface, parse};
use crate::agent::netlink::{Event, Events, Netlink, NetlinkError};

/// Link changes that wait for whoever watches; past it the watch waits, and the kernel buffers.
const CHANGES_MAX: usize = 64;

/// Pause before a failed event socket is opened again.
const RESUBSCRIBE_INTERVAL: Duration = Duration::from_secs(1);

/// A change of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// It appeared, or something of it is different now.
    Changed(Interface),
    /// It is gone; this is how it was last seen.
    Removed(Interface),
}

/// A running watch of all interfaces; ends when dropped.
#[derive(Debug)]
pub struct LinkWatch {
    _task: JoinSet<()>,
}

impl LinkWatch {
    /// Starts watching, in the network namespace of the calling thread. Each interface is reported
    /// once as it is found, then whenever a field of [`Interface`] differs.
    pub fn start(netlink: Netlink) -> Result<(Self, mpsc::Receiver<LinkChange>), NetlinkError> {
        let events = Events::subscribe(&[MulticastGroup::Link])?;
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut watcher = Watcher {
                netlink,
                events,
                changes,
                seen: HashMap::new(),
            };
            // The only way out is that nobody listens any more.
            if watcher.run().await.is_err() {
                tracing::debug!("link watch ends: nobody listens");
            }
        });
        Ok((Self { _task: task }, receiver))
    }
}

/// An error when nobody listens any more.
type Heard = Result<(), mpsc::error::SendError<LinkChange>>;

struct Watcher {
    netlink: Netlink,
    events: Events,
    changes: mpsc::Sender<LinkChange>,
    seen: HashMap<u32, Interface>,
}

impl Watcher {
    async fn run(&mut self) -> Heard {
        self.read_all().await?;
        loop {
            match self.events.next().await {
                Some(Event::Changed(RouteNetlinkMessage::NewLink(link))) => {
                    if let Some(interface) = parse(&link) {
                        self.note(interface).await?;
                    }
                }
                Some(Event::Changed(RouteNetlinkMessage::DelLink(link)))
                    // A port that leaves its bridge is also a DELLINK, of the bridge's family.
                    if link.header.interface_family == AddressFamily::Unspec =>
                {
                    self.forget(link.header.index).await?;
                }
                Some(Event::Changed(_)) => {}
                Some(Event::Lost) => self.read_all().await?,
                None => {
                    time::sleep(RESUBSCRIBE_INTERVAL).await;
                    if let Err(error) = self.events.resubscribe() {
                        tracing::warn!(%error, "cannot watch the interfaces; trying again");
                    }
                    self.read_all().await?;
                }
            }
        }
    }

    async fn read_all(&mut self) -> Heard {
        let all = match Interface::all(&self.netlink).await {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(%error, "cannot list the interfaces");
                return Ok(());
            }
        };
        let gone: Vec<u32> = self
            .seen
            .keys()
            .copied()
            .filter(|index| !all.iter().any(|interface| interface.index == *index))
            .collect();
        for index in gone {
            self.forget(index).await?;
        }
        for interface in all {
            self.note(interface).await?;
        }
        Ok(())
    }

    async fn note(&mut self, interface: Interface) -> Heard {
        if self.seen.get(&interface.index) == Some(&interface) {
            return Ok(());
        }
        self.seen.insert(interface.index, interface.clone());
        self.changes.send(LinkChange::Changed(interface)).await
    }

    async fn forget(&mut self, index: u32) -> Heard {
        match self.seen.remove(&index) {
            Some(interface) => self.changes.send(LinkChange::Removed(interface)).await,
            None => Ok(()),
        }
    }
}
