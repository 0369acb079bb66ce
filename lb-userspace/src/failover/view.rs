//! One daemon's view of a database: what it was told, and what follows from that now.

use std::cmp::Reverse;
use std::time::Instant;

use super::condition::{Condition, Limits, News, Server};
use super::floor::{Floor, Sight, are_rivals, are_same, sight};
use super::shard::Known;
use super::topology::{ServerId, Shard, Topology, affinity};
use crate::wire::postgres::link::{Epoch, Heartbeat, Lsn, Role};

/// Where a shard's writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// To this server, announced with this epoch.
    To {
        /// The primary.
        server: ServerId,
        /// The highest epoch known, which is its own.
        epoch: Epoch,
    },
    /// Nowhere now; a primary may come. What it waits for, if there is one.
    Wait(Option<(ServerId, Condition)>),
    /// Nowhere until somebody does something.
    Refused(Refusal),
}

/// Why no write is possible, whoever is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Two servers say that they are primary, of the same epoch.
    #[error("two servers say that they are the primary of one epoch")]
    TwoPrimaries(ServerId, ServerId),
    /// A server was promoted beside another: their timelines have one number, and differ.
    #[error("two servers were promoted beside each other")]
    Rival(ServerId),
    /// Servers of different clusters are configured for one shard, and it is not known which is meant.
    #[error("the servers belong to different clusters")]
    TwoClusters,
}

/// Where a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// To those in the list, the first one first.
    Some,
    /// Nowhere now.
    Wait,
    /// Nowhere ever: what the reader has seen is not in the primary's history any more.
    Lost,
}

/// What a daemon knows of the servers of one database.
#[derive(Clone, Debug)]
pub struct View {
    topology: Topology,
    limits: Limits,
    began: Instant,
    servers: Vec<Server>,
    known: Vec<Known>,
}

impl View {
    /// Nothing was heard yet. `persisted` gives the highest epoch that an earlier life of the daemon
    /// knew of a shard.
    #[must_use]
    pub fn new(
        topology: Topology,
        limits: Limits,
        persisted: impl Fn(Shard) -> Option<Epoch>,
        now: Instant,
    ) -> Self {
        let known = topology.shards().map(|shard| Known::new(persisted(shard)));
        Self {
            servers: topology.servers().map(|_| Server::default()).collect(),
            known: known.collect(),
            topology,
            limits,
            began: now,
        }
    }

    /// A heartbeat came. Returns the shard's highest epoch if it is news: it is to be persisted, and
    /// attested to every proxy of the shard.
    pub fn heard(&mut self, server: ServerId, beat: Heartbeat, now: Instant) -> Option<Epoch> {
        let shard = self.topology.shard_of(server)?;
        let (epoch, highest, role) = (beat.epoch, beat.highest, beat.role);
        let remembered = &mut self.servers[usize::from(server.0)];
        match role {
            Role::Primary { .. } if !epoch.is_unknown() => remembered.claim = Some(epoch),
            Role::Standby { .. } => remembered.claim = None,
            Role::Primary { .. } | Role::Unknown => {}
        }
        remembered.news = News::Heard { at: now, beat };
        let is_adopted = self.adopt(shard, now);
        let known = &mut self.known[usize::from(shard.0)];
        // Both, and not either: a server may be behind of what its own proxy was told.
        let is_higher = known.hears_of(&epoch) | known.hears_of(&highest);
        let is_settled = self.settle(shard, now);
        (is_adopted || is_higher || is_settled)
            .then(|| self.attested(shard))
            .flatten()
    }

    /// The link to a server's proxy was refused, reset, or given up.
    pub fn lost(&mut self, server: ServerId) {
        if let Some(remembered) = self.servers.get_mut(usize::from(server.0)) {
            remembered.news = News::Lost;
        }
    }

    /// What a server told last, while there is a link to its proxy.
    #[must_use]
    pub fn told(&self, server: ServerId) -> Option<&Heartbeat> {
        match &self.servers.get(usize::from(server.0))?.news {
            News::Heard { beat, .. } => Some(beat),
            News::None | News::Lost => None,
        }
    }

    /// The highest epoch known of a shard: what proxies are attested.
    #[must_use]
    pub fn attested(&self, shard: Shard) -> Option<Epoch> {
        self.known.get(usize::from(shard.0))?.epoch().copied()
    }

    /// The shard that holds a key.
    #[must_use]
    pub fn shard_for(&self, key: &[u8]) -> Shard {
        self.topology.shard_for(key)
    }

    /// Where a shard's writes go now.
    #[must_use]
    pub fn writes(&self, shard: Shard, now: Instant) -> Writes {
        let Some(known) = self.known.get(usize::from(shard.0)) else {
            return Writes::Wait(None);
        };
        let Some(epoch) = known.epoch() else {
            return if self.clusters(shard).nth(1).is_some() {
                Writes::Refused(Refusal::TwoClusters)
            } else {
                Writes::Wait(None)
            };
        };
        match known.primary(self.claims(shard)) {
            Err(refusal) => Writes::Refused(refusal),
            Ok(None) => Writes::Wait(None),
            Ok(Some(server)) => match self.condition(server, now) {
                Condition::Primary => Writes::To {
                    server,
                    epoch: *epoch,
                },
                other => Writes::Wait(Some((server, other))),
            },
        }
    }

    /// Where a read may go now: standbys that show the floor, each reader's own first, then the
    /// primary. `order` is emptied first. A proxy may still refuse: it looks at the life that the
    /// server has now.
    pub fn reads(
        &self,
        shard: Shard,
        floor: &Floor,
        reader: u64,
        now: Instant,
        order: &mut Vec<ServerId>,
    ) -> Reads {
        order.clear();
        let Some(known) = self.known.get(usize::from(shard.0)).and_then(Known::epoch) else {
            return Reads::Wait;
        };
        let is_disputed = self.known[usize::from(shard.0)]
            .primary(self.claims(shard))
            .is_err();
        if is_disputed && floor.epoch.timeline == known.timeline {
            // A position of this epoch may mean either server's.
            return Reads::Wait;
        }
        let mut is_lost = false;
        let mut primary = None;
        for server in self.of_shard(shard) {
            let Ok(beat) = self.usable(server, now) else {
                continue;
            };
            match beat.role {
                Role::Standby { replayed, .. } => {
                    if is_of_history(&beat.epoch, replayed, known)
                        && sight(&beat.epoch, replayed, floor) == Sight::Has
                    {
                        order.push(server);
                    }
                }
                Role::Primary { inserted, .. } if are_same(&beat.epoch, known) => {
                    match sight(&beat.epoch, inserted, floor) {
                        Sight::Lost => is_lost = true,
                        // Its own position is only as new as the heartbeat.
                        Sight::Has | Sight::NotYet => primary = Some(server),
                    }
                }
                Role::Primary { .. } | Role::Unknown => {}
            }
        }
        order.sort_unstable_by_key(|server| Reverse(affinity(reader, *server)));
        order.extend(primary);
        match (order.is_empty(), is_lost) {
            (false, _) => Reads::Some,
            (true, true) => Reads::Lost,
            (true, false) => Reads::Wait,
        }
    }

    /// What a server is good for now.
    #[must_use]
    pub fn condition(&self, server: ServerId, now: Instant) -> Condition {
        let known = self.topology.shard_of(server);
        let known = known.and_then(|shard| self.known[usize::from(shard.0)].epoch());
        match self.usable(server, now) {
            Err(condition) => condition,
            Ok(beat) => match beat.role {
                Role::Standby { .. } => Condition::Standby,
                Role::Primary { .. } if known.is_some_and(|known| are_same(&beat.epoch, known)) => {
                    Condition::Primary
                }
                Role::Primary { .. } => Condition::OldPrimary,
                Role::Unknown => Condition::Unknown,
            },
        }
    }

    /// The first time that a primary is heard, its cluster becomes the shard's, if all agree.
    fn adopt(&mut self, shard: Shard, now: Instant) -> bool {
        let looks = now.saturating_duration_since(self.began) < self.limits.first_look;
        // A proxy that has not reached its server yet cannot say which cluster that is of.
        let is_unheard = |server: ServerId| match &self.servers[usize::from(server.0)].news {
            News::None => true,
            News::Lost => false,
            News::Heard { beat, .. } => beat.epoch.system == 0,
        };
        if self.known[usize::from(shard.0)].epoch().is_some()
            || (looks && self.of_shard(shard).any(is_unheard))
            || self.clusters(shard).nth(1).is_some()
        {
            return false;
        }
        let claims = self.claims(shard).map(|(_, claim)| *claim);
        let Some(highest) = claims.max_by_key(|claim| claim.timeline) else {
            return false;
        };
        self.known[usize::from(shard.0)].adopt(highest);
        // Standbys may have been heard before, and may know more.
        let heard: Vec<Epoch> = self
            .of_shard(shard)
            .filter_map(|server| match &self.servers[usize::from(server.0)].news {
                News::Heard { beat, .. } => Some([beat.epoch, beat.highest]),
                _ => None,
            })
            .flatten()
            .collect();
        for epoch in heard {
            self.known[usize::from(shard.0)].hears_of(&epoch);
        }
        true
    }

    /// Of two that were promoted beside each other, one gave in: every server of the shard is heard,
    /// and only one says that it is primary.
    fn settle(&mut self, shard: Shard, now: Instant) -> bool {
        let claims: Vec<Epoch> = self.claims(shard).map(|(_, claim)| *claim).collect();
        let known = self.known[usize::from(shard.0)].epoch();
        let (Some(epoch), &[claim]) = (known, claims.as_slice()) else {
            return false;
        };
        let is_heard = |server| self.usable(server, now).is_ok();
        let is_settled = are_rivals(&claim, epoch) && self.of_shard(shard).all(is_heard);
        if is_settled {
            self.known[usize::from(shard.0)] = Known::new(Some(claim));
        }
        is_settled
    }

    /// The clusters that the servers of a shard say they belong to, each once.
    fn clusters(&self, shard: Shard) -> impl Iterator<Item = u64> {
        let mut systems: Vec<u64> = self
            .of_shard(shard)
            .filter_map(|server| self.servers[usize::from(server.0)].system())
            .collect();
        systems.sort_unstable();
        systems.dedup();
        systems.into_iter()
    }

    fn claims(&self, shard: Shard) -> impl Iterator<Item = (ServerId, &Epoch)> {
        self.of_shard(shard).filter_map(|server| {
            let claim = self.servers[usize::from(server.0)].claim.as_ref()?;
            Some((server, claim))
        })
    }

    fn of_shard(&self, shard: Shard) -> impl Iterator<Item = ServerId> {
        let servers = self.topology.servers();
        servers.filter(move |server| self.topology.shard_of(*server) == Some(shard))
    }

    fn usable(&self, server: ServerId, now: Instant) -> Result<&Heartbeat, Condition> {
        let Some(shard) = self.topology.shard_of(server) else {
            return Err(Condition::Unheard);
        };
        let known = self.known[usize::from(shard.0)].epoch();
        self.servers[usize::from(server.0)].usable(known, now, &self.limits)
    }
}

/// Whether what a standby shows is part of the history that counts: what follows an old primary beyond
/// the switch point shows what never happened.
fn is_of_history(epoch: &Epoch, replayed: Lsn, known: &Epoch) -> bool {
    if known.is_after(epoch) {
        return epoch.timeline + 1 == known.timeline && replayed <= known.began;
    }
    !are_rivals(epoch, known)
}
