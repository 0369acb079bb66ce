//! A slot's ladder: up to four backends in the order in which the slot falls back on them.

use crate::backend::{BackendId, BackendState};

/// Rungs of a ladder.
pub const RUNGS: usize = 4;

/// Slots that a packet looks at, its own and the ones that follow, before its service counts as
/// empty. A bound for the verifier, and enough that 3 live servers of 1,000 are found as a rule.
pub const SLOTS_WALKED_MAX: u32 = 8;

const ID_BITS: u64 = 0x7fff;

/// One entry of a pool's table: four 16-bit words, rung 0 in the lowest. 15 bits of each are a
/// backend id; bit 15 of the first three are the slot's flags.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// The owner of this slot's TCP flows changed; the previous one stands in the second half.
    pub const CHANGED_TCP: u64 = 1 << 15;
    /// The same for UDP.
    pub const CHANGED_UDP: u64 = 1 << 31;
    /// Flows of this slot may be recorded.
    pub const TRACK: u64 = 1 << 47;
    /// All three flags.
    pub const FLAGS: u64 = Self::CHANGED_TCP | Self::CHANGED_UDP | Self::TRACK;

    /// A slot without any backend.
    pub const EMPTY: Self = Self::new([BackendId::NONE; RUNGS]);

    /// A slot with these rungs and no flags.
    #[must_use]
    pub const fn new(rungs: [BackendId; RUNGS]) -> Self {
        let [a, b, c, d] = rungs;
        Self(
            (a.0 as u64 & ID_BITS)
                | (b.0 as u64 & ID_BITS) << 16
                | (c.0 as u64 & ID_BITS) << 32
                | (d.0 as u64 & ID_BITS) << 48,
        )
    }

    /// The backend on rung `rung` (0 to 3).
    #[inline(always)]
    #[must_use]
    pub const fn rung(self, rung: usize) -> BackendId {
        BackendId((self.0 >> (16 * rung) & ID_BITS) as u16)
    }

    /// All four rungs.
    #[must_use]
    pub const fn rungs(self) -> [BackendId; RUNGS] {
        [self.rung(0), self.rung(1), self.rung(2), self.rung(3)]
    }

    /// Whether no flag is set: the slot has been left alone for long enough.
    #[inline(always)]
    #[must_use]
    pub const fn is_settled(self) -> bool {
        self.0 & Self::FLAGS == 0
    }

    /// The first rung whose backend takes new flows, with that backend.
    #[inline(always)]
    pub fn first_open(
        self,
        state: impl Fn(BackendId) -> BackendState,
    ) -> Option<(usize, BackendId)> {
        // Written out: a loop over a closure keeps the verifier busier than four branches.
        let open = |rung: usize| state(self.rung(rung)).has(BackendState::NEW);
        if open(0) {
            Some((0, self.rung(0)))
        } else if open(1) {
            Some((1, self.rung(1)))
        } else if open(2) {
            Some((2, self.rung(2)))
        } else if open(3) {
            Some((3, self.rung(3)))
        } else {
            None
        }
    }
}

impl core::fmt::Debug for Slot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut list = f.debug_list();
        for id in self.rungs().iter().filter(|id| **id != BackendId::NONE) {
            list.entry(&id.0);
        }
        list.finish()?;
        for (bit, name) in [
            (Self::CHANGED_TCP, "+T"),
            (Self::CHANGED_UDP, "+U"),
            (Self::TRACK, "+K"),
        ] {
            if self.0 & bit != 0 {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// Who may take a packet of a slot: what a walk over its ladder, and where that has nobody over
/// the ladders that follow, finds. [`BackendId::NONE`] stands for nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owners {
    /// The first that takes new flows.
    pub new: BackendId,
    /// The first that owns unrecorded flows.
    pub old: BackendId,
    /// The first that was lost lately and stands before `old`.
    pub lost: BackendId,
}

impl Owners {
    /// Nobody at all.
    pub const NOBODY: Self = Self {
        new: BackendId::NONE,
        old: BackendId::NONE,
        lost: BackendId::NONE,
    };

    /// Walks from slot `home` of a table of `slots`. `owns` is the bit that makes somebody the owner
    /// of unrecorded flows: `OLD` for TCP, `OLD_UDP` for UDP. Every state is read once, so that what is
    /// found was true at one moment of each backend.
    #[inline(always)]
    pub fn walk(
        home: u32,
        slots: u32,
        owns: u32,
        slot_at: impl Fn(u32) -> Option<Slot>,
        state: impl Fn(BackendId) -> BackendState,
    ) -> Self {
        let mut found = Self::NOBODY;
        let mut index = home;
        for _ in 0..SLOTS_WALKED_MAX {
            let Some(slot) = slot_at(index) else {
                return found;
            };
            for rung in 0..RUNGS {
                let id = slot.rung(rung);
                let state = state(id);
                if found.new.is_none() && state.has(BackendState::NEW) {
                    found.new = id;
                }
                if found.old.is_none() {
                    if state.has(owns) {
                        found.old = id;
                    } else if found.lost.is_none() && state.has(BackendState::LOST) {
                        found.lost = id;
                    }
                }
                if !found.new.is_none() && !found.old.is_none() {
                    return found;
                }
            }
            index = following(index, slots);
        }
        found
    }
}

/// The first that takes new flows and is not `but`, on the same walk as [`Owners::walk`].
#[inline(always)]
pub fn next_new(
    home: u32,
    slots: u32,
    but: BackendId,
    slot_at: impl Fn(u32) -> Option<Slot>,
    state: impl Fn(BackendId) -> BackendState,
) -> BackendId {
    let mut index = home;
    for _ in 0..SLOTS_WALKED_MAX {
        let Some(slot) = slot_at(index) else {
            return BackendId::NONE;
        };
        for rung in 0..RUNGS {
            let id = slot.rung(rung);
            if id != but && state(id).has(BackendState::NEW) {
                return id;
            }
        }
        index = following(index, slots);
    }
    BackendId::NONE
}

/// The slot behind `index`; behind the last comes the first.
#[inline(always)]
#[must_use]
pub const fn following(index: u32, slots: u32) -> u32 {
    if index + 1 < slots { index + 1 } else { 0 }
}

/// An entry of a table's second half: who owned a slot before, by protocol.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Previous(pub u64);

impl Previous {
    /// Nobody.
    pub const NOBODY: Self = Self::new(BackendId::NONE, BackendId::NONE);

    /// The previous owners of TCP and of UDP flows.
    #[must_use]
    pub const fn new(tcp: BackendId, udp: BackendId) -> Self {
        Self(tcp.0 as u64 | (udp.0 as u64) << 16)
    }

    /// Of TCP flows.
    #[inline(always)]
    #[must_use]
    pub const fn tcp(self) -> BackendId {
        BackendId(self.0 as u16)
    }

    /// Of UDP flows.
    #[inline(always)]
    #[must_use]
    pub const fn udp(self) -> BackendId {
        BackendId((self.0 >> 16) as u16)
    }
}

/// The slot of a flow in a table of `slots`: the hash scaled to the table (Lemire, "Fast random
/// integer generation in an interval", 2019), which costs one multiplication where `%` costs a
/// division.
#[inline(always)]
#[must_use]
pub const fn slot_index(flow_hash: u32, slots: u32) -> u32 {
    ((flow_hash as u64 * slots as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(ids: [u16; 4]) -> [BackendId; 4] {
        ids.map(BackendId)
    }

    proptest! {
        #[test]
        fn a_slot_gives_back_its_rungs_whatever_its_flags(
            rungs in proptest::array::uniform4(0u16..0x8000), flags: u64
        ) {
            let slot = Slot(Slot::new(ids(rungs)).0 | flags & Slot::FLAGS);
            prop_assert_eq!(slot.rungs(), ids(rungs));
            prop_assert_eq!(slot.is_settled(), flags & Slot::FLAGS == 0);
        }

        #[test]
        fn a_slot_index_lies_in_the_table(hash: u32, slots in 1u32..=1_048_573) {
            prop_assert!(slot_index(hash, slots) < slots);
        }

        #[test]
        fn the_first_open_rung_is_taken(up: [bool; 4]) {
            let slot = Slot::new(ids([3, 9, 4, 7]));
            let state = |id: BackendId| {
                let rung = slot.rungs().iter().position(|r| *r == id).unwrap();
                if up[rung] { BackendState::UP } else { BackendState::DRAINING }
            };
            let expected = up.iter().position(|up| *up);
            prop_assert_eq!(slot.first_open(state).map(|(rung, _)| rung), expected);
        }
    }

    #[test]
    fn every_slot_of_a_table_can_be_reached() {
        assert_eq!(slot_index(0, 65_537), 0);
        assert_eq!(slot_index(u32::MAX, 65_537), 65_536);
    }
}
