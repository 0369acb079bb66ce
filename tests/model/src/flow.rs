//! To whom a packet goes: flows.md §2, case by case.

use crate::count::{Flow, Kind};
use crate::frame::{FIN, Parsed, Part, RST, TCP};
use crate::hash::{self, Key};
use crate::owners::{self, Owners};
use crate::plane::Plane;
use crate::rules::Rule;
use crate::world::{
    ALIVE, ALWAYS, NEVER, NEW, NOBODY, PREVIOUS_POOL, QUIC, SLOT_FLAGS, Service, TRACK, rung,
};

/// Where a flow lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The backend.
    pub backend: u16,
    /// Its generation when this was written.
    pub generation: u32,
    /// Sequence number of the SYN that made the record.
    pub isn: u32,
    /// Tick of the last packet.
    pub last: u32,
    /// Another connection of the same addresses and ports began.
    pub is_superseded: bool,
    /// The last packet had FIN or RST.
    pub is_closing: bool,
    /// `isn` counts.
    pub is_opened: bool,
}

/// Who gets a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// This backend.
    To(u16),
    /// Nobody; `on_empty` decides.
    Empty,
    /// Nobody: the flow was this backend's, which is lost.
    Lost(u16),
}

/// Sequence numbers behind a SYN's that are its connection's.
const FIRST_WINDOW: u32 = 65_536;

/// A packet of a service and what was found out about it.
#[derive(Clone, Copy)]
struct Call<'a> {
    packet: &'a Parsed,
    service: &'a Service,
    key: Key,
    home: u32,
    is_tcp: bool,
    /// What `last` becomes.
    tick: u32,
    owners: Owners,
    /// Whether new flows are recorded.
    records: bool,
}

impl Call<'_> {
    fn has_end(&self) -> bool {
        self.is_tcp && self.packet.flags & (FIN | RST) != 0
    }
}

impl Plane {
    /// To whom a packet goes, and what is remembered of it.
    pub(crate) fn choose(
        &mut self,
        packet: &Parsed,
        frame: &[u8],
        service: &Service,
        hash: u64,
    ) -> Choice {
        let (world, rules) = (&self.world, self.rules);
        let pool = service.pool;
        let slots = world.pools[usize::from(pool)].ladders.len() as u32;
        let home = hash::slot_of(hash, slots);
        let is_tcp = packet.protocol == TCP;
        let detours = service.detours;
        let goes_fast = detours == 0 && owners::is_stable(world, rules, pool, home);
        let is_syn = packet.is_syn();
        let is_never = detours & NEVER != 0 && rules.hold(Rule::Never);
        let is_repeated = is_syn && self.is_repeated(packet, hash);
        let is_rescued = is_repeated && self.agent_is_silent() && rules.hold(Rule::Rescue);
        let first = rung(
            self.world.pools[usize::from(pool)].ladders[home as usize],
            0,
        );
        if goes_fast && !is_rescued {
            if is_repeated {
                self.suspect(packet, service, first);
            }
            return Choice::To(first);
        }
        self.was_stable = false;
        let owners = self.owners(service, home, hash, is_tcp);
        if is_never {
            if is_repeated && owners.new != NOBODY {
                self.suspect(packet, service, owners.new);
            }
            return to_or_empty(owners.new);
        }
        let comes_from_elsewhere = detours & PREVIOUS_POOL != 0 && rules.hold(Rule::PreviousPool);
        let records = owners.is_changed && rules.hold(Rule::ChangedRecords)
            || owners.new != owners.old
            || owners.lost != NOBODY
            || detours & ALWAYS != 0 && rules.hold(Rule::Always)
            || comes_from_elsewhere;
        let call = Call {
            packet,
            service,
            key: Key::of(packet),
            home,
            is_tcp,
            tick: self.world.tick(),
            owners,
            records,
        };
        let is_quic = service.options & QUIC != 0 && !is_tcp && rules.hold(Rule::QuicInitial);
        if is_syn || is_quic && is_initial(packet, frame) {
            self.opening(call, is_repeated, is_rescued)
        } else {
            self.going_on(call)
        }
    }

    /// Whose an unrecorded packet is, the service's previous pool included.
    pub(crate) fn owners(&self, service: &Service, home: u32, hash: u64, is_tcp: bool) -> Owners {
        let (world, rules) = (&self.world, self.rules);
        let mut owners = owners::walk(world, rules, service.pool, home, is_tcp);
        if service.detours & PREVIOUS_POOL != 0 && rules.hold(Rule::PreviousPool) {
            let pool = service.previous_pool;
            let slots = world.pools[usize::from(pool)].ladders.len() as u32;
            let before = owners::walk(world, rules, pool, hash::slot_of(hash, slots), is_tcp);
            // That its owner was lost there is an answer, too.
            if before.old != NOBODY || before.lost != NOBODY {
                (owners.old, owners.lost) = (before.old, before.lost);
            }
        }
        if !is_tcp && rules.hold(Rule::UdpNeverLost)
            || !world.pools[usize::from(service.pool)].resets
            || !rules.hold(Rule::LostResets)
        {
            owners.lost = NOBODY;
        }
        owners
    }

    pub(crate) fn is_live(&self, record: &Record, bit: u32) -> bool {
        let Some(backend) = self.world.backends.get(usize::from(record.backend)) else {
            return false;
        };
        let is_it = backend.generation == record.generation || !self.rules.hold(Rule::Generation);
        is_it && backend.state & bit != 0
    }

    fn record_for(&self, backend: u16, call: &Call<'_>) -> Record {
        Record {
            backend,
            generation: self.world.backends[usize::from(backend)].generation,
            last: call.tick,
            ..Record::default()
        }
    }

    fn remember(&mut self, key: Key, record: Record) {
        self.flows_new.insert(key, record);
        self.count(Flow::Recorded);
    }

    /// A SYN, or what stands for one.
    fn opening(&mut self, mut call: Call<'_>, is_repeated: bool, is_rescued: bool) -> Choice {
        let rules = self.rules;
        let key = call.key;
        let fresh = self.flows_new.get(&key).copied();
        let kept = self.flows.get(&key).copied();
        let isn = if call.is_tcp { call.packet.sequence } else { 0 };
        let follows = fresh
            .or(kept)
            .filter(|record| self.is_live(record, NEW) && rules.hold(Rule::SynFollowsRecord));
        if let Some(record) = follows {
            if is_repeated {
                self.suspect(call.packet, call.service, record.backend);
            }
            self.follow_opening(&call, fresh.is_some(), isn);
            return Choice::To(record.backend);
        }
        if call.owners.new == NOBODY {
            return Choice::Empty;
        }
        if is_repeated {
            self.suspect(call.packet, call.service, call.owners.new);
        }
        if is_rescued && call.owners.second_new != NOBODY {
            self.rescue(&mut call);
        }
        let is_alive = |record: Option<&Record>| record.is_some_and(|it| self.is_live(it, ALIVE));
        let is_fresh_alive = is_alive(fresh.as_ref());
        let is_any_alive = is_fresh_alive || is_alive(kept.as_ref());
        let beside = is_any_alive && rules.hold(Rule::SynRecordsBesideRecord);
        if !call.records && !beside {
            if rules.hold(Rule::SynDeletesDeadRecord) {
                self.flows.remove(&key);
                self.flows_new.remove(&key);
            }
            return Choice::To(call.owners.new);
        }
        if let Some(record) = self.flows.get_mut(&key) {
            record.is_superseded = true;
            if !rules.hold(Rule::SynSupersedes) {
                self.flows.remove(&key);
            }
        } else if let Some(record) = fresh.filter(|it| !it.is_opened && is_fresh_alive)
            && rules.hold(Rule::SynKeepsOlderRecord)
        {
            let superseded = Record {
                is_superseded: true,
                ..record
            };
            if self.has_room() {
                self.flows.insert(key, superseded);
            } else {
                self.count(Flow::Full);
            }
        }
        let record = Record {
            isn,
            is_opened: true,
            ..self.record_for(call.owners.new, &call)
        };
        self.remember(key, record);
        Choice::To(call.owners.new)
    }

    fn has_room(&self) -> bool {
        self.flows.len() < self.flows_max || !self.rules.hold(Rule::FlowsIsBounded)
    }

    fn follow_opening(&mut self, call: &Call<'_>, is_fresh: bool, isn: u32) {
        let rules = self.rules;
        let table = if is_fresh {
            &mut self.flows_new
        } else {
            &mut self.flows
        };
        let Some(record) = table.get_mut(&call.key) else {
            return;
        };
        if rules.hold(Rule::LastSeen) {
            record.last = call.tick;
        }
        if rules.hold(Rule::ClosingMark) {
            record.is_closing = false;
        }
        let is_another = call.is_tcp && record.isn != isn;
        if is_fresh && is_another && rules.hold(Rule::SynForgetsSequence) {
            record.is_opened = false;
        }
    }

    /// The first choice does not answer, and no agent is there to see it.
    fn rescue(&mut self, call: &mut Call<'_>) {
        let left = call.owners.new;
        call.owners.new = call.owners.second_new;
        call.records = true;
        let home = usize::from(call.service.pool);
        let ladder = self.world.pools[home].ladders[call.home as usize];
        let is_stable = self.world.state(rung(ladder, 0)) == crate::world::FULL;
        if is_stable && ladder & SLOT_FLAGS == 0 && self.rules.hold(Rule::RescueTracks) {
            self.world.backends[usize::from(rung(ladder, 0))].state |= TRACK;
        }
        self.count(Flow::Rescued);
        self.tell(Kind::Rescued, call.service, left, call.packet);
    }

    /// Any packet but a SYN.
    fn going_on(&mut self, call: Call<'_>) -> Choice {
        let key = call.key;
        let kept = self.flows.get(&key).copied();
        let waits =
            |record: &Record| record.is_superseded && self.rules.hold(Rule::SupersededIsLast);
        if let Some(record) = kept.filter(|record| !waits(record)) {
            return self.hit(call, record, false);
        }
        let fresh = self.flows_new.get(&key).copied();
        if let Some(record) = fresh.filter(|record| self.belongs(&call, record)) {
            return self.hit(call, record, true);
        }
        if let Some(record) = kept {
            return self.hit(call, record, false);
        }
        if call.owners.old == NOBODY || call.owners.lost != NOBODY {
            return self.loss(call, call.owners.lost);
        }
        if call.records {
            let record = Record {
                is_closing: call.has_end() && self.rules.hold(Rule::ClosingMark),
                ..self.record_for(call.owners.old, &call)
            };
            self.remember(key, record);
        }
        Choice::To(call.owners.old)
    }

    /// Whether a packet is one of the connection whose SYN made the record.
    fn belongs(&self, call: &Call<'_>, record: &Record) -> bool {
        let behind = call.packet.sequence.wrapping_sub(record.isn);
        !call.is_tcp
            || !record.is_opened
            || (1..=FIRST_WINDOW).contains(&behind)
            || !self.rules.hold(Rule::SequenceWindow)
    }

    fn hit(&mut self, call: Call<'_>, record: Record, is_fresh: bool) -> Choice {
        let rules = self.rules;
        let bit = if rules.hold(Rule::AliveOnHit) {
            ALIVE
        } else {
            u32::MAX
        };
        if !self.is_live(&record, bit) {
            if rules.hold(Rule::DeadIsDeleted) {
                let table = if is_fresh {
                    &mut self.flows_new
                } else {
                    &mut self.flows
                };
                table.remove(&call.key);
            }
            self.count(Flow::Dead);
            return self.loss(call, record.backend);
        }
        let mut record = record;
        if rules.hold(Rule::LastSeen) {
            record.last = call.tick;
        }
        if rules.hold(Rule::ClosingMark) {
            record.is_closing = call.has_end();
        }
        self.count(Flow::Followed);
        if is_fresh && rules.hold(Rule::MoveToFlows) {
            self.keep(call.key, record);
        } else {
            let table = if is_fresh {
                &mut self.flows_new
            } else {
                &mut self.flows
            };
            table.insert(call.key, record);
        }
        Choice::To(record.backend)
    }

    /// A second packet of the flow came: the record may stay.
    fn keep(&mut self, key: Key, record: Record) {
        let record = Record {
            is_opened: false,
            ..record
        };
        if self.flows.contains_key(&key) || self.has_room() {
            self.flows.insert(
                key,
                Record {
                    isn: 0,
                    is_superseded: false,
                    ..record
                },
            );
            self.flows_new.remove(&key);
            self.count(Flow::Kept);
        } else {
            self.flows_new.insert(key, record);
            self.count(Flow::Full);
        }
    }

    /// Nobody has the flow any more.
    fn loss(&mut self, call: Call<'_>, lost: u16) -> Choice {
        let pool = &self.world.pools[usize::from(call.service.pool)];
        let migrates = !pool.resets && self.rules.hold(Rule::Migrate);
        let resets = call.is_tcp && !migrates && self.rules.hold(Rule::LostResets);
        if resets {
            return if call.owners.new == NOBODY {
                Choice::Empty
            } else {
                Choice::Lost(lost)
            };
        }
        if call.owners.new == NOBODY {
            return Choice::Empty;
        }
        if call.records || call.owners.new != call.owners.old {
            let record = Record {
                is_closing: call.has_end() && self.rules.hold(Rule::ClosingMark),
                ..self.record_for(call.owners.new, &call)
            };
            if self.rules.hold(Rule::MigrationRecords) {
                self.remember(call.key, record);
            }
        }
        self.count(Flow::Migrated);
        Choice::To(call.owners.new)
    }
}

fn to_or_empty(id: u16) -> Choice {
    if id == NOBODY {
        Choice::Empty
    } else {
        Choice::To(id)
    }
}

/// Whether a datagram begins with a QUIC Initial packet (RFC 9000 §17.2.2, RFC 9369 §3.2).
fn is_initial(packet: &Parsed, frame: &[u8]) -> bool {
    if packet.part == Part::Later {
        return false;
    }
    let datagram = &frame[packet.transport..packet.end];
    match datagram.get(8..13) {
        Some([first, 0, 0, 0, 1]) => first & 0xf0 == 0xc0,
        Some([first, 0x6b, 0x33, 0x43, 0xcf]) => first & 0xf0 == 0xd0,
        _ => false,
    }
}
