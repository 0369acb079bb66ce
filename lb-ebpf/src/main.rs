//! The XDP gateway program: from a frame to a verdict.
//!
//! ```text
//! entry → parse → service → slot → rung → (flow maps, in unstable slots) → forward → verdict
//! ```
//!
//! Each stage is a file; [`gateway`] is the whole pipeline. What can be decided without the
//! kernel is decided in lb-common, where host tests reach it.
//!
//! Under a host target this is an empty program, so that workspace-wide commands work.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod balance;
#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod cursor;
#[cfg(target_arch = "bpf")]
mod event;
#[cfg(target_arch = "bpf")]
mod flow;
#[cfg(target_arch = "bpf")]
mod forward;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod reply;
#[cfg(target_arch = "bpf")]
mod service;
#[cfg(target_arch = "bpf")]
mod suspicion;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use lb_common::counters::Pass;
    use lb_common::flow;
    use lb_common::packet::{self, Family, Packet, Transport};
    use lb_common::verdict::{DropReason, Verdict};

    use crate::balance::{self, Choice};
    use crate::cursor::Frame;
    use crate::service::{self, Found};
    use crate::{count, forward, maps, reply};

    /// The program. Its name is `lb_common::maps::PROGRAM`.
    #[xdp]
    pub fn lb_gateway(ctx: XdpContext) -> u32 {
        match gateway(&mut Frame::new(&ctx)) {
            Ok(Verdict::Pass(why)) => {
                count::pass(why);
                xdp_action::XDP_PASS
            }
            Ok(Verdict::Transmit) => {
                aya_log_ebpf::debug!(&ctx, "sent out of the interface that it came in by");
                xdp_action::XDP_TX
            }
            Ok(Verdict::Redirect(port)) => {
                aya_log_ebpf::debug!(&ctx, "sent out of port {}", port);
                xdp_action::XDP_REDIRECT
            }
            Err(reason) => {
                count::drop(reason);
                aya_log_ebpf::debug!(&ctx, "dropped: reason {}", reason as u32);
                xdp_action::XDP_DROP
            }
        }
    }

    /// The pipeline stands here once and in the program twice: in each copy the compiler knows the
    /// family, and what depends on it is decided before any packet comes.
    #[inline(always)]
    fn gateway(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
        match packet::family(&*frame) {
            Some(Family::V4) => {
                let packet = packet::parse_ipv4(&*frame);
                serve(frame, packet)
            }
            Some(Family::V6) => {
                let packet = packet::parse_ipv6(&*frame);
                serve(frame, packet)
            }
            None => Ok(Verdict::Pass(Pass::NotOurs)),
        }
    }

    #[inline(always)]
    fn serve(frame: &mut Frame<'_>, packet: Option<Packet>) -> Result<Verdict, DropReason> {
        let Some(packet) = packet else {
            return Ok(Verdict::Pass(Pass::NotOurs));
        };
        let service = match service::find(&packet) {
            Found::Service(service) => service,
            Found::Vip => return vip(frame, &packet),
            Found::Nothing => return Ok(Verdict::Pass(Pass::NotOurs)),
        };
        if packet.is_fragment {
            return Err(DropReason::Fragment);
        }
        let flow = flow::hash(&packet);
        match balance::choose(frame, &packet, service, flow)? {
            Choice::Backend {
                id,
                is_home,
                backend,
            } => {
                let verdict = forward::to(frame, &packet, flow, backend)?;
                if let Verdict::Redirect(port) = verdict {
                    maps::redirect(port)?;
                }
                count::forwarded(service, id, is_home, &packet);
                Ok(verdict)
            }
            Choice::Lost => {
                maps::keep_packet(&packet)?;
                reply::backend_lost(frame)
            }
            Choice::Empty => {
                maps::keep_packet(&packet)?;
                reply::on_empty(frame, service)
            }
        }
    }

    /// A packet for a VIP as such: an echo request or a fragment without ports.
    #[inline(always)]
    fn vip(frame: &mut Frame<'_>, packet: &Packet) -> Result<Verdict, DropReason> {
        match packet.transport {
            Transport::EchoRequest if !packet.is_fragment => {
                maps::keep_packet(packet)?;
                reply::echo(frame)
            }
            _ => Err(DropReason::Fragment),
        }
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics: the verifier would refuse the loop that this is.
    loop {}
}

/// The licence that the kernel asks for before it lets a program call its helpers.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
