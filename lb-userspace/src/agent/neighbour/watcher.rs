//! The task that keeps next hops fresh: hears the kernel's changes, looks up what they touch, and
//! reports what came out differently.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use rtnetlink::{
    MulticastGroup,
    packet_route::{RouteNetlinkMessage, neighbour::NeighbourMessage, route::RouteMessage},
};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};

use super::{
    COALESCE_INTERVAL, NextHopChange, RETRY_INTERVAL, SWEEP_INTERVAL, Target,
    entry::{self, EntryKey},
    lookup::{self, Interfaces},
    tracked::Tracked,
};
use crate::agent::netlink::{Event, Events, Netlink, NetlinkError};

/// Neighbours and links, and whatever can lead a packet another way. Addresses are among them
/// because the kernel drops routes silently when the address they prefer goes.
const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Neigh,
    MulticastGroup::Link,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

/// After a pass comes a pause of this many times its length, so that a storm of route changes takes
/// at most a fifth of one CPU.
const PAUSE_PER_PASS: u32 = 4;

/// But no longer than this: a pass may have been long only because the reconciler was slow to listen.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Nobody listens for changes any more, or nobody asks.
struct Abandoned;

/// The state of the task.
pub(super) struct Watcher {
    netlink: Netlink,
    events: Events,
    wanted: watch::Receiver<Vec<Target>>,
    changes: mpsc::Sender<NextHopChange>,
    tracked: BTreeMap<u32, Tracked>,
    /// Who depends on a neighbour.
    dependants: HashMap<EntryKey, Vec<u32>>,
    /// When the dirty ones are looked up next; `None` when there are none.
    pass_at: Option<Instant>,
    /// No pass before this.
    rest_until: Instant,
    /// When the unresolved ones are looked up next; `None` when there are none.
    retry_at: Option<Instant>,
    sweep_at: Instant,
}

impl Watcher {
    pub(super) fn new(
        netlink: Netlink,
        wanted: watch::Receiver<Vec<Target>>,
        changes: mpsc::Sender<NextHopChange>,
    ) -> Result<Self, NetlinkError> {
        let now = Instant::now();
        Ok(Self {
            netlink,
            events: Events::subscribe(GROUPS)?,
            wanted,
            changes,
            tracked: BTreeMap::new(),
            dependants: HashMap::new(),
            pass_at: None,
            rest_until: now,
            retry_at: None,
            sweep_at: now + SWEEP_INTERVAL,
        })
    }

    /// Runs until [`super::NextHops`] or the receiver of its changes is dropped.
    pub(super) async fn run(mut self) {
        while self.step().await.is_ok() {}
        tracing::debug!("next hops are no longer watched");
    }

    async fn step(&mut self) -> Result<(), Abandoned> {
        let wake = [self.pass_at, self.retry_at]
            .into_iter()
            .flatten()
            .fold(self.sweep_at, Ord::min);
        // Every branch is cancel-safe: what was not taken is still there the next time.
        tokio::select! {
            // The deadline first, or a steady stream of events would put it off for ever.
            biased;
            () = time::sleep_until(wake) => self.work().await,
            changed = self.wanted.changed() => {
                changed.map_err(|_| Abandoned)?;
                self.adopt().await
            }
            event = self.events.next() => {
                self.note(event).await;
                Ok(())
            }
            () = self.changes.closed() => Err(Abandoned),
        }
    }

    /// Takes over a new set of targets.
    async fn adopt(&mut self) -> Result<(), Abandoned> {
        let wanted: BTreeMap<u32, Target> = self
            .wanted
            .borrow_and_update()
            .iter()
            .map(|target| (target.id, target.clone()))
            .collect();
        self.tracked
            .retain(|id, tracked| wanted.get(id) == Some(&tracked.target));
        for (id, target) in wanted {
            self.tracked
                .entry(id)
                .or_insert_with(|| Tracked::new(target));
        }
        self.pass().await?;
        self.give_back_unused().await;
        Ok(())
    }

    /// Neighbours kept for targets that are gone, by this run or an earlier one.
    async fn give_back_unused(&self) {
        let kept = match entry::kept(&self.netlink).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(%error, "cannot list the neighbours kept for former backends");
                return;
            }
        };
        for key in kept
            .into_iter()
            .filter(|key| !self.dependants.contains_key(key))
        {
            if let Err(error) = entry::give_back(&self.netlink, key).await {
                tracing::debug!(%error, "a neighbour of a former backend stays managed");
            }
        }
    }

    /// Marks what an event may have changed. Looking it up is left to the next pass.
    async fn note(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Changed(
                RouteNetlinkMessage::NewNeighbour(message)
                | RouteNetlinkMessage::DelNeighbour(message),
            )) => self.note_neighbour(&message),
            Some(Event::Changed(
                RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message),
            )) => self.note_route(&message),
            Some(Event::Changed(_) | Event::Lost) => self.note_where(|_| true),
            None => {
                time::sleep(RETRY_INTERVAL).await;
                if let Err(error) = self.events.resubscribe() {
                    tracing::warn!(%error, "cannot watch the neighbours; trying again");
                }
                self.note_where(|_| true);
            }
        }
    }

    fn note_neighbour(&mut self, message: &NeighbourMessage) {
        let Some(ids) = entry::key_of(message).and_then(|key| self.dependants.get(&key)) else {
            return;
        };
        for id in ids {
            if let Some(tracked) = self.tracked.get_mut(id) {
                tracked.is_dirty = true;
            }
        }
        self.schedule_pass();
    }

    fn note_route(&mut self, message: &RouteMessage) {
        let prefix = lookup::prefix_of(message);
        self.note_where(|address| prefix.is_none_or(|prefix| prefix.contains(&address)));
    }

    fn note_where(&mut self, is_touched: impl Fn(IpAddr) -> bool) {
        let mut any = false;
        for tracked in self.tracked.values_mut() {
            if is_touched(tracked.target.address) {
                tracked.is_dirty = true;
                any = true;
            }
        }
        if any {
            self.schedule_pass();
        }
    }

    fn schedule_pass(&mut self) {
        let earliest = (Instant::now() + COALESCE_INTERVAL).max(self.rest_until);
        self.pass_at.get_or_insert(earliest);
    }

    /// A deadline has passed.
    async fn work(&mut self) -> Result<(), Abandoned> {
        let now = Instant::now();
        let is_sweep = now >= self.sweep_at;
        let is_retry = self.retry_at.is_some_and(|at| now >= at);
        for tracked in self.tracked.values_mut() {
            tracked.is_dirty |= is_sweep || (is_retry && tracked.is_unsettled());
        }
        if is_sweep {
            self.sweep_at = now + SWEEP_INTERVAL;
        }
        self.pass().await
    }

    /// Looks up everything dirty, and reports what is different.
    async fn pass(&mut self) -> Result<(), Abandoned> {
        let started = Instant::now();
        let mut interfaces = Interfaces::new();
        let mut asked = HashSet::new();
        for (id, tracked) in &mut self.tracked {
            if !tracked.is_dirty {
                continue;
            }
            tracked.is_dirty = false;
            let found = lookup::look_up(&self.netlink, &tracked.target, &mut interfaces).await;
            let now = Instant::now();
            if let Some(key) = tracked.due_question(&found, now)
                && asked.insert(key)
                && let Err(error) = entry::keep_resolved(&self.netlink, key).await
            {
                tracing::debug!(%error, "the kernel does not resolve a neighbour");
            }
            if let Some(result) = tracked.judge(found, now) {
                let change = NextHopChange { id: *id, result };
                self.changes.send(change).await.map_err(|_| Abandoned)?;
            }
        }
        self.after_pass(started);
        Ok(())
    }

    fn after_pass(&mut self, started: Instant) {
        let now = Instant::now();
        self.pass_at = None;
        self.rest_until = now + ((now - started) * PAUSE_PER_PASS).min(PAUSE_MAX);
        self.dependants.clear();
        self.retry_at = None;
        for (id, tracked) in &self.tracked {
            if let Some(key) = tracked.key {
                self.dependants.entry(key).or_default().push(*id);
            }
            if tracked.is_unsettled() {
                let at = tracked.patience.unwrap_or(now + RETRY_INTERVAL);
                self.retry_at = Some(self.retry_at.map_or(at, |earliest| earliest.min(at)));
            }
        }
    }
}
