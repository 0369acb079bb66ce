//! What is known of the servers of one `[[database]]`, as all threads see it: the view of `failover`,
//! which decides, and what was decided when it was drawn, so that changes are noticed. Pure: news and
//! the time come in, a picture comes out. The watch draws it; sessions read it.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::failover::{
    Condition, Limits, Refusal, ServerId, Shard, Topology, TopologyError, View, Writes,
};
use crate::wire::postgres::link::{Epoch, Heartbeat, Lsn, Role};

/// Why a shard has no primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPrimary {
    /// Nobody says that it is the one that is waited for.
    #[error("no server is primary")]
    Nobody,
    /// It is known which one it is, and it cannot take anything now.
    #[error("the primary cannot be used: {0}")]
    Away(Condition),
    /// Whoever is alive: it is not known where writes belong.
    #[error("{0}")]
    Refused(Refusal),
}

/// The picture.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    view: View,
    /// The numbers of the shards in the configuration, by position.
    numbers: Vec<u32>,
    shards: Vec<usize>,
    /// By server: why there is no link to its proxy.
    unlinked: Vec<Option<String>>,
    /// By server.
    conditions: Vec<Condition>,
    /// By shard.
    writes: Vec<Writes>,
    /// Grows whenever somebody became usable or unusable, or another is primary.
    pub turn: u64,
}

impl Picture {
    /// Nothing is known. `numbers` are the shards of the servers, `persisted` what a former life of
    /// the daemon knew of each.
    ///
    /// # Errors
    /// If there are too many servers, or none.
    pub fn new(
        numbers: &[u32],
        persisted: impl Fn(u32) -> Option<Epoch>,
        now: Instant,
    ) -> Result<Self, TopologyError> {
        let distinct: Vec<u32> = numbers
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let position = |number: &u32| distinct.binary_search(number).unwrap_or(0);
        let shards: Vec<usize> = numbers.iter().map(position).collect();
        let of_servers = shards.iter().map(|&shard| id(shard)).collect();
        let topology = Topology::new(of_servers)?;
        let view = View::new(
            topology,
            Limits::default(),
            |shard| persisted(distinct[usize::from(shard.0)]),
            now,
        );
        Ok(Self {
            conditions: vec![Condition::Unheard; shards.len()],
            unlinked: vec![None; shards.len()],
            writes: vec![Writes::Wait(None); distinct.len()],
            numbers: distinct,
            shards,
            view,
            turn: 0,
        })
    }

    /// A heartbeat came. Returns the highest epoch of the server's shard, with the shard's number, if
    /// it is news: it is to be kept before anybody acts on it.
    pub fn heard(&mut self, server: usize, beat: Heartbeat, now: Instant) -> Option<(u32, Epoch)> {
        self.unlinked[server] = None;
        let newer = self.view.heard(server_id(server), beat, now)?;
        Some((self.numbers[self.shards[server]], newer))
    }

    /// There is no link to a server's proxy.
    pub fn unlinked(&mut self, server: usize, why: String) {
        self.unlinked[server] = Some(why);
        self.view.lost(server_id(server));
    }

    /// Decides again, at `now`: another turn if anything came out differently.
    pub fn decide(&mut self, now: Instant) {
        let conditions: Vec<_> = (0..self.shards.len())
            .map(|server| self.view.condition(server_id(server), now))
            .collect();
        let writes: Vec<_> = (0..self.numbers.len())
            .map(|shard| self.view.writes(id(shard), now))
            .collect();
        let is_as_before = conditions == self.conditions && writes == self.writes;
        self.turn += u64::from(!is_as_before);
        (self.conditions, self.writes) = (conditions, writes);
    }

    /// What decides about single reads.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a shard in the configuration.
    pub fn number(&self, shard: usize) -> u32 {
        self.numbers[shard]
    }

    /// The shard that holds a key.
    pub fn shard_for(&self, key: &[u8]) -> usize {
        self.view.shard_for(key).0.into()
    }

    /// Which shard a server holds.
    pub fn shard_of(&self, server: usize) -> usize {
        self.shards[server]
    }

    /// The server that takes a shard's writes.
    ///
    /// # Errors
    /// If there is none.
    pub fn primary(&self, shard: usize) -> Result<usize, NoPrimary> {
        match self.writes[shard] {
            Writes::To { server, .. } => Ok(usize::from(server.0)),
            Writes::Wait(None) => Err(NoPrimary::Nobody),
            Writes::Wait(Some((_, condition))) => Err(NoPrimary::Away(condition)),
            Writes::Refused(refusal) => Err(NoPrimary::Refused(refusal)),
        }
    }

    /// The highest epoch known of a shard.
    pub fn attested(&self, shard: usize) -> Option<Epoch> {
        self.view.attested(id(shard))
    }

    /// What a server is good for.
    pub fn condition(&self, server: usize) -> Condition {
        self.conditions[server]
    }

    /// Whether anything can be sent to a server.
    pub fn is_usable(&self, server: usize) -> bool {
        matches!(
            self.conditions[server],
            Condition::Primary | Condition::Standby
        )
    }

    /// Whether a server is in recovery, as far as is known.
    pub fn is_standby(&self, server: usize) -> bool {
        matches!(self.role(server), Role::Standby { .. })
    }

    /// Whether some server is away, or a shard has no primary.
    pub fn is_disturbed(&self) -> bool {
        (0..self.shards.len()).any(|server| !self.is_usable(server))
            || self
                .writes
                .iter()
                .any(|writes| !matches!(writes, Writes::To { .. }))
    }

    /// Servers of a shard that follow and can be used.
    pub fn standbys(&self, shard: usize) -> impl Iterator<Item = usize> {
        (0..self.shards.len()).filter(move |&server| {
            self.shards[server] == shard && self.conditions[server] == Condition::Standby
        })
    }

    /// Why a server is not used.
    pub fn why(&self, server: usize) -> String {
        let condition = self.conditions[server];
        let told = self.view.told(server_id(server));
        match (&self.unlinked[server], told, condition) {
            (Some(why), _, _) => format!("no link to its proxy: {why}"),
            (None, Some(beat), Condition::Unreachable) => format!("{condition}: {}", beat.reason),
            _ => condition.to_string(),
        }
    }

    /// A server's epoch, as it told last.
    pub fn epoch(&self, server: usize) -> Epoch {
        let told = self.view.told(server_id(server));
        told.map_or_else(Epoch::default, |beat| beat.epoch)
    }

    /// What a server said that it is.
    pub fn role(&self, server: usize) -> Role {
        let told = self.view.told(server_id(server));
        told.map_or(Role::Unknown, |beat| beat.role)
    }

    /// How far a primary had written when it told last, and of which epoch.
    pub fn reached(&self, server: usize) -> (Epoch, Lsn) {
        match self.role(server) {
            Role::Primary { inserted, .. } => (self.epoch(server), inserted),
            Role::Standby { .. } | Role::Unknown => <(Epoch, Lsn)>::default(),
        }
    }

    /// What a server's readers see, at least: everything up to here.
    pub fn shows(&self, server: usize) -> Option<Lsn> {
        match self.role(server) {
            Role::Primary { inserted, .. } => Some(inserted),
            Role::Standby { replayed, .. } => Some(replayed),
            Role::Unknown => None,
        }
    }
}

/// A shard by its position.
pub(super) fn id(shard: usize) -> Shard {
    Shard(u16::try_from(shard).unwrap_or(u16::MAX))
}

/// A server by its position.
pub(super) fn server_id(server: usize) -> ServerId {
    ServerId(u16::try_from(server).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::postgres::link::Answering;

    fn beat(role: Role, timeline: u32) -> Heartbeat {
        Heartbeat {
            answering: Answering::Yes,
            role,
            epoch: Epoch {
                system: 7,
                timeline,
                began: Lsn(u64::from(timeline) - 1),
            },
            ..Heartbeat::default()
        }
    }

    fn primary(timeline: u32) -> Heartbeat {
        let role = Role::Primary {
            inserted: Lsn(90),
            flushed: Lsn(90),
        };
        beat(role, timeline)
    }

    fn standby() -> Heartbeat {
        let role = Role::Standby {
            received: Lsn(90),
            replayed: Lsn(90),
        };
        beat(role, 1)
    }

    #[test]
    fn a_turn_is_a_change_that_somebody_waits_for() {
        let start = Instant::now();
        let mut picture = Picture::new(&[0, 0], |_| None, start).expect("two servers");
        picture.decide(start);
        assert_eq!(picture.turn, 0);
        picture.heard(0, primary(1), start);
        picture.heard(1, standby(), start);
        picture.decide(start);
        assert_eq!((picture.turn, picture.primary(0)), (1, Ok(0)));
        let soon = start + Duration::from_millis(50);
        picture.heard(0, primary(1), soon);
        picture.heard(1, standby(), soon);
        picture.decide(soon);
        assert_eq!(picture.turn, 1);
        picture.unlinked(0, "it is gone".into());
        picture.decide(soon);
        assert_eq!(picture.turn, 2);
        assert_eq!(picture.primary(0), Err(NoPrimary::Away(Condition::Lost)));
        assert_eq!(picture.why(0), "no link to its proxy: it is gone");
        assert_eq!(picture.standbys(0).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_was_known_before_a_restart_keeps_an_old_primary_out() {
        let start = Instant::now();
        let known = primary(2).epoch;
        let mut picture =
            Picture::new(&[3], |shard| (shard == 3).then_some(known), start).expect("one server");
        picture.heard(0, primary(1), start);
        picture.decide(start);
        assert_eq!(picture.condition(0), Condition::OldPrimary);
        assert_eq!(picture.primary(0), Err(NoPrimary::Nobody));
        let newer = picture.heard(0, primary(3), start);
        assert_eq!(newer, Some((3, primary(3).epoch)));
        picture.decide(start);
        assert_eq!(picture.primary(0), Ok(0));
    }
}
