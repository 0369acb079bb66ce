//! Whose flows a slot's are, by the program's own walk over its ladder and those of the slots that
//! follow, here over tables in this process's memory.

use std::collections::BTreeMap;

use lb_common::backend::{BackendId, BackendState};
use lb_common::ladder::{self, Slot};

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
    let count = slots.len() as u32;
    let slot_at = |index: u32| slots.get(index as usize).copied();
    let state = |id: BackendId| {
        if id.is_none() {
            BackendState::DOWN
        } else {
            state(id)
        }
    };
    let walk = |owns| ladder::Owners::walk(home as u32, count, owns, slot_at, state);
    let (tcp, udp) = (walk(BackendState::OLD), walk(BackendState::OLD_UDP));
    Owners {
        new: tcp.new,
        tcp: tcp.old,
        udp: udp.old,
        is_lost: !tcp.lost.is_none(),
    }
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
