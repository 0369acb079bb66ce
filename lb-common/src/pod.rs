//! The promise to aya that the types of the maps are plain data: user space only.
#![expect(unsafe_code, reason = "Pod is an unsafe trait")]

use aya::Pod;

macro_rules! plain {
    ($($kind:ty),+ $(,)?) => {
        // SAFETY: each is `repr(C)` or `repr(transparent)` over integers, any bit pattern of which
        // is valid, and its padding is written out as fields, so that no byte is uninitialised.
        $(unsafe impl Pod for $kind {})+
    };
}

plain!(
    crate::address::Address,
    crate::backend::Backend,
    crate::counters::Traffic,
    crate::event::Event,
    crate::event::Suspicion,
    crate::flow::FlowEntry,
    crate::flow::FlowKey,
    crate::ladder::Slot,
    crate::pool::Pool,
    crate::port::Port,
    crate::service::Service,
    crate::service::ServiceCell,
    crate::service::ServiceKey,
    crate::settings::Settings,
);
