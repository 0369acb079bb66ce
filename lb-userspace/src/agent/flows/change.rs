//! Another table for a pool: which slots change their owner, and whose they were.

use std::collections::BTreeMap;

use lb_common::backend::BackendId;
use lb_common::ladder::{Previous, Slot};
use lb_common::pool::PoolId;

use super::Rules;
use super::owners::{Owners, States, owners};
use super::table::Table;

/// The states and tables of one moment. No state but that of a backend that fails may be stored
/// between that moment and the swap.
#[derive(Debug, Clone)]
pub struct Evaluator {
    states: States,
    tables: BTreeMap<PoolId, (Table, Rules)>,
}

/// A table that is to be swapped in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// The pool.
    pub pool: PoolId,
    /// What its configuration says from now on.
    pub rules: Rules,
    /// The table, flags and previous owners included.
    pub table: Table,
    /// Slots whose TCP flows change their owner and did not before: their window begins.
    pub newly_tcp: Vec<u32>,
    /// The same for UDP.
    pub newly_udp: Vec<u32>,
}

/// One slot's owners by a table, its previous ones included.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Settled {
    tcp: BackendId,
    udp: BackendId,
    is_lost: bool,
}

impl Evaluator {
    pub(super) fn new(states: States, tables: BTreeMap<PoolId, (Table, Rules)>) -> Self {
        Self { states, tables }
    }

    /// The table of a pool as it is now.
    #[must_use]
    pub fn table(&self, pool: PoolId) -> Option<&Table> {
        self.tables.get(&pool).map(|(table, _)| table)
    }

    /// The table for new ladders of a pool. `tracks_all` marks every slot as possibly recorded: a
    /// service with flows elsewhere is about to point at this pool.
    ///
    /// A slot counts as changed, per protocol, if the owner of its unrecorded flows differs, or if
    /// it counted so already (the settled owner stays the previous one through any number of
    /// changes), or if its new flows go to somebody other than that owner by another way than before:
    /// the window of a backend that warms may be nearly over, and none of this slot's flows recorded.
    #[must_use]
    pub fn evaluate(
        &self,
        pool: PoolId,
        rules: Rules,
        ladders: &[Slot],
        tracks_all: bool,
    ) -> TableChange {
        let track = if tracks_all { Slot::TRACK } else { 0 };
        let mut change = TableChange {
            pool,
            rules,
            table: Table::default(),
            newly_tcp: Vec::new(),
            newly_udp: Vec::new(),
        };
        let Some((before, rules_before)) = self.tables.get(&pool).filter(|(before, _)| {
            // A pool's number of slots never changes in place.
            before.slots.len() == ladders.len()
        }) else {
            let slots: Vec<Slot> = ladders.iter().map(|slot| Slot(slot.0 | track)).collect();
            change.table = Table::fresh(slots);
            return change;
        };
        let mut slots = Vec::with_capacity(ladders.len());
        let mut previous = Vec::new();
        for (index, ladder) in ladders.iter().enumerate() {
            let there = before.slots[index];
            let flags = if self.is_plain(there, *ladder) {
                0
            } else {
                let walked = owners(&before.slots, index, |id| self.states.get(id));
                let was = self.settled(before, index, &walked, rules_before.resets);
                let becomes = owners(ladders, index, |id| self.states.get(id));
                let flags = changed_flags(there, *ladder, &was, &becomes, walked.new, rules.resets);
                if flags != 0 {
                    previous.resize(ladders.len(), Previous::NOBODY);
                    previous[index] = Previous::new(was.tcp, was.udp);
                }
                flags
            };
            if flags & !there.0 & Slot::CHANGED_TCP != 0 {
                change.newly_tcp.push(index as u32);
            }
            if flags & !there.0 & Slot::CHANGED_UDP != 0 {
                change.newly_udp.push(index as u32);
            }
            let is_unstable =
                flags != 0 || !there.is_settled() || !self.states.get(there.rung(0)).is_stable();
            let tracked = if is_unstable { Slot::TRACK } else { track };
            slots.push(Slot(ladder.0 & !Slot::FLAGS | flags | tracked));
        }
        change.table = Table {
            slots: slots.into(),
            previous: previous.into(),
        };
        change
    }

    /// Whether a slot was stable on a backend that it keeps on rung 0: nothing can have changed.
    fn is_plain(&self, there: Slot, ladder: Slot) -> bool {
        there.is_settled()
            && there.rung(0) == ladder.rung(0)
            && self.states.get(there.rung(0)).is_stable()
    }

    /// Whose the slot's unrecorded flows are now.
    fn settled(&self, table: &Table, index: usize, walked: &Owners, resets: bool) -> Settled {
        use lb_common::backend::BackendState as State;
        let (tcp, udp) = table.previous(index);
        let supplies = |id: BackendId, bit| id != BackendId::NONE && self.states.get(id).has(bit);
        let keeps_tcp = supplies(tcp, State::OLD);
        Settled {
            tcp: if keeps_tcp { tcp } else { walked.tcp },
            udp: if supplies(udp, State::OLD_UDP) {
                udp
            } else {
                walked.udp
            },
            is_lost: walked.is_lost && resets && !keeps_tcp,
        }
    }
}

fn changed_flags(
    there: Slot,
    ladder: Slot,
    was: &Settled,
    becomes: &Owners,
    new_before: BackendId,
    resets: bool,
) -> u64 {
    let differs = (there.0 ^ ladder.0) & !Slot::FLAGS != 0 || new_before != becomes.new;
    let is_lost = becomes.is_lost && resets;
    let mut flags = 0;
    if there.0 & Slot::CHANGED_TCP != 0
        || was.tcp != becomes.tcp
        || was.is_lost != is_lost
        || differs && becomes.new != becomes.tcp
    {
        flags |= Slot::CHANGED_TCP;
    }
    if there.0 & Slot::CHANGED_UDP != 0
        || was.udp != becomes.udp
        || differs && becomes.new != becomes.udp
    {
        flags |= Slot::CHANGED_UDP;
    }
    flags
}
