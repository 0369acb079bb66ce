//! Whose flows a slot's are, by one walk over its ladder and those of the slots that follow: the
//! program's own walk, over tables in this process's memory.

use std::collections::BTreeMap;

use lb_common::backend::{BackendId, BackendState};
use lb_common::ladder::{RUNGS, SLOTS_WALKED_MAX, Slot};

use super::member::Member;

/// Who takes a slot's new flows and whose its unrecorded ones are; [`BackendId::NONE`] for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// Takes new flows: the first rung with `NEW`.
    pub new: BackendId,
    /// Owns unrecorded TCP flows: the first rung with `OLD`.
    pub tcp: BackendId,
    /// Owns unrecorded UDP flows: the first rung with `OLD_UDP`.
    pub udp: BackendId,
    /// A backend lately lost was passed before `tcp`: the flow may have been its.
    pub is_lost: bool,
}

/// The owners of slot `home` by the ladders alone, previous owners not looked at.
#[must_use]
pub fn owners(slots: &[Slot], home: usize, state: impl Fn(BackendId) -> BackendState) -> Owners {
    let mut found = Owners {
        new: BackendId::NONE,
        tcp: BackendId::NONE,
        udp: BackendId::NONE,
        is_lost: false,
    };
    for step in 0..(SLOTS_WALKED_MAX as usize).min(slots.len()) {
        let index = home + step;
        let slot = slots[if index < slots.len() {
            index
        } else {
            index - slots.len()
        }];
        for rung in 0..RUNGS {
            let id = slot.rung(rung);
            if id == BackendId::NONE {
                continue;
            }
            let state = state(id);
            let first = |has: u32, place: &mut BackendId| {
                if *place == BackendId::NONE && state.has(has) {
                    *place = id;
                }
            };
            first(BackendState::NEW, &mut found.new);
            first(BackendState::OLD, &mut found.tcp);
            first(BackendState::OLD_UDP, &mut found.udp);
            if state.has(BackendState::LOST) && found.tcp == BackendId::NONE {
                found.is_lost = true;
            }
        }
        if ![found.new, found.tcp, found.udp].contains(&BackendId::NONE) {
            break;
        }
    }
    found
}

/// The states of all backends, by their id.
#[derive(Debug, Clone)]
pub(super) struct States(Vec<u8>);

impl States {
    pub fn of(members: &BTreeMap<BackendId, Member>) -> Self {
        let mut states = vec![0; usize::from(BackendId::NONE.0) + 1];
        for (id, member) in members {
            states[usize::from(id.0)] = member.state.0 as u8;
        }
        Self(states)
    }

    pub fn get(&self, id: BackendId) -> BackendState {
        BackendState(u32::from(
            self.0.get(usize::from(id.0)).copied().unwrap_or(0),
        ))
    }
}
