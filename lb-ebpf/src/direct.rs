//! The way that almost every packet takes: plain, for a service without anything special, in a settled
//! slot whose owner is plainly up. Array lookups, and nothing is called.
//!
//! The stages are those of the pipeline. Where one of them would have to do anything else, this gives
//! up, with nothing changed and nothing counted, and the pipeline begins anew. Called by the entry.

use core::hint::black_box;

use lb_common::counters::Pass;
use lb_common::flow;
use lb_common::packet::Packet;
use lb_common::verdict::{DropReason, Verdict};

use crate::cursor::Frame;
use crate::service::Filter;
use crate::{balance, count, forward};

/// Forwards a plain packet, or leaves it to the gateway's kernel if it is for no service. `None` if
/// that takes more than is done here.
#[inline(always)]
pub fn serve(frame: &mut Frame<'_>, packet: &Packet) -> Option<Result<Verdict, DropReason>> {
    let not_ours = Some(Ok(Verdict::Pass(Pass::NotOurs)));
    let Some(filter) = Filter::of(packet) else {
        return not_ours;
    };
    // Here and not where it is used: from now on neither source nor ports need to be kept, for which
    // there would not be stack enough.
    let flow = black_box(flow::hash(packet, true));
    let Some(service) = filter.service(packet) else {
        return not_ours;
    };
    if service.detours != 0 {
        return None;
    }
    let (id, backend) = balance::settled(packet, service, flow)?;
    let sent = forward::straight_to(frame, packet, service, flow, backend)?;
    Some(sent.and_then(|verdict| {
        forward::redirect(verdict)?;
        count::forwarded(service, id, true, packet);
        Ok(verdict)
    }))
}
