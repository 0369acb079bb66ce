//! A simulated server and its proxy: a log of writes, a history of timelines, a role, and the rules
//! of docs/link.md.

use crate::failover::{Floor, Sight, sight};
use crate::wire::postgres::link::{Answering, Epoch, Heartbeat, Lsn, Role};

use super::world::Lacking;

/// A write, by its number.
pub(super) type Write = u32;
/// What was there before: no timeline but the first begins at position 0.
const INITIAL: Write = Write::MAX;

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) system: u64,
    pub(super) is_primary: bool,
    pub(super) log: Vec<Write>,
    /// How much of the log queries see, and how much survives a restart.
    pub(super) replayed: usize,
    flushed: usize,
    /// Timelines, and where each began.
    pub(super) history: Vec<(u32, usize)>,
    pub(super) incarnation: u64,
    pub(super) paused_until: u32,
    pub(super) lags_until: u32,
    /// The highest epoch that the proxy was attested.
    pub(super) attested: Option<Epoch>,
    /// What the proxy was told by its server last, and in which life.
    told: (u64, usize),
}

/// Why a proxy admits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotYet,
    Lost,
    NotPrimary,
}

impl Server {
    pub(super) fn new(system: u64, is_primary: bool) -> Self {
        Self {
            system,
            is_primary,
            log: vec![INITIAL],
            replayed: 1,
            flushed: 1,
            history: vec![(1, 0)],
            incarnation: 1,
            paused_until: 0,
            lags_until: 0,
            attested: None,
            told: (1, 0),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        let (timeline, began) = *self
            .history
            .last()
            .expect("every history has a first timeline");
        Epoch {
            system: self.system,
            timeline,
            began: Lsn(began as u64),
        }
    }

    pub(super) fn position(&self) -> usize {
        if self.is_primary {
            self.log.len()
        } else {
            self.replayed
        }
    }

    pub(super) fn is_fenced(&self) -> bool {
        let epoch = self.epoch();
        let attested = self.attested.as_ref();
        self.is_primary && attested.is_some_and(|attested| attested.is_after(&epoch))
    }

    pub(super) fn heartbeat(&mut self) -> Heartbeat {
        self.told = (self.incarnation, self.told.1.max(self.position()));
        let position = Lsn(self.position() as u64);
        Heartbeat {
            answering: Answering::Yes,
            incarnation: self.incarnation,
            epoch: self.epoch(),
            role: if self.is_primary {
                Role::Primary {
                    inserted: position,
                    flushed: position,
                }
            } else {
                Role::Standby {
                    received: Lsn(self.log.len() as u64),
                    replayed: position,
                }
            },
            is_fenced: self.is_fenced(),
            highest: self.attested.unwrap_or_default(),
            ..Heartbeat::default()
        }
    }

    /// A proxy ignores other clusters, and what it knows already.
    pub(super) fn attest(&mut self, epoch: Epoch) {
        if epoch.system == self.system && self.attested.is_none_or(|known| epoch.is_after(&known)) {
            self.attested = Some(epoch);
        }
    }

    /// Whether the proxy admits a segment.
    pub(super) fn admits(
        &self,
        floor: &Floor,
        writes: bool,
        lacking: Option<Lacking>,
    ) -> Result<(), Refused> {
        if self.is_fenced() && lacking != Some(Lacking::Fence) {
            return Err(Refused::NotPrimary);
        }
        if writes && (!self.is_primary || floor.epoch.is_after(&self.epoch())) {
            return Err(Refused::NotPrimary);
        }
        if lacking == Some(Lacking::FloorAtProxy) {
            return Ok(());
        }
        let position = if lacking == Some(Lacking::Incarnation) {
            self.told.1.max(self.position())
        } else {
            self.position()
        };
        match self.sight(Lsn(position as u64), floor) {
            Sight::Has => Ok(()),
            Sight::NotYet => Err(Refused::NotYet),
            Sight::Lost => Err(Refused::Lost),
        }
    }

    /// The proxy knows the whole history of its server.
    fn sight(&self, position: Lsn, floor: &Floor) -> Sight {
        if floor.epoch.is_unknown() || floor.epoch.timeline >= self.epoch().timeline {
            return sight(&self.epoch(), position, floor);
        }
        let at = self.history.iter().position(|(timeline, began)| {
            *timeline == floor.epoch.timeline && *began as u64 == floor.epoch.began.0
        });
        let end = at.and_then(|at| self.history.get(at + 1));
        match end {
            Some((_, end)) if floor.position.0 <= *end as u64 && position >= floor.position => {
                Sight::Has
            }
            Some((_, end)) if floor.position.0 <= *end as u64 => Sight::NotYet,
            _ => Sight::Lost,
        }
    }

    pub(super) fn promote(&mut self) {
        // What was received is replayed first.
        self.replayed = self.log.len();
        let timeline = self.epoch().timeline + 1;
        self.history.push((timeline, self.log.len()));
        self.is_primary = true;
        self.flushed = self.log.len();
    }

    pub(super) fn restart(&mut self) {
        self.incarnation += 1;
        if !self.is_primary {
            // A restartpoint is behind what was shown.
            self.replayed = self.flushed;
        }
    }

    /// Takes what the primary has more, if this log is a part of that one.
    pub(super) fn follow(&mut self, primary: &Self, count: usize) {
        // "requested starting point … is not in this server's history"
        let begins_alike =
            primary.log.starts_with(&self.log) && primary.history.starts_with(&self.history);
        if self.system == primary.system && begins_alike {
            let end = primary.log.len().min(self.log.len() + count);
            self.log
                .extend_from_slice(&primary.log[self.log.len()..end]);
            // A timeline is known once its beginning is replayed.
            let reached = primary.history.iter().filter(|(_, began)| *began <= end);
            self.history = reached.copied().collect();
        }
    }

    pub(super) fn replay(&mut self, count: usize) {
        self.replayed = self.log.len().min(self.replayed + count);
        // Restartpoints come seldom.
        self.flushed = self.flushed.max(self.replayed.saturating_sub(3));
    }
}
