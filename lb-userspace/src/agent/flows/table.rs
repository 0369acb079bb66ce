//! A pool's table as the map holds it: ladders with flags, and the previous owners behind them.

use std::sync::Arc;

use lb_common::backend::BackendId;
use lb_common::ladder::{Previous, Slot};

/// Both halves of a pool's inner array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The ladders, with the slots' flags.
    pub slots: Arc<[Slot]>,
    /// The previous owners; they count only under a slot's flag. Empty where no slot has one.
    pub previous: Arc<[Previous]>,
}

impl Table {
    /// Ladders without a past.
    #[must_use]
    pub fn fresh(ladders: impl Into<Arc<[Slot]>>) -> Self {
        Self {
            slots: ladders.into(),
            previous: Arc::default(),
        }
    }

    /// The previous owners of a slot, TCP and UDP; nobody where its flag is not set.
    #[must_use]
    pub fn previous(&self, index: usize) -> (BackendId, BackendId) {
        let slot = self.slots[index];
        let there = self.previous.get(index).copied();
        let there = there.unwrap_or(Previous::NOBODY);
        let counts = |flag: u64, id| {
            if slot.0 & flag == 0 {
                BackendId::NONE
            } else {
                id
            }
        };
        (
            counts(Slot::CHANGED_TCP, there.tcp()),
            counts(Slot::CHANGED_UDP, there.udp()),
        )
    }

    /// Whether no slot has a flag.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_settled())
    }

    /// The slots with this flag.
    pub(super) fn flagged(&self, flag: u64) -> Vec<u32> {
        let flagged = |(index, slot): (u32, &Slot)| (slot.0 & flag != 0).then_some(index);
        (0..).zip(self.slots.iter()).filter_map(flagged).collect()
    }

    /// Takes flags from a slot, and gives what it is then.
    pub(super) fn clear(&mut self, index: u32, flags: u64) -> Slot {
        let slots = Arc::make_mut(&mut self.slots);
        let slot = &mut slots[index as usize];
        *slot = Slot(slot.0 & !flags);
        *slot
    }
}
