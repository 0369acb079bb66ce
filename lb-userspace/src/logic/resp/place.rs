//! Which server of layer one has a key, and who takes its place: decided by the configuration alone.

use md5::{Digest, Md5};

use crate::config::{Cache, HashKind, Role, Spill};
use crate::maglev::{self, Candidate, CandidateKey, Ladder};
use crate::wire::resp::keys::tag;

/// Slots of the table of keys.
const SLOTS: u32 = 65_537;
/// Points of a server of average weight on nutcracker's continuum.
const KETAMA_POINTS: f32 = 160.0;

/// Where keys are. Servers are numbered: layer one first, then the spares.
#[derive(Debug)]
pub(super) struct Placement {
    /// Who owns each slot: small enough to stay in the processor's cache, as it is asked for each key.
    owners: Vec<u16>,
    /// Who owns each slot, and who takes its place.
    ladders: Vec<Ladder>,
    /// Ascending points and their owners, where keys are placed as nutcracker does.
    continuum: Option<Vec<(u32, u16)>>,
    /// The only server, if there is one.
    only: Option<u16>,
}

impl Placement {
    pub fn new(cache: &Cache) -> Self {
        let candidates: Vec<_> = (0..)
            .zip(cache.members())
            .map(|(id, (name, role, weight))| Candidate {
                id,
                key: CandidateKey::of_name(name),
                role,
                weight,
                zone: None,
            })
            .collect();
        let serving: Vec<_> = candidates
            .iter()
            .filter(|candidate| candidate.role == Role::Primary && candidate.weight > 0)
            .collect();
        let only = match serving[..] {
            [only] => Some(only.id),
            _ => None,
        };
        let continuum = (cache.hash == HashKind::Ketama).then(|| continuum(cache));
        let ladders = maglev::build(&candidates, SLOTS, Spill::Both);
        let owner = |ladder: &Ladder| ladder[0].unwrap_or_default();
        Self {
            owners: ladders.iter().map(owner).collect(),
            ladders,
            continuum,
            only,
        }
    }

    /// The number of the server of layer one that owns `key`.
    pub fn of(&self, key: &[u8]) -> usize {
        if let Some(only) = self.only {
            return usize::from(only);
        }
        let part = tag(key);
        match &self.continuum {
            None => {
                let slot = maglev::slot_of_key(part, SLOTS);
                usize::from(self.owners.get(slot).copied().unwrap_or_default())
            }
            Some(continuum) => {
                let hash = fnv1a_64(part);
                let at = continuum.partition_point(|(point, _)| *point < hash);
                let found = continuum.get(at).or_else(|| continuum.first());
                found.map_or(0, |(_, owner)| usize::from(*owner))
            }
        }
    }

    /// Who takes the place of `key`'s owner, in this order.
    pub fn alternates(&self, key: &[u8], owner: usize) -> impl Iterator<Item = usize> {
        let slot = maglev::slot_of_key(tag(key), SLOTS);
        let ladder = self.ladders.get(slot).copied().unwrap_or_default();
        let rungs = ladder.into_iter().flatten().map(usize::from);
        rungs.filter(move |rung| *rung != owner)
    }

    /// The share of the keys that each server of layer one owns, 0 to 1.
    pub fn shares(&self, servers: usize) -> Vec<f64> {
        let mut shares = vec![0.0; servers];
        match &self.continuum {
            None => {
                for owner in self.ladders.iter().filter_map(|ladder| ladder[0]) {
                    if let Some(share) = shares.get_mut(usize::from(owner)) {
                        *share += 1.0 / self.ladders.len() as f64;
                    }
                }
            }
            Some(continuum) => {
                let mut before = continuum.last().map_or(0, |(point, _)| *point);
                for (point, owner) in continuum {
                    if let Some(share) = shares.get_mut(usize::from(*owner)) {
                        *share += f64::from(point.wrapping_sub(before)) / 4_294_967_296.0;
                    }
                    before = *point;
                }
            }
        }
        shares
    }
}

/// nutcracker's continuum: for each server 160 points (more or fewer by its weight), four from each
/// md5 of `name-number`.
fn continuum(cache: &Cache) -> Vec<(u32, u16)> {
    let serving = || {
        (0_u16..)
            .zip(&cache.primaries)
            .filter(|(_, p)| p.weight > 0)
    };
    let count = serving().count() as f32;
    let total: u32 = serving().map(|(_, primary)| primary.weight).sum();
    let mut points = Vec::new();
    for (owner, primary) in serving() {
        let share = primary.weight as f32 / total as f32;
        // In single precision, as nutcracker computes it: one point more or less moves keys.
        let hashes = (share * KETAMA_POINTS / 4.0 * count + 0.000_000_000_1).floor() as u32;
        for number in 0..hashes {
            let digest = Md5::digest(format!("{}-{number}", primary.name));
            for point in digest.chunks_exact(4) {
                let point = point
                    .iter()
                    .rev()
                    .fold(0, |value, b| value << 8 | u32::from(*b));
                points.push((point, owner));
            }
        }
    }
    // nutcracker sorts by the point alone, with an unstable sort; two equal points are one in a
    // million.
    points.sort_unstable();
    points
}

/// nutcracker's `fnv1a_64`, which keeps 32 bits and takes bytes for signed.
fn fnv1a_64(key: &[u8]) -> u32 {
    key.iter().fold(0x8422_2325, |hash: u32, byte| {
        let signed = i32::from(byte.cast_signed()).cast_unsigned();
        (hash ^ signed).wrapping_mul(0x0000_01b3)
    })
}
