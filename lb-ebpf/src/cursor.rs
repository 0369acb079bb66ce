//! The only raw packet pointers of the program.

use core::ffi::c_void;
use core::hint::black_box;
use core::marker::PhantomData;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use lb_common::packet::Cursor;

use crate::maps;

/// The frame that the program was called with.
///
/// Moving its head or tail makes every reference into it invalid for the verifier; the methods
/// that move them say so, and the references that they hand out do not outlive a `&mut`.
pub struct Frame<'a> {
    ctx: *mut xdp_md,
    context: PhantomData<&'a XdpContext>,
}

impl<'a> Frame<'a> {
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx: ctx.as_ptr().cast(),
            context: PhantomData,
        }
    }

    /// The frame of a context that the kernel handed to the program.
    #[inline(always)]
    pub fn of(ctx: *mut xdp_md) -> Self {
        Self {
            ctx,
            context: PhantomData,
        }
    }

    /// What the kernel handed to the program, for a global function. What was read from the frame
    /// before is stale when it returns.
    #[inline(always)]
    pub fn context(&mut self) -> *mut xdp_md {
        self.ctx
    }

    /// The same frame, to be handed by value to a function that is not inlined: what is handed by
    /// reference has to live in memory for the caller too.
    #[inline(always)]
    pub fn lend(&mut self) -> Frame<'_> {
        Frame {
            ctx: self.ctx,
            context: PhantomData,
        }
    }

    /// Index of the interface that the frame came in by.
    #[inline(always)]
    pub fn ingress_interface(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// Applies `write` to the `N` bytes at `offset`; `None` if the frame ends before.
    #[inline(always)]
    pub fn write<const N: usize>(
        &mut self,
        offset: usize,
        write: impl FnOnce(&mut [u8; N]),
    ) -> Option<()> {
        let bytes = self.pointer::<N>(offset)?;
        // SAFETY: the bytes lie inside the frame, checked just above; `write` gets the only
        // reference to them for as long as it runs.
        write(unsafe { &mut *bytes });
        Some(())
    }

    /// Makes room for `bytes` more bytes in front, or gives that many back if negative. `None` if
    /// the driver left no such room. Everything read from the frame before is stale afterwards.
    #[inline(always)]
    pub fn grow_head(&mut self, bytes: i32) -> Option<()> {
        // SAFETY: the context is the one that the kernel handed to the program.
        let result = unsafe { bpf_xdp_adjust_head(self.ctx, -bytes) };
        (result == 0).then_some(())
    }

    /// Makes the frame `length` bytes long, at its end; as [`Self::grow_head`].
    #[inline(always)]
    pub fn resize(&mut self, length: usize) -> Option<()> {
        let present = self.whole_len();
        // SAFETY: the context is the one that the kernel handed to the program.
        let result = unsafe { bpf_xdp_adjust_tail(self.ctx, length as i32 - present as i32) };
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn pointer<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        let (start, end) = self.ends();
        // Of one byte the compiler makes "starts at the end or behind", from which the verifier learns
        // nothing ("R3 offset is outside of the packet", LLVM 22, Linux 6.18).
        let after = match N {
            1 => black_box(start + offset + N),
            _ => start + offset + N,
        };
        if after > end {
            return None;
        }
        Some((start + offset) as *mut [u8; N])
    }

    /// Where the frame starts and ends.
    ///
    /// Read anew for each access, and compared anew. What the compiler remembers of an earlier
    /// comparison, or proves from the packet's own lengths, the verifier does not know of the
    /// pointer at hand ("invalid access to packet", LLVM 22, Linux 6.18).
    #[inline(always)]
    fn ends(&self) -> (usize, usize) {
        // SAFETY: the kernel hands the program a valid context.
        let (start, end) = unsafe {
            (
                (&raw const (*self.ctx).data).read_volatile(),
                (&raw const (*self.ctx).data_end).read_volatile(),
            )
        };
        (start as usize, end as usize)
    }
}

/// For log records, which the kernel's ring wants a context for.
impl EbpfContext for Frame<'_> {
    fn as_ptr(&self) -> *mut c_void {
        self.ctx.cast()
    }
}

impl Cursor for Frame<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let bytes = self.pointer::<N>(offset)?;
        // SAFETY: the bytes lie inside the frame, checked just above.
        Some(unsafe { &*bytes })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let (start, end) = self.ends();
        end - start
    }

    #[inline(always)]
    fn forgotten(&self, number: usize) -> usize {
        maps::forgotten(number as u64) as usize
    }

    #[inline(always)]
    fn whole_len(&self) -> usize {
        // SAFETY: the context is the one that the kernel handed to the program.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as usize }
    }
}
