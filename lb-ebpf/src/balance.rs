//! From a flow to a backend: slot, then rung.

use lb_common::backend::BackendId;
use lb_common::flow::FlowHash;
use lb_common::ladder::{SLOTS_WALKED_MAX, Slot, slot_index};
use lb_common::service::Service;
use lb_common::verdict::DropReason;

use crate::maps::{self, LiveBackend};

/// What a flow's slot says.
pub enum Choice {
    /// Forward to this backend, which stands on this rung.
    Backend {
        /// The backend.
        id: BackendId,
        /// 0 for the slot's own primary.
        rung: usize,
        /// Its element.
        backend: LiveBackend,
    },
    /// No backend takes the packet.
    Empty,
}

/// Chooses the backend of a flow.
///
/// A settled slot whose rung 0 is plainly up costs one slot and one state word. The flow maps
/// belong between these two branches: an unstable slot will ask them before it walks.
#[inline(always)]
pub fn choose(service: &Service, flow: FlowHash) -> Result<Choice, DropReason> {
    let home = slot_index(flow.slot_bits(), service.slots);
    let slot = maps::slot(service.pool, home).ok_or(DropReason::NoTable)?;
    let owner = slot.rung(0);
    if slot.is_settled()
        && let Some(backend) = maps::backend(owner)
        && backend.state().is_stable()
    {
        return Ok(Choice::Backend {
            id: owner,
            rung: 0,
            backend,
        });
    }
    Ok(walk(service, home, slot))
}

/// The first rung that takes new flows: of this slot, else of the slots that follow.
#[inline(always)]
fn walk(service: &Service, home: u32, slot: Slot) -> Choice {
    let mut slot = slot;
    let mut index = home;
    for _ in 0..SLOTS_WALKED_MAX {
        if let Some((rung, id)) = slot.first_open(maps::backend_state)
            && let Some(backend) = maps::backend(id)
        {
            return Choice::Backend { id, rung, backend };
        }
        index = if index + 1 < service.slots {
            index + 1
        } else {
            0
        };
        let Some(next) = maps::slot(service.pool, index) else {
            return Choice::Empty;
        };
        slot = next;
    }
    Choice::Empty
}
