//! What happens to the backends of a pool while an agent is there: failures, operators, other
//! configurations.

use fastrand::Rng;

use crate::duties::{Duties, Event};
use crate::world::{NOBODY, World};

/// Ids that a pool may give to its backends, from its first one on.
pub(super) const IDS_OF_POOL: u16 = 6;

/// The ids of a pool.
pub(super) fn ids(pool: u16) -> std::ops::Range<u16> {
    pool * IDS_OF_POOL..(pool + 1) * IDS_OF_POOL
}

/// A ladder of some of these backends, each of them once.
pub(super) fn ladder(random: &mut Rng, members: &[u16]) -> u64 {
    let mut members = members.to_vec();
    random.shuffle(&mut members);
    let rungs = members.into_iter().chain(std::iter::repeat(NOBODY)).take(4);
    rungs
        .enumerate()
        .fold(0, |ladder, (at, id)| ladder | u64::from(id) << (16 * at))
}

/// What happens next.
pub(super) fn event(random: &mut Rng, world: &World, duties: &Duties) -> Event {
    let with_table: Vec<u16> = (0..world.pools.len() as u16)
        .filter(|pool| !world.pools[usize::from(*pool)].ladders.is_empty())
        .collect();
    let pool = with_table[random.usize(0..with_table.len())];
    let id = random.u16(ids(pool));
    match random.u8(0..20) {
        0..4 => Event::Fail(id),
        4..8 => Event::Recover(id),
        8 | 9 => Event::Drain(id),
        10 | 11 => Event::Undrain(id),
        12..15 => change(random, world, duties, pool),
        15 => Event::Die,
        16 | 17 => Event::Restart,
        _ => Event::Sweep,
    }
}

/// Another configuration of a pool: weights, a backend more or a backend less.
fn change(random: &mut Rng, world: &World, duties: &Duties, pool: u16) -> Event {
    let mut members: Vec<u16> = ids(pool).filter(|id| duties.is_configured(*id)).collect();
    let free: Vec<u16> = ids(pool).filter(|id| duties.is_free(*id)).collect();
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    match random.u8(0..3) {
        0 if !free.is_empty() => added.extend(random.choice(free)),
        1 if members.len() > 1 => removed.extend(random.choice(members.clone())),
        _ => {}
    }
    members.extend(&added);
    members.retain(|id| !removed.contains(id));
    let share = random.u8(1..8);
    let before = &world.pools[usize::from(pool)].ladders;
    let ladders = before.iter().map(|before| {
        let before = before & !crate::world::SLOT_FLAGS;
        let has_removed = (0..4).any(|at| removed.contains(&crate::world::rung(before, at)));
        if has_removed || random.u8(0..8) < share {
            ladder(random, &members)
        } else {
            before
        }
    });
    Event::Change {
        pool,
        ladders: ladders.collect(),
        added,
        removed,
    }
}
