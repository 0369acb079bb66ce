//! The XDP gateway program: from a frame to a verdict.
//!
//! ```text
//! entry → parse → service → slot → rung → (flow maps, in unstable slots) → forward → verdict
//! ```
//!
//! Each stage is a file; `serve` is the whole pipeline, and `direct` the way through it that almost
//! every packet takes. What can be decided without the
//! kernel is decided in lb-common, where host tests reach it.
//!
//! Under a host target this is an empty program, so that workspace-wide commands work.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod balance;
#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod cursor;
#[cfg(target_arch = "bpf")]
mod direct;
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
    use aya_ebpf::bindings::{xdp_action, xdp_md};
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use lb_common::counters::Pass;
    use lb_common::flow;
    use lb_common::packet::{self, Carried, Packet, Transport, plain};
    use lb_common::service::detour;
    use lb_common::verdict::{DropReason, Verdict};

    use crate::balance::{self, Choice};
    use crate::cursor::Frame;
    use crate::forward::Way;
    use crate::reading;
    use crate::service::{self, Found};
    use crate::{count, direct, forward, reply};

    /// The program. Its name is `lb_common::maps::PROGRAM`.
    ///
    /// Almost every packet is done with in `direct`, which is compiled into this function, once for
    /// each family: nothing is called, and what depends on the family is decided before any packet
    /// comes. It leaves alone what it does not know, and that goes through the whole pipeline.
    #[xdp(frags)]
    pub fn lb_gateway(ctx: XdpContext) -> u32 {
        let mut frame = Frame::new(&ctx);
        let outcome = match packet::carried(&frame) {
            Carried::Ipv4 => plain::ipv4(&frame).and_then(|it| direct::serve(&mut frame, &it)),
            Carried::Ipv6 => plain::ipv6(&frame).and_then(|it| direct::serve(&mut frame, &it)),
            Carried::Tagged => None,
            Carried::Other => Some(Ok(Verdict::Pass(Pass::NotOurs))),
        };
        match outcome {
            Some(outcome) => action(&frame, outcome),
            None if !reading::read(&mut frame) => action(&frame, Ok(Verdict::Pass(Pass::NotOurs))),
            None => lb_pipeline(frame.context()),
        }
    }

    /// The whole pipeline, for the packet that was read: also one with VLAN tags, IP options, extension
    /// headers, a fragment, ICMP. Global, so that the verifier follows it once, and by itself.
    #[inline(never)]
    #[unsafe(no_mangle)]
    pub extern "C" fn lb_pipeline(context: *mut xdp_md) -> u32 {
        let mut frame = Frame::of(context);
        let outcome = reading::packet().and_then(|packet| serve(&mut frame, packet));
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
    fn serve(frame: &mut Frame<'_>, packet: &Packet) -> Result<Verdict, DropReason> {
        let service = match service::find(packet) {
            Found::Service(service) => service,
            Found::Vip => return vip(frame, packet),
            Found::Nothing => return Ok(Verdict::Pass(Pass::NotOurs)),
        };
        let has_ports = service.detours & detour::FRAGMENTS == 0;
        if has_ports && packet.is_fragment {
            return Err(DropReason::Fragment);
        }
        let flow = flow::hash(packet, has_ports);
        let choice = balance::choose(frame, packet, service, flow)?;
        // What was read of it before is not kept meanwhile: there would not be stack enough.
        let packet = reading::packet()?;
        match choice {
            Choice::Backend {
                id,
                is_home,
                backend,
            } => {
                let way = Way::to(backend)?;
                if !way.fits(packet) {
                    return reply::too_big(frame, way.room()?);
                }
                let verdict = forward::to(frame, packet, service, flow, backend, &way)?;
                forward::redirect(verdict)?;
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
