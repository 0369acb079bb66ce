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
mod global;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod reading;
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
    use lb_common::packet::{self, Carried, Packet, Transport, plain};
    use lb_common::service::detour;
    use lb_common::verdict::{DropReason, Verdict};

    use crate::balance::{self, Choice};
    use crate::cursor::Frame;
    use crate::forward::Sent;
    use crate::reading;
    use crate::service::{self, Found};
    use crate::{count, forward, maps, reply};

    /// The program. Its name is `lb_common::maps::PROGRAM`.
    ///
    /// The pipeline stands here once and in the program three times, each in a function of its own:
    /// they would share a stack, and one function's would have to hold what all of them need. In the
    /// copies for plain packets the compiler knows the family and every offset, and what depends on
    /// them is decided before any packet comes.
    #[xdp(frags)]
    pub fn lb_gateway(ctx: XdpContext) -> u32 {
        let mut frame = Frame::new(&ctx);
        let action = match packet::carried(&frame) {
            Carried::Ipv4 => plain_v4(frame.lend()),
            Carried::Ipv6 => plain_v6(frame.lend()),
            Carried::Tagged => NOT_PLAIN,
            Carried::Other => return action(&frame, Ok(Verdict::Pass(Pass::NotOurs))),
        };
        if action != NOT_PLAIN {
            return action;
        }
        odd(frame)
    }

    /// What a function for plain packets gives back for one that is not: no action of XDP's.
    const NOT_PLAIN: u32 = u32::MAX;

    #[inline(never)]
    fn plain_v4(mut frame: Frame<'_>) -> u32 {
        match plain::ipv4(&frame) {
            Some(mut packet) => {
                let outcome = serve(&mut frame, &mut packet);
                action(&frame, outcome)
            }
            None => NOT_PLAIN,
        }
    }

    #[inline(never)]
    fn plain_v6(mut frame: Frame<'_>) -> u32 {
        match plain::ipv6(&frame) {
            Some(mut packet) => {
                let outcome = serve(&mut frame, &mut packet);
                action(&frame, outcome)
            }
            None => NOT_PLAIN,
        }
    }

    /// For what is not plain: VLAN tags, IP options, extension headers, fragments, ICMP.
    #[inline(never)]
    fn odd(mut frame: Frame<'_>) -> u32 {
        let outcome = match reading::packet(&mut frame) {
            Some(packet) => serve(&mut frame, packet),
            None => Ok(Verdict::Pass(Pass::NotOurs)),
        };
        action(&frame, outcome)
    }

    /// What XDP calls a verdict.
    #[inline(always)]
    fn action(frame: &Frame<'_>, outcome: Result<Verdict, DropReason>) -> u32 {
        match outcome {
            Ok(Verdict::Pass(why)) => {
                count::pass(why);
                xdp_action::XDP_PASS
            }
            Ok(Verdict::Transmit) => {
                aya_log_ebpf::debug!(frame, "sent out of the interface that it came in by");
                xdp_action::XDP_TX
            }
            Ok(Verdict::Redirect(port)) => {
                aya_log_ebpf::debug!(frame, "sent out of port {}", port);
                xdp_action::XDP_REDIRECT
            }
            Err(reason) => {
                count::drop(reason);
                aya_log_ebpf::debug!(frame, "dropped: reason {}", reason as u32);
                xdp_action::XDP_DROP
            }
        }
    }

    #[inline(always)]
    fn serve(frame: &mut Frame<'_>, packet: &mut Packet) -> Result<Verdict, DropReason> {
        let service = match service::find(packet) {
            Found::Service(service) => service,
            Found::Vip => return vip(frame, packet),
            Found::Nothing => return Ok(Verdict::Pass(Pass::NotOurs)),
        };
        if service.detours & detour::FRAGMENTS != 0 {
            packet.ports = [0; 4];
        } else if packet.is_fragment {
            return Err(DropReason::Fragment);
        }
        let flow = flow::hash(packet);
        let choice = match packet.transport {
            Transport::Error => balance::choose_for_error(packet, service, flow)?,
            _ => balance::choose(frame, packet, service, flow)?,
        };
        match choice {
            Choice::Backend {
                id,
                is_home,
                backend,
            } => {
                let verdict = match forward::to(frame, packet, service, flow, backend)? {
                    Sent::Forwarded(verdict) => verdict,
                    Sent::Answered => return Ok(Verdict::Transmit),
                };
                if let Verdict::Redirect(port) = verdict {
                    maps::redirect(port)?;
                }
                count::forwarded(service, id, is_home, packet);
                Ok(verdict)
            }
            Choice::Lost => reply::backend_lost(frame, packet),
            Choice::Empty => reply::on_empty(frame, packet, service),
        }
    }

    /// A packet for a VIP as such: an echo request or a fragment without ports.
    #[inline(always)]
    fn vip(frame: &mut Frame<'_>, packet: &Packet) -> Result<Verdict, DropReason> {
        match packet.transport {
            Transport::EchoRequest if !packet.is_fragment => reply::echo(frame),
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
