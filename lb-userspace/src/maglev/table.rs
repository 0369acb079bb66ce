//! One consistent-hash table: every slot gets one member, by weight, moving little when they change.

use super::hash::{GOLDEN_RATIO, Purpose, affinity, mix, of_key, of_slot};
use super::member::{Member, NONE};

/// Turns per member that are kept back from the walk and settled by affinity.
///
/// In plain Maglev nearly all slots that change hands without need are among the last to be
/// claimed, when a backend takes whatever is still free. Letting the slots choose there keeps
/// bystanders under 1 % where plain Maglev exceeds it (65,537 slots, 350 to 480 backends).
const TAIL_TURNS: usize = 16;

/// The tail is at most this part of the table.
const TAIL_SHARE: usize = 8;

/// Affinities computed for one table, at about 1 ns each: every slot of the tail asks every member.
const AFFINITIES_MAX: usize = 4_000_000;

/// Steps of one walk before it takes the first free slot instead, in sizes of the table. A walk that
/// looks for the last free slot gets this far once in e^64 times.
const STEPS_PER_SLOT_MAX: usize = 64;

/// A table of member indices, as long as `turns`.
pub(super) fn fill(members: &[Member], turns: &[u16], rung: usize) -> Vec<u16> {
    let slots = turns.len();
    let mut table = vec![NONE; slots];
    let (walked, settled) = turns.split_at(slots - tail(members.len(), slots));
    walk(&mut table, members, walked, rung);
    settle(&mut table, members, settled, rung);
    table
}

/// The slots to settle. The same turns for every member: a tail that begins in the middle of a round
/// moves more slots than none.
fn tail(members: usize, slots: usize) -> usize {
    let turns = TAIL_TURNS
        .min(slots / TAIL_SHARE / members)
        .min(AFFINITIES_MAX / (members * members));
    members * turns
}

/// Maglev: at its turn a member goes on along its own path through the slots to the first free one.
fn walk(table: &mut [u16], members: &[Member], turns: &[u16], rung: usize) {
    let slots = table.len();
    let mut paths: Vec<Path> = members
        .iter()
        .map(|member| Path::new(member, rung))
        .collect();
    for &position in turns {
        let path = &mut paths[usize::from(position)];
        let claimed = (0..slots * STEPS_PER_SLOT_MAX)
            .map(|_| path.step(slots))
            .find(|slot| table[*slot] == NONE)
            .or_else(|| table.iter().position(|entry| *entry == NONE));
        table[claimed.expect("there are no more turns than slots")] = path.index;
    }
}

/// A member's path: slots drawn at random, from its key alone.
///
/// The paper's arithmetic progressions are one addition cheaper, but those of two members can keep
/// step with each other: one pool of 13 moved 1.0 % where its like move 0.3 %.
struct Path {
    state: u64,
    index: u16,
}

impl Path {
    fn new(member: &Member, rung: usize) -> Self {
        Self {
            state: of_key(member.key, Purpose::Path { rung }),
            index: member.index,
        }
    }

    fn step(&mut self, slots: usize) -> usize {
        self.state = self.state.wrapping_add(GOLDEN_RATIO);
        // Scales the hash down to the table, where a remainder would cost a division.
        ((u128::from(mix(self.state)) * slots as u128) >> 64) as usize
    }
}

/// Every slot that is still free takes the member it has most affinity to among those with turns left.
fn settle(table: &mut [u16], members: &[Member], turns: &[u16], rung: usize) {
    let mut left = vec![0_u32; members.len()];
    for &position in turns {
        left[usize::from(position)] += 1;
    }
    let mut waiting: Vec<Waiting> = members
        .iter()
        .zip(left)
        .filter(|(_, left)| *left > 0)
        .map(|(member, left)| Waiting {
            hash: of_key(member.key, Purpose::Affinity { rung }),
            index: member.index,
            left,
        })
        .collect();

    for (slot, entry) in table
        .iter_mut()
        .enumerate()
        .filter(|(_, entry)| **entry == NONE)
    {
        let slot = of_slot(slot, Purpose::Affinity { rung });
        let wish = |position: &usize| affinity(waiting[*position].hash, slot);
        let Some(wanted) = (0..waiting.len()).max_by_key(wish) else {
            break;
        };
        *entry = waiting[wanted].index;
        waiting[wanted].left -= 1;
        if waiting[wanted].left == 0 {
            // Keeps the order of keys, which decides between equal affinities.
            waiting.remove(wanted);
        }
    }
}

struct Waiting {
    hash: u64,
    index: u16,
    left: u32,
}
