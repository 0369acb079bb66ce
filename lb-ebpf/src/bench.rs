//! For `lbt-bench gateway`: the wrapper that times a program, and the floor to compare it with.
//!
//! BPF_PROG_TEST_RUN does not restore the packet between repetitions, and a program that
//! encapsulates would be timed on its own output. So the kernel repeats the wrapper: it takes off
//! what the last call put in front, makes the packet another flow's, and tail-calls the program
//! under test. Its own cost is that of the same with a program that returns at once.
//!
//! For `--live` the same frames go out of a device, to another that runs the program under test, and
//! what that sends back is counted.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[expect(dead_code, reason = "the gateway uses more of it")]
#[path = "cursor.rs"]
mod cursor;
#[cfg(target_arch = "bpf")]
#[path = "bench/floor.rs"]
mod floor;
/// What `cursor` wants of the gateway's maps; nothing here makes use of it.
#[cfg(target_arch = "bpf")]
mod maps {
    pub fn forgotten(number: u64) -> u64 {
        number
    }
}
#[cfg(target_arch = "bpf")]
#[path = "bench/rotation.rs"]
mod rotation;

#[cfg(target_arch = "bpf")]
mod wrapper {
    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
    use aya_ebpf::helpers::bpf_redirect;
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use lb_common::packet::Cursor as _;

    use crate::cursor::Frame;
    use crate::rotation::{Rotation, VIPS};

    #[btf_map]
    static ROTATION: Array<Rotation, 1> = Array::new();
    /// The program under test.
    #[btf_map]
    static PROGRAM: ProgramArray<1> = ProgramArray::new();
    /// Frames that came back.
    #[btf_map]
    static RETURNED: PerCpuArray<u64, 1> = PerCpuArray::new();

    #[xdp(frags)]
    pub fn lb_bench_v4(ctx: XdpContext) -> u32 {
        match turn(&mut Frame::new(&ctx), rewrite_v4) {
            Some(()) => call(&ctx),
            None => xdp_action::XDP_ABORTED,
        }
    }

    #[xdp(frags)]
    pub fn lb_bench_v6(ctx: XdpContext) -> u32 {
        match turn(&mut Frame::new(&ctx), rewrite_v6) {
            Some(()) => call(&ctx),
            None => xdp_action::XDP_ABORTED,
        }
    }

    /// The program under test when the wrapper itself is timed.
    #[xdp(frags)]
    pub fn lb_bench_nothing(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Sends the next flow's frame.
    #[xdp]
    pub fn lb_bench_send(ctx: XdpContext) -> u32 {
        match turn(&mut Frame::new(&ctx), rewrite_v4).and_then(|()| ROTATION.get(0)) {
            // SAFETY: no pointer is passed.
            Some(rotation) => unsafe { bpf_redirect(rotation.device, 0) as u32 },
            None => xdp_action::XDP_ABORTED,
        }
    }

    /// Counts what comes back, and ends it.
    #[xdp]
    pub fn lb_bench_count(_: XdpContext) -> u32 {
        if let Some(returned) = RETURNED.get_ptr_mut(0) {
            // SAFETY: an element of a per-CPU array, and programs do not interrupt one another.
            unsafe { *returned += 1 };
        }
        xdp_action::XDP_DROP
    }

    #[inline(always)]
    fn call(ctx: &XdpContext) -> u32 {
        // SAFETY: nothing here needs to be dropped; the call does not return.
        unsafe { PROGRAM.tail_call(ctx, 0) };
        xdp_action::XDP_ABORTED
    }

    #[inline(always)]
    fn turn(
        frame: &mut Frame<'_>,
        rewrite: impl FnOnce(&mut Frame<'_>, &Rotation, u32) -> Option<()>,
    ) -> Option<()> {
        let rotation = ROTATION.get_ptr_mut(0)?;
        // SAFETY: an element of the map; one call at a time reads and writes it.
        let rotation = unsafe { &mut *rotation };
        let flow = rotation.next;
        rotation.next = if flow + 1 < rotation.flows {
            flow + 1
        } else {
            0
        };
        // Also where nothing was put in front: the call costs the same for every program.
        // Hidden from the compiler for the reason that stands in `Frame::resize`.
        let length = core::hint::black_box(frame.len());
        frame.grow_head(rotation.length as i32 - length as i32)?;
        rewrite(frame, rotation, flow)
    }

    // What is written is written in words that cover what a program may read at once: a load that
    // straddles a store of a moment ago waits for it, and a packet from a network card has none.

    #[inline(always)]
    fn rewrite_v4(frame: &mut Frame<'_>, rotation: &Rotation, flow: u32) -> Option<()> {
        let addresses = rotation.source ^ u64::from(flow.to_be()) ^ vip(flow);
        frame.write::<38>(0, |bytes| {
            ethernet(bytes, [0x08, 0x00]);
            bytes[26..34].copy_from_slice(&addresses.to_ne_bytes());
            bytes[34..38].copy_from_slice(&ports(rotation, flow));
        })
    }

    #[inline(always)]
    fn rewrite_v6(frame: &mut Frame<'_>, rotation: &Rotation, flow: u32) -> Option<()> {
        let source = rotation.source ^ u64::from(flow.to_be()) << 32;
        let destination = rotation.destination ^ vip(flow);
        frame.write::<58>(0, |bytes| {
            ethernet(bytes, [0x86, 0xdd]);
            bytes[30..38].copy_from_slice(&source.to_ne_bytes());
            bytes[46..54].copy_from_slice(&destination.to_ne_bytes());
            bytes[54..58].copy_from_slice(&ports(rotation, flow));
        })
    }

    #[inline(always)]
    fn ethernet<const N: usize>(bytes: &mut [u8; N], ethertype: [u8; 2]) {
        bytes[..8].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0]);
        bytes[8..12].copy_from_slice(&[0, 0, 0, 1]);
        bytes[12..14].copy_from_slice(&ethertype);
    }

    /// The bits of the VIP's last byte, which lies highest in its word.
    #[inline(always)]
    fn vip(flow: u32) -> u64 {
        u64::from(flow % VIPS) << 56
    }

    /// The source port, which lies in the lower half of the word, varies with the flow.
    #[inline(always)]
    fn ports(rotation: &Rotation, flow: u32) -> [u8; 4] {
        (rotation.ports ^ flow.wrapping_mul(0x9e37_79b1) >> 16).to_ne_bytes()
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence that the kernel asks for before it lets a program call its helpers.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
