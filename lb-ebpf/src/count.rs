//! Counting: per CPU, without atomics.

use lb_common::backend::BackendId;
use lb_common::counters::{FlowCount, Pass, Reply, Traffic};
use lb_common::packet::Packet;
use lb_common::service::Service;
use lb_common::verdict::DropReason;

use crate::maps;

/// Counts a packet forwarded for `service` to the backend `id`, which is
/// rung 0 of its slot or not.
#[inline(always)]
pub fn forwarded(service: &Service, id: BackendId, is_home: bool, packet: &Packet) {
    for counter in [
        maps::service_traffic(service.counters),
        maps::backend_traffic(id),
    ] {
        if let Some(counter) = counter {
            // SAFETY: an element of a per-CPU array, which only this CPU writes, and XDP programs
            // do not interrupt one another on a CPU.
            add(unsafe { &mut *counter }, is_home, packet);
        }
    }
}

#[inline(always)]
fn add(traffic: &mut Traffic, is_home: bool, packet: &Packet) {
    traffic.packets += 1;
    traffic.bytes += u64::from(packet.length) + packet.network_offset as u64;
    if packet.opens_flow() {
        traffic.new_flows += 1;
    }
    if !is_home {
        traffic.diverted += 1;
    }
}

/// Counts a dropped packet.
#[inline(always)]
pub fn drop(reason: DropReason) {
    add_one(maps::drop_counter(reason));
}

/// Counts a packet that the program answered by itself.
#[inline(always)]
pub fn reply(reply: Reply) {
    add_one(maps::reply_counter(reply));
}

/// Counts a packet left to the gateway's own kernel.
#[inline(always)]
pub fn pass(pass: Pass) {
    add_one(maps::pass_counter(pass));
}

/// Counts something done with the flow maps.
#[inline(always)]
pub fn flow(what: FlowCount) {
    add_one(maps::flow_counter(what));
}

#[inline(always)]
fn add_one(counter: Option<*mut u64>) {
    if let Some(counter) = counter {
        // SAFETY: as in `forwarded`.
        unsafe { *counter += 1 };
    }
}
