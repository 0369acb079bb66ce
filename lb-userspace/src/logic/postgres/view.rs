//! What is known of the servers of one `[[database]]`: who is primary, who can be read, how far each
//! is. Pure: heartbeats and the time come in, a picture comes out. The watch calls it; sessions read
//! the picture.
//!
//! Nobody is believed to be primary because it says so: of those that say so, the one with the
//! latest timeline is, if that is not older than the latest that was ever attested. Two of one
//! timeline that began at different places are rivals, and then there is none.

use std::time::{Duration, Instant};

use crate::wire::postgres::link::{Answering, Epoch, Heartbeat, Lsn, Role};

/// A heartbeat that stays away for longer means that the host hangs; they come every 50 ms.
pub(super) const SILENCE_MAX: Duration = Duration::from_millis(160);

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The last heartbeat, and when it came.
    pub heard: Option<(Instant, Heartbeat)>,
    /// Why there is no link to it.
    pub error: Option<String>,
}

/// Why a server is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// No link to its proxy.
    Unlinked(String),
    /// The proxy's heartbeat stays away.
    Silent,
    /// The server does not answer its proxy.
    Hangs,
    /// The proxy has no connection to it.
    Unreachable(String),
    /// It is kept away from: a primary of an epoch that is over.
    Fenced,
    /// It belongs to another cluster than the one that was seen first.
    Foreign,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlinked(why) => write!(f, "no link to its proxy: {why}"),
            Self::Silent => f.write_str("its proxy is silent"),
            Self::Hangs => f.write_str("it does not answer its proxy"),
            Self::Unreachable(why) => write!(f, "its proxy cannot reach it: {why}"),
            Self::Fenced => f.write_str("it is fenced: a later primary was attested"),
            Self::Foreign => f.write_str("it belongs to another cluster"),
        }
    }
}

/// One server in the picture.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Which shard it holds: a position in [`View::shards`].
    pub shard: usize,
    /// Whether reads can go to it, and why not.
    pub usable: Result<(), Unusable>,
    pub role: Role,
    pub epoch: Epoch,
    /// When the positions in `role` were true.
    pub as_of: Option<Instant>,
}

impl Member {
    /// What its readers see, at least: everything up to here.
    pub fn replayed(&self) -> Option<Lsn> {
        match self.role {
            Role::Primary { inserted, .. } => Some(inserted),
            Role::Standby { replayed, .. } => Some(replayed),
            Role::Unknown => None,
        }
    }
}

/// Why a shard has no primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPrimary {
    /// Nobody says that it is.
    Nobody,
    /// Only one whose timeline is older than one that was attested.
    Older,
    /// Two say so on timelines of one number.
    Rivals,
}

impl std::fmt::Display for NoPrimary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "no server is primary",
            Self::Older => "the only primary is of an epoch that is over",
            Self::Rivals => "two servers were promoted, and neither is later than the other",
        })
    }
}

/// One shard in the picture.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// Its number in the configuration.
    pub number: u32,
    /// The server that takes writes.
    pub primary: Result<usize, NoPrimary>,
    /// The latest epoch that a primary ever attested.
    pub attested: Epoch,
}

/// The picture.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// In the order of the configuration.
    pub members: Vec<Member>,
    /// By number.
    pub shards: Vec<Shard>,
    /// Grows whenever somebody became usable or unusable, or another is primary.
    pub turn: u64,
}

impl View {
    /// Nothing is known. `numbers` are the shards of the servers, `attested` what a former life of
    /// the daemon knew of each shard.
    pub fn new(numbers: &[u32], attested: impl Fn(u32) -> Epoch) -> Self {
        let mut distinct = numbers.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let shards: Vec<_> = distinct
            .iter()
            .map(|&number| Shard {
                number,
                primary: Err(NoPrimary::Nobody),
                attested: attested(number),
            })
            .collect();
        let members = numbers
            .iter()
            .map(|number| Member {
                shard: distinct.binary_search(number).unwrap_or(0),
                usable: Err(Unusable::Unlinked("not tried yet".into())),
                role: Role::Unknown,
                epoch: Epoch::default(),
                as_of: None,
            })
            .collect();
        Self {
            members,
            shards,
            turn: 0,
        }
    }

    /// The picture after `seen`, one of each server, at `now`.
    pub fn after(&self, seen: &[Seen], now: Instant) -> Self {
        let mut view = self.clone();
        for (member, seen) in view.members.iter_mut().zip(seen) {
            let attested = self.shards[member.shard].attested;
            look(member, seen, attested, now);
        }
        for shard in 0..view.shards.len() {
            view.elect(shard);
        }
        let is_as_before = |(old, new): (&Member, &Member)| {
            old.usable.is_ok() == new.usable.is_ok() && old.epoch == new.epoch
        };
        let is_settled = self.members.iter().zip(&view.members).all(is_as_before)
            && self
                .shards
                .iter()
                .zip(&view.shards)
                .all(|(old, new)| old.primary == new.primary && old.attested == new.attested);
        view.turn += u64::from(!is_settled);
        view
    }

    fn elect(&mut self, shard: usize) {
        let attested = self.shards[shard].attested;
        let candidates: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| {
                member.shard == shard
                    && member.usable.is_ok()
                    && matches!(member.role, Role::Primary { .. })
                    && !member.epoch.is_unknown()
            })
            .map(|(at, member)| (at, member.epoch))
            .collect();
        let latest = candidates.iter().max_by_key(|(_, epoch)| epoch.timeline);
        let outcome = match latest {
            None => Err(NoPrimary::Nobody),
            Some((_, latest)) if attested.is_after(latest) => Err(NoPrimary::Older),
            // Against itself of old as well: who comes later with the same number is no successor.
            Some((_, latest)) if !attested.is_unknown() && attested.is_rival_of(latest) => {
                Err(NoPrimary::Rivals)
            }
            Some(&(at, latest)) => {
                let rivals = candidates
                    .iter()
                    .filter(|(_, epoch)| epoch.timeline == latest.timeline);
                if rivals.count() > 1 {
                    Err(NoPrimary::Rivals)
                } else {
                    Ok((at, latest))
                }
            }
        };
        let state = &mut self.shards[shard];
        if let Ok((_, epoch)) = outcome {
            state.attested = epoch;
        }
        state.primary = outcome.map(|(at, _)| at);
    }

    /// The server that takes a shard's writes.
    pub fn primary(&self, shard: usize) -> Result<usize, NoPrimary> {
        self.shards[shard].primary
    }

    /// Whether reads may go to a server.
    pub fn is_usable(&self, server: usize) -> bool {
        self.members[server].usable.is_ok()
    }

    /// Whether a server is in recovery, as far as is known.
    pub fn is_standby(&self, server: usize) -> bool {
        matches!(self.members[server].role, Role::Standby { .. })
    }

    /// Whether a standby has what a floor asks for, as far as is known.
    pub fn has_replayed(&self, server: usize, epoch: Epoch, position: Lsn) -> bool {
        let member = &self.members[server];
        let is_there = member.replayed().is_some_and(|there| there >= position);
        epoch.is_unknown() || (member.epoch == epoch && is_there)
    }

    /// Standbys of a shard that reads can go to.
    pub fn standbys(&self, shard: usize) -> impl Iterator<Item = usize> {
        self.members
            .iter()
            .enumerate()
            .filter(move |(_, member)| {
                member.shard == shard
                    && member.usable.is_ok()
                    && matches!(member.role, Role::Standby { .. })
            })
            .map(|(at, _)| at)
    }
}

/// Takes what was seen of one server into the picture.
fn look(member: &mut Member, seen: &Seen, attested: Epoch, now: Instant) {
    let Some((came, beat)) = &seen.heard else {
        let why = seen.error.clone().unwrap_or_else(|| "not tried yet".into());
        member.usable = Err(Unusable::Unlinked(why));
        return;
    };
    member.role = beat.role;
    member.epoch = beat.epoch;
    member.as_of = came.checked_sub(Duration::from_millis(beat.age_ms.into()));
    let is_foreign =
        !attested.is_unknown() && !beat.epoch.is_unknown() && attested.system != beat.epoch.system;
    member.usable = if let Some(why) = &seen.error {
        Err(Unusable::Unlinked(why.clone()))
    } else if now.saturating_duration_since(*came) > SILENCE_MAX {
        Err(Unusable::Silent)
    } else if is_foreign {
        Err(Unusable::Foreign)
    } else if beat.is_fenced {
        Err(Unusable::Fenced)
    } else {
        match beat.answering {
            Answering::Yes => Ok(()),
            Answering::Silent => Err(Unusable::Hangs),
            Answering::Unreachable => Err(Unusable::Unreachable(beat.reason.clone())),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(timeline: u32, began: u64) -> Epoch {
        Epoch {
            system: 7,
            timeline,
            began: Lsn(began),
        }
    }

    fn primary(epoch: Epoch, now: Instant) -> Seen {
        let role = Role::Primary {
            inserted: Lsn(90),
            flushed: Lsn(90),
        };
        seen(role, epoch, now)
    }

    fn standby(epoch: Epoch, replayed: u64, now: Instant) -> Seen {
        let role = Role::Standby {
            received: Lsn(replayed),
            replayed: Lsn(replayed),
        };
        seen(role, epoch, now)
    }

    fn seen(role: Role, epoch: Epoch, now: Instant) -> Seen {
        let beat = Heartbeat {
            answering: Answering::Yes,
            role,
            epoch,
            ..Heartbeat::default()
        };
        Seen {
            heard: Some((now, beat)),
            error: None,
        }
    }

    fn view(servers: usize) -> View {
        View::new(&vec![0; servers], |_| Epoch::default())
    }

    #[test]
    fn the_later_timeline_is_primary_and_the_older_never_again() {
        let now = Instant::now();
        let old = primary(epoch(1, 0), now);
        let new = primary(epoch(2, 50), now);
        let first = view(2).after(&[old.clone(), standby(epoch(1, 0), 10, now)], now);
        assert_eq!(first.primary(0), Ok(0));
        let both = first.after(&[old.clone(), new], now);
        assert_eq!(both.primary(0), Ok(1));
        assert!(both.turn > first.turn);
        let alone = both.after(&[old, Seen::default()], now);
        assert_eq!(alone.primary(0), Err(NoPrimary::Older));
    }

    #[test]
    fn of_two_that_were_promoted_alike_none_takes_writes() {
        let now = Instant::now();
        let both = [primary(epoch(2, 50), now), primary(epoch(2, 60), now)];
        assert_eq!(view(2).after(&both, now).primary(0), Err(NoPrimary::Rivals));
        let first = view(2).after(&[both[0].clone(), Seen::default()], now);
        let other = first.after(&[Seen::default(), both[1].clone()], now);
        assert_eq!(other.primary(0), Err(NoPrimary::Rivals));
    }

    #[test]
    fn a_silent_or_foreign_server_is_not_read() {
        let now = Instant::now();
        let servers = [primary(epoch(1, 0), now), standby(epoch(1, 0), 5, now)];
        let known = view(2).after(&servers, now);
        assert_eq!(known.standbys(0).collect::<Vec<_>>(), [1]);
        let later = now + SILENCE_MAX + Duration::from_millis(1);
        let silent = known.after(&servers, later);
        assert_eq!(silent.members[1].usable, Err(Unusable::Silent));
        assert_eq!(silent.primary(0), Err(NoPrimary::Nobody));
        let mut foreign = epoch(1, 0);
        foreign.system = 8;
        let strange = known.after(&[servers[0].clone(), standby(foreign, 99, now)], now);
        assert_eq!(strange.members[1].usable, Err(Unusable::Foreign));
    }

    #[test]
    fn a_floor_is_met_on_its_own_timeline_only() {
        let now = Instant::now();
        let servers = [primary(epoch(1, 0), now), standby(epoch(1, 0), 5, now)];
        let known = view(2).after(&servers, now);
        assert!(known.has_replayed(1, epoch(1, 0), Lsn(5)));
        assert!(!known.has_replayed(1, epoch(1, 0), Lsn(6)));
        assert!(!known.has_replayed(1, epoch(2, 5), Lsn(5)));
        assert!(known.has_replayed(1, Epoch::default(), Lsn(6)));
    }
}
