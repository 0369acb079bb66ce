//! From a flow to a backend: slot, then rung; in an unstable slot by way of the flow maps.

use lb_common::backend::BackendId;
use lb_common::flow::{FlowHash, FlowKey};
use lb_common::ladder::{Slot, slot_index};
use lb_common::packet::{Packet, TCP, Transport};
use lb_common::quic;
use lb_common::service::{Service, detour, option};
use lb_common::verdict::DropReason;

use crate::cursor::Frame;
use crate::flow::{self, Query, Taker};
use crate::maps::{self, LiveBackend};
use crate::{event, suspicion};

/// What a flow's slot says.
pub enum Choice {
    /// Forward to this backend.
    Backend {
        /// The backend.
        id: BackendId,
        /// Whether it is its slot's own primary.
        is_home: bool,
        /// Its element.
        backend: LiveBackend,
    },
    /// The flow's backend was lost: reset it.
    Lost,
    /// No backend takes the packet.
    Empty,
}

/// The owner of a packet's slot, if the slot is settled, the owner plainly up, and the packet no SYN
/// that may have come before: one slot, one state word, and for a SYN one fingerprint.
#[inline(always)]
pub fn settled(
    packet: &Packet,
    service: &Service,
    hash: FlowHash,
) -> Option<(BackendId, LiveBackend)> {
    let home = slot_index(hash.slot_bits(), service.slots);
    let slot = maps::slot(service.pool, home)?;
    let owner = slot.rung(0);
    let backend = maps::backend(owner)?;
    let is_settled = slot.is_settled() && backend.state().is_stable();
    if !is_settled || packet.opens_flow() && suspicion::may_be_repeated(hash, packet.sequence) {
        return None;
    }
    Some((owner, backend))
}

/// Chooses the backend of a packet; an ICMP error goes where the flow goes that it quotes, whose
/// addresses and ports `packet` has.
///
/// As [`settled`] where it can be; and whatever comes, neither flow map is looked into in such a slot.
#[inline(always)]
pub fn choose(
    frame: &Frame<'_>,
    packet: &Packet,
    service: &Service,
    hash: FlowHash,
) -> Result<Choice, DropReason> {
    let home = slot_index(hash.slot_bits(), service.slots);
    let slot = maps::slot(service.pool, home).ok_or(DropReason::NoTable)?;
    let owner = slot.rung(0);
    let mut traits = traits(frame, packet, service);
    if packet.opens_flow() && suspicion::is_repeated(hash, packet.sequence) {
        traits |= flow::REPEATED;
    }
    let is_plain = service.detours == 0 && traits & flow::ERROR == 0;
    if is_plain
        && slot.is_settled()
        && let Some(backend) = maps::backend(owner)
        && backend.state().is_stable()
        && !(traits & flow::REPEATED != 0 && left_alone(service, owner, packet))
    {
        return Ok(Choice::Backend {
            id: owner,
            is_home: true,
            backend,
        });
    }
    ask(packet, service, hash, home, slot, traits)
}

/// Whether a SYN that came again needs another backend, because no agent is alive to look into it.
/// With an agent this tells it, and the SYN goes where it went.
#[inline(always)]
fn left_alone(service: &Service, owner: BackendId, packet: &Packet) -> bool {
    if suspicion::is_agent_silent() {
        return true;
    }
    if let Some(key) = flow::key_place() {
        *key = key_of(packet, service);
        event::repeated(service.pool, owner, key);
    }
    false
}

#[inline(always)]
fn key_of(packet: &Packet, service: &Service) -> FlowKey {
    FlowKey::of(packet, service.detours & detour::FRAGMENTS == 0)
}

#[inline(always)]
fn traits(frame: &Frame<'_>, packet: &Packet, service: &Service) -> u32 {
    match packet.transport {
        Transport::Tcp(flags) => {
            let opens = if flags.opens() { flow::OPENS } else { 0 };
            let closes = if flags.closes() { flow::CLOSES } else { 0 };
            let resets = if flags.resets() { flow::RESETS } else { 0 };
            flow::TCP | opens | closes | resets
        }
        Transport::Error if packet.protocol == TCP => flow::ERROR | flow::TCP,
        Transport::Error => flow::ERROR,
        _ if service.options & option::QUIC != 0 && quic::opens_flow(frame, packet) => flow::OPENS,
        _ => 0,
    }
}

#[inline(always)]
fn ask(
    packet: &Packet,
    service: &Service,
    hash: FlowHash,
    home: u32,
    slot: Slot,
    traits: u32,
) -> Result<Choice, DropReason> {
    let taker = flow::choose(|query: &mut Query| {
        query.key = key_of(packet, service);
        query.hash = hash;
        query.slot = slot;
        query.service = *service;
        query.home = home;
        query.sequence = packet.sequence;
        query.traits = traits;
    });
    if let Some(id) = taker.backend() {
        let backend = maps::backend(id).ok_or(DropReason::Internal)?;
        let is_home = id == slot.rung(0);
        return Ok(Choice::Backend {
            id,
            is_home,
            backend,
        });
    }
    match taker {
        Taker::LOST => Ok(Choice::Lost),
        Taker::NOBODY => Ok(Choice::Empty),
        _ => Err(DropReason::Internal),
    }
}
