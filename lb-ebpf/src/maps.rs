//! Every map of the program, and the accessors that hide their raw pointers.

use core::arch::asm;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use lb_common::address::Address;
use lb_common::backend::{Backend, BackendId, BackendState, NextHop};
use lb_common::counters::{FlowCount, Pass, Reply, Traffic};
use lb_common::event::{Event, FINGERPRINTS as MARKS, Suspicion};
use lb_common::flow::{FlowEntry, FlowKey};
use lb_common::ladder::{Previous, Slot};
use lb_common::maps::{
    BACKENDS_MAX, EVENTS_BYTES, FLOWS_DEFAULT, FLOWS_NEW_DEFAULT, MMAPABLE, POOLS_MAX, PORTS_MAX,
    SERVICES_MAX, SLOTS_DEFAULT, TABLE_FLAGS,
};
use lb_common::packet::Packet;
use lb_common::pool::Pool;
use lb_common::port::Port;
use lb_common::service::{
    SERVICE_CELLS as CELLS, Service, ServiceCell, ServiceKey, VIP_FILTER_ENTRIES,
    service_cell_index,
};
use lb_common::settings::Settings;
use lb_common::verdict::DropReason;

use crate::flow::Query;

type Table = Array<Slot, { 2 * SLOTS_DEFAULT as usize }, { TABLE_FLAGS as usize }>;

#[btf_map]
static SERVICES: HashMap<ServiceKey, Service, { SERVICES_MAX as usize }> = HashMap::new();
#[btf_map]
static SERVICE_CELLS: Array<ServiceCell, { CELLS as usize }> = Array::new();
#[btf_map]
static VIPS: Array<u32, { VIP_FILTER_ENTRIES as usize }> = Array::new();
#[btf_map]
static POOLS: Array<Pool, { POOLS_MAX as usize }> = Array::new();
#[btf_map]
static TABLES: ArrayOfMaps<Table, { POOLS_MAX as usize }> = ArrayOfMaps::new();
#[btf_map]
static BACKENDS: Array<Backend, { BACKENDS_MAX as usize }, { MMAPABLE as usize }> = Array::new();
#[btf_map]
static PORTS: Array<Port, { PORTS_MAX as usize }> = Array::new();
#[btf_map]
static DEVICES: DevMap<{ PORTS_MAX as usize }> = DevMap::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static SERVICE_TRAFFIC: PerCpuArray<Traffic, { SERVICES_MAX as usize }> = PerCpuArray::new();
#[btf_map]
static BACKEND_TRAFFIC: PerCpuArray<Traffic, { BACKENDS_MAX as usize }> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, { DropReason::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static REPLIES: PerCpuArray<u64, { Reply::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static PASSES: PerCpuArray<u64, { Pass::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static FLOWS: HashMap<FlowKey, FlowEntry, { FLOWS_DEFAULT as usize }> = HashMap::new();
#[btf_map]
static FLOWS_NEW: LruHashMap<FlowKey, FlowEntry, { FLOWS_NEW_DEFAULT as usize }> =
    LruHashMap::new();
#[btf_map]
static FLOW_COUNTS: PerCpuArray<u64, { FlowCount::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();
#[btf_map]
static SUSPICIONS: PerCpuArray<Suspicion, { BACKENDS_MAX as usize }> = PerCpuArray::new();
/// One fingerprint of a SYN each; see `suspicion`. Of all CPUs: a SYN may come again on another.
#[btf_map]
static FINGERPRINTS: Array<u64, { MARKS as usize }> = Array::new();
/// The tick in which the agent was last told that a pool is empty.
#[btf_map]
static TOLD_EMPTY: PerCpuArray<u32, { POOLS_MAX as usize }> = PerCpuArray::new();
#[btf_map]
static CLOCK: Array<u64, 2, { MMAPABLE as usize }> = Array::new();
/// What `flow` is asked about the packet at hand.
#[btf_map]
static QUERY: PerCpuArray<Query, 1> = PerCpuArray::new();
/// A word to be written and read again.
#[btf_map]
static FORGOTTEN: PerCpuArray<u64, 1> = PerCpuArray::new();
/// The packet at hand; see `reading`.
#[btf_map]
static PACKET: PerCpuArray<Packet, 1> = PerCpuArray::new();
/// One word per CPU for `reply`'s rate limit: the tick in the upper half, its count in the lower.
#[btf_map]
static UNREACHABLES: PerCpuArray<u64, 1> = PerCpuArray::new();

#[inline(always)]
pub fn vip_filter(index: u32) -> u32 {
    VIPS.get(index).copied().unwrap_or(0)
}

/// The service with this key: from its cell, or else from the hash table.
#[inline(always)]
pub fn service(key: ServiceKey) -> Option<&'static Service> {
    if let Some(cell) = SERVICE_CELLS.get(service_cell_index(&key))
        && cell.key.words() == key.words()
    {
        return Some(&cell.service);
    }
    // Aligned, because the key is written in words of eight bytes where the compiler can ("misaligned
    // stack access", LLVM 22, Linux 6.18).
    #[repr(align(8))]
    struct Aligned(ServiceKey);
    // SAFETY: the agent replaces entries and never frees one while its pool is in use; a read
    // that races with a replacement sees the old or the new pool, both of which serve.
    unsafe { SERVICES.get(&Aligned(key).0) }
}

#[inline(always)]
pub fn pool(id: u16) -> Option<&'static Pool> {
    POOLS.get(u32::from(id))
}

#[inline(always)]
pub fn slot(pool: u16, index: u32) -> Option<Slot> {
    TABLES.get_value(u32::from(pool), &index).copied()
}

/// An element of `BACKENDS`: two words that the agent stores from another CPU at any time, and
/// fields that stay for as long as the id is in use.
#[derive(Clone, Copy)]
pub struct LiveBackend(*const Backend);

impl LiveBackend {
    /// Its state at this moment.
    #[inline(always)]
    pub fn state(self) -> BackendState {
        // SAFETY: the element lies in the map, and the word is aligned. Volatile: it must be read
        // where it stands, once, and not be kept.
        unsafe { (&raw const (*self.0).state).read_volatile() }
    }

    /// How often its id was given away.
    #[inline(always)]
    pub fn generation(self) -> u32 {
        // SAFETY: the element lies in the map, and the word is aligned.
        unsafe { (&raw const (*self.0).generation).read_volatile() }
    }

    /// Sets `TRACK` in the settled state, and leaves every other state alone, also one that an agent
    /// stores at this moment. Only for when no agent is alive to do it.
    #[inline(always)]
    pub fn track(self) {
        let settled = BackendState::UP.0;
        let tracked = settled | BackendState::TRACK;
        // SAFETY: the element lies in the map, and the word is aligned. One instruction compares and
        // stores. (`core` has no atomics of 32 bits for this target.)
        unsafe {
            asm!(
                "w0 = cmpxchg32_32({state} + 0, w0, {tracked})",
                state = in(reg) &raw const (*self.0).state,
                tracked = in(wreg) tracked,
                inout("w0") settled => _,
                options(nostack),
            );
        }
    }

    /// Its next hop at this moment.
    #[inline(always)]
    pub fn next_hop(self) -> NextHop {
        // SAFETY: as in `state`.
        unsafe { (&raw const (*self.0).next_hop).read_volatile() }
    }

    /// Its own address.
    #[inline(always)]
    pub fn address(self) -> &'static Address {
        // SAFETY: the element lies in the map, and nobody writes the field while the id is in use.
        unsafe { &(*self.0).address }
    }

    /// An `Encapsulation` as a number.
    #[inline(always)]
    pub fn encapsulation(self) -> u8 {
        // SAFETY: as in `address`.
        unsafe { (*self.0).encapsulation }
    }
}

/// A backend's element; `None` for an id that no backend can have.
#[inline(always)]
pub fn backend(id: BackendId) -> Option<LiveBackend> {
    BACKENDS.get_ptr(u32::from(id.0)).map(LiveBackend)
}

/// The state of a backend at this moment; `DOWN` for an id that no backend can have.
#[inline(always)]
pub fn backend_state(id: BackendId) -> BackendState {
    backend(id).map_or(BackendState::DOWN, LiveBackend::state)
}

#[inline(always)]
pub fn port(index: u16) -> Option<&'static Port> {
    PORTS.get(u32::from(index))
}

/// Has the kernel send the frame out of `port` when the program returns `XDP_REDIRECT`.
#[inline(always)]
pub fn redirect(port: u16) -> Result<(), DropReason> {
    match DEVICES.redirect(u32::from(port), u64::from(xdp_action::XDP_DROP)) {
        Ok(_) => Ok(()),
        Err(_) => Err(DropReason::NoDevice),
    }
}

#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

#[inline(always)]
pub fn service_traffic(index: u32) -> Option<*mut Traffic> {
    SERVICE_TRAFFIC.get_ptr_mut(index)
}

#[inline(always)]
pub fn backend_traffic(id: BackendId) -> Option<*mut Traffic> {
    BACKEND_TRAFFIC.get_ptr_mut(u32::from(id.0))
}

#[inline(always)]
pub fn drop_counter(reason: DropReason) -> Option<*mut u64> {
    DROPS.get_ptr_mut(reason as u32)
}

#[inline(always)]
pub fn reply_counter(reply: Reply) -> Option<*mut u64> {
    REPLIES.get_ptr_mut(reply as u32)
}

#[inline(always)]
pub fn pass_counter(pass: Pass) -> Option<*mut u64> {
    PASSES.get_ptr_mut(pass as u32)
}

#[inline(always)]
pub fn flow_counter(what: FlowCount) -> Option<*mut u64> {
    FLOW_COUNTS.get_ptr_mut(what as u32)
}

/// The previous owners of slot `index` of a table of `slots`.
#[inline(always)]
pub fn previous(pool: u16, slots: u32, index: u32) -> Option<Previous> {
    slot(pool, slots + index).map(|entry| Previous(entry.0))
}

#[inline(always)]
pub fn suspicion(id: BackendId) -> Option<*mut Suspicion> {
    SUSPICIONS.get_ptr_mut(u32::from(id.0))
}

#[inline(always)]
pub fn told_empty(pool: u16) -> Option<*mut u32> {
    TOLD_EMPTY.get_ptr_mut(u32::from(pool))
}

#[inline(always)]
pub fn fingerprint(index: u32) -> Option<*mut u64> {
    FINGERPRINTS.get_ptr_mut(index)
}

/// When the agent last gave a sign of life; 0 for never.
#[inline(always)]
pub fn heartbeat() -> u64 {
    clock_word(0)
}

/// The time that a test has set.
#[inline(always)]
pub fn clock_for_tests() -> u64 {
    clock_word(1)
}

#[inline(always)]
fn clock_word(index: u32) -> u64 {
    match CLOCK.get_ptr(index) {
        // SAFETY: an aligned word of the map, which the agent stores to from another CPU.
        Some(word) => unsafe { word.read_volatile() },
        None => 0,
    }
}

/// Room for one event in the ring; `None` if it is full.
#[inline(always)]
pub fn reserve_event() -> Option<RingBufEntry<Event>> {
    EVENTS.reserve(0)
}

/// One of the two flow maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flows {
    /// `FLOWS`.
    Kept,
    /// `FLOWS_NEW`.
    New,
}

/// A record in a flow map. Other CPUs, and the sweep, may write or delete it at any time; what is
/// read of it was true a moment ago, and that is all that is asked of it.
#[derive(Clone, Copy)]
pub struct LiveEntry(*mut FlowEntry);

impl LiveEntry {
    /// What it says now.
    #[inline(always)]
    pub fn read(self) -> FlowEntry {
        // SAFETY: the kernel keeps the element's memory for as long as the program runs, also when
        // it is deleted meanwhile; its words are aligned.
        unsafe { self.0.read_volatile() }
    }

    /// Writes what changes while a record lives.
    #[inline(always)]
    pub fn touch(self, last: u32, flags: u16) {
        // SAFETY: as in `read`. A store that hits an element which was given to another flow meanwhile
        // sets that one's age and flags for a moment; the packet after sets them right.
        unsafe {
            (&raw mut (*self.0).last).write_volatile(last);
            (&raw mut (*self.0).flags).write_volatile(flags);
        }
    }
}

#[inline(always)]
pub fn flow(map: Flows, key: &FlowKey) -> Option<LiveEntry> {
    match map {
        Flows::Kept => FLOWS.get_ptr_mut(key),
        Flows::New => FLOWS_NEW.get_ptr_mut(key),
    }
    .map(LiveEntry)
}

/// Writes a record; `false` if the map took none.
#[inline(always)]
pub fn insert_flow(map: Flows, key: &FlowKey, entry: &FlowEntry) -> bool {
    match map {
        Flows::Kept => FLOWS.insert(key, entry, 0),
        Flows::New => FLOWS_NEW.insert(key, entry, 0),
    }
    .is_ok()
}

#[inline(always)]
pub fn remove_flow(map: Flows, key: &FlowKey) {
    // An error says that it is gone already.
    let _ = match map {
        Flows::Kept => FLOWS.remove(key),
        Flows::New => FLOWS_NEW.remove(key),
    };
}

#[inline(always)]
pub fn query() -> Option<*mut Query> {
    QUERY.get_ptr_mut(0)
}

#[inline(always)]
pub fn unreachables() -> Option<*mut u64> {
    UNREACHABLES.get_ptr_mut(0)
}

/// The same number, after a way through memory that the verifier does not follow.
#[inline(always)]
pub fn forgotten(number: u64) -> u64 {
    let Some(word) = FORGOTTEN.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: an element of a per-CPU array, which only this CPU writes, and reads at once.
    unsafe {
        word.write_volatile(number);
        word.read_volatile()
    }
}

#[inline(always)]
pub fn packet() -> Option<*mut Packet> {
    PACKET.get_ptr_mut(0)
}
