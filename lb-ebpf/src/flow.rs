//! Unstable slots: who takes a packet whose slot changed, or whose owner is not plainly up.
//!
//! What is remembered of a flow decides first; what is not remembered belongs to the slot's owner of
//! before, or, where a connection begins, to the one of now. The rules, and what breaks without
//! each, stand in ARCHITECTURE.md under "flows". Called by `balance`, out of line: in a stable slot
//! nothing here runs, and neither flow map is looked into.

use lb_common::backend::{BackendId, BackendState};
use lb_common::counters::FlowCount;
use lb_common::flow::{FIRST_WINDOW, FlowEntry, FlowHash, FlowKey, tick};
use lb_common::ladder::{Owners, Slot, next_new, slot_index};
use lb_common::pool::{OnBackendLoss, Pool};
use lb_common::service::{Service, detour};

use crate::maps::{self, Flows, LiveEntry};
use crate::{clock, count, event, suspicion};

/// What is asked about a packet. It stands in a map, not on the stack, so that the verifier looks at
/// [`choose`] once and not once for every way that leads there.
#[derive(Clone, Copy)]
pub struct Query {
    /// Its flow.
    pub key: FlowKey,
    /// Its flow's hash.
    pub hash: FlowHash,
    /// Its slot, with the flags it had.
    pub slot: Slot,
    /// Its service.
    pub service: Service,
    /// Where the slot stands in the table.
    pub home: u32,
    /// TCP sequence number.
    pub sequence: u32,
    /// [`OPENS`] and so on.
    pub traits: u32,
    /// What the walk over the slot's ladder finds.
    present: Owners,
    /// What it finds in the table of the pool that the service pointed at before.
    before: Owners,
    /// Who takes a SYN that `present.new` left without an answer while there is no agent to find out
    /// why; `NONE` where it need not be known.
    next: BackendId,
}

/// A SYN, or what counts as one.
pub const OPENS: u32 = 1 << 0;
/// A TCP segment with FIN or RST.
pub const CLOSES: u32 = 1 << 1;
/// A TCP segment with RST.
pub const RESETS: u32 = 1 << 2;
/// TCP.
pub const TCP: u32 = 1 << 3;
/// A SYN that came before.
pub const REPEATED: u32 = 1 << 4;
/// An ICMP error about the flow, not a packet of it.
pub const ERROR: u32 = 1 << 5;

impl Query {
    #[inline(always)]
    fn is(&self, what: u32) -> bool {
        self.traits & what != 0
    }
}

/// Who takes the packet. A number, because a program's functions give back no more than that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Taker(u32);

impl Taker {
    /// Its flow's backend was lost, and the flow is to be reset.
    pub const LOST: Self = Self(1 << 16);
    /// Nobody.
    pub const NOBODY: Self = Self(2 << 16);
    /// The maps are not as the agent leaves them.
    pub const BROKEN: Self = Self(3 << 16);

    /// The backend, if it is one.
    #[inline(always)]
    pub fn backend(self) -> Option<BackendId> {
        (self.0 >> 16 == 0).then_some(BackendId(self.0 as u16))
    }

    #[inline(always)]
    fn to(backend: BackendId) -> Self {
        Self(u32::from(backend.0))
    }
}

/// The slot's side of the decision.
struct Slots {
    new: BackendId,
    old: BackendId,
    /// Who was lost before `old`, where that means a reset.
    lost: BackendId,
    /// Whether unrecorded flows are to be recorded.
    records: bool,
}

/// Decides; `ask` writes the question where it stands.
#[inline(always)]
pub fn choose(ask: impl FnOnce(&mut Query)) -> Taker {
    let Some(place) = maps::query() else {
        return Taker::BROKEN;
    };
    // SAFETY: an element of a per-CPU array, and programs do not interrupt one another on a CPU. Any
    // bytes are a query.
    let query = unsafe { &mut *place };
    ask(query);
    look_around(query);
    Taker(lb_choose_by_flow())
}

/// Walks over the ladders before anything is decided, and not where: the deeper the calls, the less
/// stack there is for each.
#[inline(always)]
fn look_around(query: &mut Query) {
    let Service { pool, slots, .. } = query.service;
    query.present = walk(pool, slots, query.home, query.traits);
    query.before = Owners::NOBODY;
    if query.service.detours & detour::PREVIOUS_POOL != 0 {
        let pool = query.service.previous_pool;
        let slots = maps::pool(pool).map_or(0, |pool| pool.slots);
        let home = slot_index(query.hash.slot_bits(), slots);
        query.before = walk(pool, slots, home, query.traits);
    }
    query.next = BackendId::NONE;
    if query.is(REPEATED) && suspicion::is_agent_silent() {
        let but = u32::from(query.present.new.0);
        query.next = BackendId(lb_next_new(u32::from(pool), slots, query.home, but) as u16);
    }
}

/// Who owns a flow's slot and who takes new flows of it, over the ladders from there on.
#[inline(always)]
fn walk(pool: u16, slots: u32, home: u32, traits: u32) -> Owners {
    let packed = lb_walk(u32::from(pool), slots, home, owning(traits));
    Owners {
        new: BackendId(packed as u16),
        old: BackendId((packed >> 16) as u16),
        lost: BackendId((packed >> 32) as u16),
    }
}

/// The bit of a backend that owns unrecorded flows of the packet's protocol.
#[inline(always)]
fn owning(traits: u32) -> u32 {
    if traits & TCP != 0 {
        BackendState::OLD
    } else {
        BackendState::OLD_UDP
    }
}

/// Global for the same reason as [`lb_choose_by_flow`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_walk(pool: u32, slots: u32, home: u32, owns: u32) -> u64 {
    let slot_at = |index| maps::slot(pool as u16, index);
    let found = Owners::walk(home, slots, owns, slot_at, maps::backend_state);
    u64::from(found.new.0) | u64::from(found.old.0) << 16 | u64::from(found.lost.0) << 32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_next_new(pool: u32, slots: u32, home: u32, but: u32) -> u64 {
    let slot_at = |index| maps::slot(pool as u16, index);
    let but = BackendId(but as u16);
    u64::from(next_new(home, slots, but, slot_at, maps::backend_state).0)
}

/// Where a flow's key stands while something is told about it: not on the stack, which is small.
#[inline(always)]
pub fn key_place() -> Option<&'static mut FlowKey> {
    // SAFETY: as in `choose`.
    maps::query().map(|place| unsafe { &mut (*place).key })
}

/// [`choose`], out of line. Global, as the name that stands in the object says: the kernel verifies
/// such a function by itself, and takes its result for any number ("BPF program is too large", Linux
/// 6.18, where it is not).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_choose_by_flow() -> u32 {
    let Some(place) = maps::query() else {
        return Taker::BROKEN.0;
    };
    // SAFETY: as in `choose`, which wrote it.
    let query = unsafe { &*place };
    decide(query, &query.service).0
}

#[inline(always)]
fn decide(query: &Query, service: &Service) -> Taker {
    let Some(pool) = maps::pool(service.pool) else {
        return Taker::BROKEN;
    };
    if service.detours & detour::NEVER != 0 {
        return take_new(query, service, query.present.new);
    }
    let slots = slots(query, service, pool);
    if query.is(ERROR) {
        about(query, &slots)
    } else if query.is(OPENS) {
        opens(query, service, slots)
    } else {
        continues(query, service, &slots, pool)
    }
}

/// Without records: the first that takes new flows.
#[inline(always)]
fn take_new(query: &Query, service: &Service, new: BackendId) -> Taker {
    if new.is_none() {
        return nobody(query, service);
    }
    if query.is(REPEATED) {
        event::repeated(service.pool, new, &query.key);
    }
    Taker::to(new)
}

#[inline(always)]
fn slots(query: &Query, service: &Service, pool: &Pool) -> Slots {
    let present = settled_owners(
        query.present,
        service.pool,
        service.slots,
        query.home,
        query.slot,
        query.traits,
    );
    let (mut old, mut lost) = (present.old, present.lost);
    let changed = changed(query.traits);
    let mut records = query.slot.0 & changed != 0 || service.detours & detour::ALWAYS != 0;
    if service.detours & detour::PREVIOUS_POOL != 0 {
        records = true;
        let before = owners_before(service.previous_pool, query);
        if !before.old.is_none() || !before.lost.is_none() {
            (old, lost) = (before.old, before.lost);
        }
    }
    if !query.is(TCP) || pool.on_backend_loss != OnBackendLoss::Reset as u8 {
        lost = BackendId::NONE;
    }
    Slots {
        new: present.new,
        old,
        lost,
        records: records || present.new != old || !lost.is_none(),
    }
}

/// The owners in the table of the pool that the service pointed at before.
#[inline(always)]
fn owners_before(pool: u16, query: &Query) -> Owners {
    let slots = maps::pool(pool).map_or(0, |pool| pool.slots);
    let home = slot_index(query.hash.slot_bits(), slots);
    match maps::slot(pool, home) {
        Some(slot) => settled_owners(query.before, pool, slots, home, slot, query.traits),
        None => Owners::NOBODY,
    }
}

/// What a walk found, with the owner of before in its place if the slot has changed and it still owns.
#[inline(always)]
fn settled_owners(
    found: Owners,
    pool: u16,
    slots: u32,
    home: u32,
    slot: Slot,
    traits: u32,
) -> Owners {
    if slot.0 & changed(traits) == 0 {
        return found;
    }
    let Some(previous) = maps::previous(pool, slots, home) else {
        return found;
    };
    let previous = if traits & TCP != 0 {
        previous.tcp()
    } else {
        previous.udp()
    };
    if !maps::backend_state(previous).has(owning(traits)) {
        return found;
    }
    Owners {
        new: found.new,
        old: previous,
        lost: BackendId::NONE,
    }
}

/// The slot's flag for the packet's protocol.
#[inline(always)]
fn changed(traits: u32) -> u64 {
    if traits & TCP != 0 {
        Slot::CHANGED_TCP
    } else {
        Slot::CHANGED_UDP
    }
}

/// A record as it was when it was looked up. One that is not there names nobody, and is live for
/// nobody: no field of it is ever undefined ("R4 !read_ok", LLVM 22, Linux 6.18, where an `Option`
/// of it is).
#[derive(Clone, Copy)]
struct Known {
    place: Option<LiveEntry>,
    entry: FlowEntry,
}

impl Known {
    #[inline(always)]
    fn look_up(map: Flows, key: &FlowKey) -> Self {
        let place = maps::flow(map, key);
        let entry = place.map_or(Self::NOTHING, LiveEntry::read);
        Self { place, entry }
    }

    const NOTHING: FlowEntry = FlowEntry {
        generation: 0,
        isn: 0,
        last: 0,
        backend: BackendId::NONE.0,
        flags: 0,
    };

    #[inline(always)]
    fn exists(&self) -> bool {
        self.place.is_some()
    }

    #[inline(always)]
    fn backend(&self) -> BackendId {
        BackendId(self.entry.backend)
    }

    /// Whether the backend that is meant is the one that has the id now, and is in such a state.
    #[inline(always)]
    fn is_live(&self, bit: u32) -> bool {
        maps::backend(self.backend()).is_some_and(|backend| {
            backend.generation() == self.entry.generation && backend.state().has(bit)
        })
    }

    /// Writes the record's age and flags where they differ.
    #[inline(always)]
    fn touch(&self, flags: u16) {
        let last = tick(clock::now());
        if let Some(place) = self.place
            && (self.entry.last != last || self.entry.flags != flags)
        {
            place.touch(last, flags);
        }
    }
}

/// An ICMP error goes where the flow's own packets go. It records nothing: it may be forged, and
/// says nothing of when the flow was last alive.
#[inline(always)]
fn about(query: &Query, slots: &Slots) -> Taker {
    let kept = Known::look_up(Flows::Kept, &query.key);
    let mut record = kept;
    if !kept.exists() || kept.entry.has(FlowEntry::SUPERSEDED) {
        let fresh = Known::look_up(Flows::New, &query.key);
        if fresh.exists() {
            record = fresh;
        }
    }
    if record.is_live(BackendState::ALIVE) {
        return Taker::to(record.backend());
    }
    if slots.old.is_none() || !slots.lost.is_none() {
        return Taker::LOST;
    }
    Taker::to(slots.old)
}

/// A packet that begins a connection. A record that is still good decides, because the packet may
/// be one sent again; otherwise whoever takes new flows has it, and what was remembered of an earlier
/// connection with the same five-tuple must not catch its packets.
#[inline(always)]
fn opens(query: &Query, service: &Service, slots: Slots) -> Taker {
    let Slots {
        mut new,
        mut records,
        ..
    } = slots;
    let fresh = Known::look_up(Flows::New, &query.key);
    if fresh.is_live(BackendState::NEW) {
        return follow_opening(query, service, &fresh);
    }
    let kept = Known::look_up(Flows::Kept, &query.key);
    if !fresh.exists() && kept.is_live(BackendState::NEW) {
        return follow_opening(query, service, &kept);
    }
    if new.is_none() {
        return nobody(query, service);
    }
    if query.is(REPEATED) {
        event::repeated(service.pool, new, &query.key);
        if !query.next.is_none() {
            rescue(query, service, new);
            new = query.next;
            records = true;
        }
    }
    if records || fresh.is_live(BackendState::ALIVE) || kept.is_live(BackendState::ALIVE) {
        supersede(&query.key, &kept, &fresh);
        record(query, new, FlowEntry::OPENED);
    } else {
        if fresh.exists() {
            maps::remove_flow(Flows::New, &query.key);
        }
        if kept.exists() {
            maps::remove_flow(Flows::Kept, &query.key);
        }
    }
    Taker::to(new)
}

/// A SYN whose record stands goes where that says.
#[inline(always)]
fn follow_opening(query: &Query, service: &Service, record: &Known) -> Taker {
    let mut flags = record.entry.flags & !FlowEntry::CLOSING;
    if query.is(TCP) && record.entry.isn != query.sequence {
        flags &= !FlowEntry::OPENED;
    }
    record.touch(flags);
    if query.is(REPEATED) {
        event::repeated(service.pool, record.backend(), &query.key);
    }
    Taker::to(record.backend())
}

/// Notes that a SYN which `silent` left without an answer goes elsewhere.
#[inline(always)]
fn rescue(query: &Query, service: &Service, silent: BackendId) {
    // Or the packets that follow would not ask the flow maps.
    if query.slot.is_settled()
        && let Some(home) = maps::backend(query.slot.rung(0))
    {
        home.track();
    }
    event::rescued(service.pool, silent, &query.key);
}

/// Keeps what is known of the connection of before for packets that do not fit the new one's SYN,
/// which anybody can forge.
#[inline(always)]
fn supersede(key: &FlowKey, kept: &Known, fresh: &Known) {
    if let Some(place) = kept.place {
        if !kept.entry.has(FlowEntry::SUPERSEDED) {
            place.touch(kept.entry.last, kept.entry.flags | FlowEntry::SUPERSEDED);
        }
    } else if !fresh.entry.has(FlowEntry::OPENED) && fresh.is_live(BackendState::ALIVE) {
        let entry = FlowEntry {
            flags: fresh.entry.flags | FlowEntry::SUPERSEDED,
            ..fresh.entry
        };
        if !maps::insert_flow(Flows::Kept, key, &entry) {
            count::flow(FlowCount::Full);
        }
    }
}

/// A packet in the middle of a flow.
#[inline(always)]
fn continues(query: &Query, service: &Service, slots: &Slots, pool: &Pool) -> Taker {
    let kept = Known::look_up(Flows::Kept, &query.key);
    let mut record = kept;
    let mut map = Flows::Kept;
    if !kept.exists() || kept.entry.has(FlowEntry::SUPERSEDED) {
        let fresh = Known::look_up(Flows::New, &query.key);
        if fresh.exists() && belongs(query, &fresh.entry) {
            record = fresh;
            map = Flows::New;
        }
    }
    if record.exists() {
        if record.is_live(BackendState::ALIVE) {
            return follow(query, map, &record);
        }
        maps::remove_flow(map, &query.key);
        count::flow(FlowCount::Dead);
        return loss(query, service, slots, pool, record.backend());
    }
    if slots.old.is_none() || !slots.lost.is_none() {
        return loss(query, service, slots, pool, slots.lost);
    }
    if slots.records {
        self::record(query, slots.old, closing(query));
    }
    Taker::to(slots.old)
}

/// Whether a packet may belong to the connection whose SYN made the record.
#[inline(always)]
fn belongs(query: &Query, entry: &FlowEntry) -> bool {
    if !query.is(TCP) || !entry.has(FlowEntry::OPENED) {
        return true;
    }
    let ahead = query.sequence.wrapping_sub(entry.isn);
    ahead != 0 && ahead <= FIRST_WINDOW
}

/// Follows a record. One in `FLOWS_NEW` has now seen its second packet: it is worth a place where no
/// flood pushes it out.
#[inline(always)]
fn follow(query: &Query, map: Flows, record: &Known) -> Taker {
    count::flow(FlowCount::Followed);
    if map == Flows::New {
        let kept = FlowEntry {
            isn: 0,
            last: tick(clock::now()),
            flags: closing(query),
            ..record.entry
        };
        if maps::insert_flow(Flows::Kept, &query.key, &kept) {
            maps::remove_flow(Flows::New, &query.key);
            count::flow(FlowCount::Kept);
        } else {
            record.touch(closing(query));
            count::flow(FlowCount::Full);
        }
    } else {
        record.touch(record.entry.flags & !FlowEntry::CLOSING | closing(query));
    }
    Taker::to(record.backend())
}

/// The backend of a flow is gone: `lost`, if it is known who that was.
#[inline(always)]
fn loss(query: &Query, service: &Service, slots: &Slots, pool: &Pool, lost: BackendId) -> Taker {
    if slots.new.is_none() {
        return nobody(query, service);
    }
    if query.is(TCP) && pool.on_backend_loss == OnBackendLoss::Reset as u8 {
        if !query.is(RESETS) {
            event::reset(service.pool, lost, &query.key);
        }
        return Taker::LOST;
    }
    if slots.records || slots.new != slots.old {
        record(query, slots.new, closing(query));
    }
    count::flow(FlowCount::Migrated);
    Taker::to(slots.new)
}

#[inline(always)]
fn nobody(query: &Query, service: &Service) -> Taker {
    if !query.is(ERROR) {
        event::empty(service.pool, &query.key);
    }
    Taker::NOBODY
}

/// Remembers that the flow lives on `backend`.
#[inline(always)]
fn record(query: &Query, backend: BackendId, flags: u16) {
    let Some(element) = maps::backend(backend) else {
        return;
    };
    let entry = FlowEntry {
        generation: element.generation(),
        isn: if flags & FlowEntry::OPENED != 0 && query.is(TCP) {
            query.sequence
        } else {
            0
        },
        last: tick(clock::now()),
        backend: backend.0,
        flags,
    };
    let what = if maps::insert_flow(Flows::New, &query.key, &entry) {
        FlowCount::Recorded
    } else {
        FlowCount::NotRecorded
    };
    count::flow(what);
}

#[inline(always)]
fn closing(query: &Query) -> u16 {
    if query.is(CLOSES) {
        FlowEntry::CLOSING
    } else {
        0
    }
}
