//! The only raw packet pointers of the program.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::packet::Cursor;

/// The frame that the program was called with.
///
/// Moving its head or tail makes every reference into it invalid for the verifier; the methods
/// that move them say so, and the references that they hand out do not outlive a `&mut`.
pub struct Frame<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Frame<'a> {
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Index of the interface that the frame came in by.
    #[inline(always)]
    pub fn ingress_interface(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.ctx.ctx).ingress_ifindex }
    }

    /// Applies `write` to the `N` bytes at `offset`; `None` if the frame ends before.
    #[inline(always)]
    pub fn write<const N: usize>(
        &self,
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
    pub fn grow_head(&self, bytes: i32) -> Option<()> {
        // SAFETY: the context is the one that the kernel handed to the program.
        let result = unsafe { bpf_xdp_adjust_head(self.ctx.as_ptr().cast(), -bytes) };
        (result == 0).then_some(())
    }

    /// Makes the frame `bytes` longer at its end, shorter if negative; as [`Self::grow_head`].
    #[inline(always)]
    pub fn grow_tail(&self, bytes: i32) -> Option<()> {
        // SAFETY: the context is the one that the kernel handed to the program.
        let result = unsafe { bpf_xdp_adjust_tail(self.ctx.as_ptr().cast(), bytes) };
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn pointer<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        let start = self.ctx.data() + offset;
        if start + N > self.ctx.data_end() {
            return None;
        }
        Some(start as *mut [u8; N])
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
        self.ctx.data_end() - self.ctx.data()
    }
}
