//! Telling the agent, and counting what is told.

use lb_common::backend::BackendId;
use lb_common::counters::FlowCount;
use lb_common::event::{Event, EventKind};
use lb_common::flow::{FlowKey, tick};

use crate::{clock, count, maps};

/// A SYN came again that goes, or would have gone, to `backend`.
pub fn repeated(pool: u16, backend: BackendId, flow: &FlowKey) {
    count::flow(FlowCount::Repeated);
    let Some(suspicion) = maps::suspicion(backend) else {
        return;
    };
    // SAFETY: an element of a per-CPU array, which only this CPU writes.
    let suspicion = unsafe { &mut *suspicion };
    suspicion.repeated_syns += 1;
    let now = tick(clock::now());
    if suspicion.told_repeated != now {
        suspicion.told_repeated = now;
        tell(EventKind::Suspected, pool, backend, flow);
    }
}

/// A flow of `backend`, which is gone, is reset.
pub fn reset(pool: u16, backend: BackendId, flow: &FlowKey) {
    let Some(suspicion) = maps::suspicion(backend) else {
        return;
    };
    // SAFETY: as above.
    let suspicion = unsafe { &mut *suspicion };
    suspicion.resets += 1;
    let now = tick(clock::now());
    if suspicion.told_reset != now {
        suspicion.told_reset = now;
        tell(EventKind::Reset, pool, backend, flow);
    }
}

/// A SYN that was sent to `backend` before goes elsewhere.
pub fn rescued(pool: u16, backend: BackendId, flow: &FlowKey) {
    count::flow(FlowCount::Rescued);
    tell(EventKind::Rescued, pool, backend, flow);
}

/// Nobody takes a packet of the pool.
pub fn empty(pool: u16, flow: &FlowKey) {
    let Some(told) = maps::told_empty(pool) else {
        return;
    };
    let now = tick(clock::now());
    // SAFETY: an element of a per-CPU array, which only this CPU writes.
    unsafe {
        if *told == now {
            return;
        }
        *told = now;
    }
    tell(EventKind::Empty, pool, BackendId::NONE, flow);
}

#[inline(always)]
fn tell(kind: EventKind, pool: u16, backend: BackendId, flow: &FlowKey) {
    let Some(mut place) = maps::reserve_event() else {
        count::flow(FlowCount::EventsLost);
        return;
    };
    place.write(Event {
        kind: kind as u32,
        pool,
        backend: backend.0,
        flow: *flow,
    });
    place.submit(0);
}
