//! What the ladders promise, checked over many pools; and the bytes themselves.

mod balance;
mod disruption;
mod golden;
mod ladders;

use std::net::IpAddr;

use proptest::prelude::*;

use super::{Candidate, CandidateKey, Ladder, Role};

/// The table size in the configuration's default, and in every promise about shares.
const SLOTS: u32 = 65_537;

fn candidate(id: u16, role: Role, weight: u32) -> Candidate {
    let address: IpAddr = [10, 0, (id >> 8) as u8, id as u8].into();
    Candidate {
        id,
        key: CandidateKey::from(address),
        role,
        weight,
        zone: None,
    }
}

fn primaries(count: u16) -> Vec<Candidate> {
    (1..=count)
        .map(|id| candidate(id, Role::Primary, 100))
        .collect()
}

/// `count` primaries and then `standbys` standbys, all of one weight.
fn pool(count: u16, standbys: u16) -> Vec<Candidate> {
    let ids = count + 1..=count + standbys;
    primaries(count)
        .into_iter()
        .chain(ids.map(|id| candidate(id, Role::Standby, 100)))
        .collect()
}

fn in_zones(mut candidates: Vec<Candidate>, zones: &[Option<&str>]) -> Vec<Candidate> {
    for (candidate, zone) in candidates.iter_mut().zip(zones.iter().cycle()) {
        candidate.zone = zone.map(str::to_owned);
    }
    candidates
}

fn with_id(candidates: &[Candidate], id: u16) -> &Candidate {
    candidates
        .iter()
        .find(|candidate| candidate.id == id)
        .expect("a ladder names only candidates")
}

/// How many ladders have `id` at `rung`.
fn slots_of(ladders: &[Ladder], rung: usize, id: u16) -> usize {
    ladders
        .iter()
        .filter(|ladder| ladder[rung] == Some(id))
        .count()
}

/// Any pool: roles, weights over four orders of magnitude, some zero, zones or not.
fn any_pool() -> impl Strategy<Value = Vec<Candidate>> {
    let weight = prop_oneof![1 => Just(0), 6 => 1..=200_u32, 1 => 1..=65_535_u32];
    let role = prop_oneof![Just(Role::Primary), Just(Role::Standby)];
    let zone = prop_oneof![
        Just(None),
        (0..4_u8).prop_map(|zone| Some(format!("zone-{zone}")))
    ];
    let addresses = proptest::collection::btree_set(any::<u32>(), 0..24);
    (
        addresses,
        proptest::collection::vec((role, weight, zone), 24),
    )
        .prop_map(|(addresses, rest)| {
            let numbered = (1..).zip(addresses).zip(rest);
            numbered
                .map(|((id, address), (role, weight, zone))| {
                    let key = CandidateKey::from(IpAddr::from(address.to_be_bytes()));
                    Candidate {
                        id,
                        key,
                        role,
                        weight,
                        zone,
                    }
                })
                .collect()
        })
}
