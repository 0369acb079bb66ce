//! Whose a packet is that no record speaks for: one walk over the ladder of its slot and, where
//! that is not enough, over those that follow.

use crate::rules::{Rule, Rules};
use crate::world::{
    CHANGED_TCP, CHANGED_UDP, FULL, LOST, NEW, NOBODY, OLD, OLDU, SLOT_FLAGS, TRACK, World, rung,
};

/// Slots that are looked at.
pub const SLOTS_WALKED: u32 = 8;

/// What the walk found; [`NOBODY`] where it found nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owners {
    /// Takes a new flow.
    pub new: u16,
    /// Takes a new flow when `new` does not answer.
    pub second_new: u16,
    /// Has the flows that are not recorded.
    pub old: u16,
    /// Had them, and was lost.
    pub lost: u16,
    /// Whether the slot's owner changed lately.
    pub is_changed: bool,
}

/// The slot of a flow, which is stable if nothing but rung 0 need be looked at.
#[must_use]
pub fn is_stable(world: &World, rules: Rules, pool: u16, home: u32) -> bool {
    let ladder = world.pools[usize::from(pool)].ladders[home as usize];
    let mut state = world.state(rung(ladder, 0));
    if !rules.hold(Rule::TrackLeavesFastPath) {
        state &= !TRACK;
    }
    let flags = ladder & SLOT_FLAGS;
    state == FULL && (flags == 0 || !rules.hold(Rule::FlagsLeaveFastPath))
}

/// The walk of a TCP or UDP packet from slot `home` of a pool.
#[must_use]
pub fn walk(world: &World, rules: Rules, pool: u16, home: u32, is_tcp: bool) -> Owners {
    let table = &world.pools[usize::from(pool)];
    let slots = table.ladders.len() as u32;
    let owns = match (is_tcp, rules) {
        (_, rules) if !rules.hold(Rule::OldIsNotNew) => NEW,
        (false, rules) if rules.hold(Rule::UdpHasItsOwnBit) => OLDU,
        _ => OLD,
    };
    let mut found = Owners {
        new: NOBODY,
        second_new: NOBODY,
        old: NOBODY,
        lost: NOBODY,
        is_changed: false,
    };
    if slots == 0 {
        return found;
    }
    let walked = if rules.hold(Rule::WalkGoesOn) {
        SLOTS_WALKED
    } else {
        1
    };
    for step in 0..walked {
        let index = home + step;
        if index >= slots && !rules.hold(Rule::WalkWraps) {
            break;
        }
        let ladder = table.ladders[(index % slots) as usize];
        for id in (0..4).map(|at| rung(ladder, at)) {
            let state = world.state(id);
            if state & NEW != 0 {
                if found.new == NOBODY {
                    found.new = id;
                } else if found.second_new == NOBODY && id != found.new {
                    found.second_new = id;
                }
            }
            if found.old == NOBODY && state & owns != 0 {
                found.old = id;
            }
            let is_before = found.old == NOBODY || !rules.hold(Rule::LostBeforeOwner);
            if is_before && state & LOST != 0 && found.lost == NOBODY {
                found.lost = id;
            }
        }
    }
    let ladder = table.ladders[home as usize];
    let by_protocol = is_tcp || !rules.hold(Rule::ChangedByProtocol);
    let flag = if by_protocol {
        CHANGED_TCP
    } else {
        CHANGED_UDP
    };
    found.is_changed = ladder & flag != 0;
    if found.is_changed && rules.hold(Rule::PreviousOwner) {
        let entry = table.previous[home as usize];
        let before = if is_tcp { entry } else { entry >> 16 } as u16;
        let still_owns = world.state(before) & owns != 0 || !rules.hold(Rule::PreviousMustOwn);
        // What lies there may name nobody at all, and not every model asks its state.
        let is_there = usize::from(before) < world.backends.len();
        if is_there && still_owns {
            found.old = before;
            found.lost = NOBODY;
        }
    }
    found
}
