//! A simulated daemon: its view, what it has persisted, what it was told, and its sessions.

use std::time::{Duration, Instant};

use super::schedule::SERVERS;
use super::server::Write;
use super::world::Lacking;
use crate::failover::{Floor, Limits, ServerId, Shard, Topology, View, Writes};
use crate::wire::postgres::link::{Epoch, Heartbeat, Role};

pub(super) const SHARD: Shard = Shard(0);
pub(super) const SESSIONS: usize = 3;
/// Shorter than partitions last.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(200);

pub(super) struct Daemon {
    pub(super) view: View,
    persisted: Option<Epoch>,
    /// What it was told since it started, kept apart from the view to judge it by.
    pub(super) told: Told,
    pub(super) sessions: [Session; SESSIONS],
}

#[derive(Clone, Default)]
pub(super) struct Told {
    /// The highest timeline that anybody of the cluster spoke of; survives a restart.
    pub(super) highest: Option<Epoch>,
    /// The last claim of each server.
    claims: [Option<Epoch>; SERVERS],
    beats: [Option<Heartbeat>; SERVERS],
}

#[derive(Clone, Default)]
pub(super) struct Session {
    pub(super) floor: Floor,
    /// What was acknowledged to it.
    pub(super) written: Vec<Write>,
    /// The request whose answer it waits for.
    pub(super) awaits: Option<u64>,
}

impl Daemon {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            view: view(None, now),
            persisted: None,
            told: Told::default(),
            sessions: Default::default(),
        }
    }

    /// Its process starts again: sessions are gone, and so is what it did not persist.
    pub(super) fn restart(&mut self, lacking: Option<Lacking>, now: Instant) {
        if lacking == Some(Lacking::Persistence) {
            self.persisted = None;
        }
        self.view = view(self.persisted, now);
        self.told = Told {
            highest: self.told.highest,
            ..Told::default()
        };
        for session in &mut self.sessions {
            *session = Session::default();
        }
    }

    /// Hears news; returns what it attests to every proxy.
    pub(super) fn hears(
        &mut self,
        server: usize,
        mut beat: Heartbeat,
        lacking: Option<Lacking>,
        now: Instant,
    ) -> Option<Epoch> {
        self.told.remembers(server, &beat);
        if lacking == Some(Lacking::System) {
            beat.epoch.system = 1;
        }
        if lacking == Some(Lacking::Gossip) {
            beat.highest = Epoch::default();
        }
        let newer = self.view.heard(ServerId(server as u16), beat, now);
        if newer.is_some() {
            self.persisted = newer;
        }
        newer
    }

    pub(super) fn writes(&self, lacking: Option<Lacking>, now: Instant) -> Writes {
        let writes = self.view.writes(SHARD, now);
        match (lacking, writes) {
            // The anti-pattern: whoever says that it is primary, and is furthest.
            (Some(Lacking::HighestEpoch), _) => self.told.furthest(|_| true).unwrap_or(writes),
            (Some(Lacking::Dispute), Writes::Refused(_)) => {
                let known = self.view.attested(SHARD);
                let is_of_it =
                    |epoch: &Epoch| known.is_some_and(|it| it.timeline == epoch.timeline);
                self.told.furthest(is_of_it).unwrap_or(writes)
            }
            _ => writes,
        }
    }
}

impl Told {
    fn remembers(&mut self, server: usize, beat: &Heartbeat) {
        match beat.role {
            Role::Primary { .. } => self.claims[server] = Some(beat.epoch),
            Role::Standby { .. } => self.claims[server] = None,
            Role::Unknown => {}
        }
        for epoch in [beat.epoch, beat.highest] {
            if epoch.system == 1 && self.highest.is_none_or(|highest| epoch.is_after(&highest)) {
                self.highest = Some(epoch);
            }
        }
        self.beats[server] = Some(beat.clone());
    }

    /// Whether two servers claim the highest timeline.
    pub(super) fn is_disputed(&self) -> bool {
        let highest = self.highest.unwrap_or_default();
        let of_it = |claim: &&Epoch| claim.system == 1 && claim.timeline == highest.timeline;
        self.claims.iter().flatten().filter(of_it).count() > 1
    }

    fn furthest(&self, is_meant: impl Fn(&Epoch) -> bool) -> Option<Writes> {
        let primaries = self.beats.iter().enumerate().filter_map(|(server, beat)| {
            let beat = beat.as_ref()?;
            match beat.role {
                Role::Primary { inserted, .. } if is_meant(&beat.epoch) => {
                    Some((inserted, server, beat.epoch))
                }
                _ => None,
            }
        });
        let (_, server, epoch) = primaries.max_by_key(|(inserted, ..)| *inserted)?;
        Some(Writes::To {
            server: ServerId(server as u16),
            epoch,
        })
    }
}

fn view(persisted: Option<Epoch>, now: Instant) -> View {
    let topology = Topology::new(vec![SHARD; SERVERS]).expect("one shard of several servers");
    let limits = Limits {
        first_look: FIRST_LOOK,
        ..Limits::default()
    };
    View::new(topology, limits, |_| persisted, now)
}
