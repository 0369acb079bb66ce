//! A pool as the data plane sees it: map `POOLS`.

/// Index of a pool in `POOLS` and `TABLES`.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PoolId(pub u32);

/// What to do with a packet of a service whose pool has no backend left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum OnEmpty {
    /// Answer TCP with a reset, UDP with ICMP "port unreachable".
    Reset = 0,
    /// Drop and count.
    Drop = 1,
    /// Leave it to the gateway's own kernel.
    Pass = 2,
}

/// What becomes of the flows of a backend that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum OnBackendLoss {
    /// Reset them, so that clients reconnect at once.
    Reset = 0,
    /// Let them go on at the next rung.
    Migrate = 1,
}

/// When flows are recorded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Tracking {
    /// While their slot is unstable.
    Auto = 0,
    /// Always.
    Always = 1,
    /// Never.
    Never = 2,
}

/// Bytes of a pool's name that the map keeps; a name in the configuration is at most one shorter.
pub const NAME_BYTES: usize = 64;

/// One element of `POOLS`. The fast path does not read it: what a forwarded packet needs stands
/// in its `Service`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    /// Slots of its table; fixed for as long as the id is in use. 0 is an id that nobody uses.
    pub slots: u32,
    /// [`OnEmpty`] as a number.
    pub on_empty: u8,
    /// [`OnBackendLoss`] as a number.
    pub on_backend_loss: u8,
    /// [`Tracking`] as a number.
    pub tracking: u8,
    /// Always zero.
    pub pad: u8,
    /// The configuration's name, padded with zeros: how an agent that starts knows which pool this is.
    pub name: [u8; NAME_BYTES],
}

impl Pool {
    /// An id that nobody uses.
    pub const FREE: Self = Self {
        slots: 0,
        on_empty: OnEmpty::Reset as u8,
        on_backend_loss: OnBackendLoss::Reset as u8,
        tracking: Tracking::Auto as u8,
        pad: 0,
        name: [0; NAME_BYTES],
    };

    /// The name as text; `None` if another program wrote the map and it is not UTF-8.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let end = self
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(NAME_BYTES);
        core::str::from_utf8(&self.name[..end]).ok()
    }
}

const _: () = assert!(size_of::<Pool>() == 72);
