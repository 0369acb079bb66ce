//! ICMP errors about a flow of a VIP: they go where the flow goes that they quote, and change nothing.

use crate::count::{Drop, Pass};
use crate::flow::Record;
use crate::frame::{self, Parsed, TCP, UDP, mapped};
use crate::hash::{self, Key};
use crate::plane::{Plane, Verdict, flow_hash};
use crate::rules::Rule;
use crate::world::{ALIVE, FRAGMENTS, NEVER, NOBODY, OnEmpty, Service};

/// The flow that an ICMP error quotes, as a packet of the client's would be: the quoted one came
/// from the VIP.
fn quoted(packet: &Parsed, frame: &[u8]) -> Option<Parsed> {
    let quote = frame.get(packet.transport + 8..packet.end)?;
    let (from, to, protocol, header) = if packet.v6 {
        if quote.len() < 40 || quote[0] >> 4 != 6 {
            return None;
        }
        let ip = |at: usize| quote[at..at + 16].try_into().ok();
        let (protocol, at, part) = frame::extensions(quote, quote[6])?;
        if part == frame::Part::Later {
            return None;
        }
        (ip(8)?, ip(24)?, protocol, at)
    } else {
        let header = usize::from(quote.first()? & 15) * 4;
        if quote.len() < 20 || quote[0] >> 4 != 4 || header < 20 {
            return None;
        }
        // Behind a later fragment's header there are no ports.
        if frame::word(quote, 6) & 0x1fff != 0 {
            return None;
        }
        (
            mapped(&quote[12..16]),
            mapped(&quote[16..20]),
            quote[9],
            header,
        )
    };
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let ports = quote.get(header..header + 8)?;
    Some(Parsed {
        source: to,
        destination: from,
        protocol,
        ports: [ports[2], ports[3], ports[0], ports[1]],
        part: frame::Part::Whole,
        flags: 0,
        sequence: 0,
        ..*packet
    })
}

impl Plane {
    /// Sends an ICMP error to the backend of the flow that it quotes.
    pub(crate) fn error(&mut self, packet: &Parsed, frame: &[u8], interface: u32) -> Verdict {
        let Some(mut flow) = quoted(packet, frame) else {
            return self.pass(Pass::NotOurs);
        };
        // Whoever got the quoted packet answers to whom it came from.
        if flow.destination != packet.destination && self.rules.hold(Rule::IcmpIsToQuotedSource) {
            return self.pass(Pass::NotOurs);
        }
        let Some(service) = self.service(&flow) else {
            return self.pass(Pass::NotOurs);
        };
        if service.detours & FRAGMENTS != 0 && self.rules.hold(Rule::FragmentsHaveNoPorts) {
            flow.ports = [0; 4];
        } else if packet.part != frame::Part::Whole && self.rules.hold(Rule::IcmpIsWhole) {
            return self.drop(Drop::Fragment);
        }
        if self.world.pools[usize::from(service.pool)]
            .ladders
            .is_empty()
        {
            return self.drop(Drop::NoTable);
        }
        let hash = flow_hash(&flow);
        match self.home_of_error(&flow, &service, hash) {
            Some(id) => self.forward(packet, frame, &service, hash, id, interface),
            // Nobody ever had the flow: the pool's `on_empty`, but an error is not answered.
            None if service.detours & NEVER != 0 && self.rules.hold(Rule::Never) => {
                match self.world.pools[usize::from(service.pool)].on_empty {
                    OnEmpty::Pass => self.pass(Pass::Empty),
                    OnEmpty::Drop | OnEmpty::Reset => self.drop(Drop::NoBackend),
                }
            }
            None => self.drop(Drop::BackendLost),
        }
    }

    fn home_of_error(&mut self, flow: &Parsed, service: &Service, hash: u64) -> Option<u16> {
        let (world, rules, pool) = (&self.world, self.rules, service.pool);
        let slots = world.pools[usize::from(pool)].ladders.len() as u32;
        let home = hash::slot_of(hash, slots);
        let is_tcp = flow.protocol == TCP;
        let owners = self.owners(service, home, hash, is_tcp);
        let somebody = |id: u16| (id != NOBODY).then_some(id);
        if service.detours & NEVER != 0 && rules.hold(Rule::Never) {
            return somebody(owners.new);
        }
        self.was_stable = false;
        let key = Key::of(flow);
        let (kept, fresh) = (self.flows.get(&key), self.flows_new.get(&key));
        let current = kept.filter(|record| !record.is_superseded);
        if let Some(record) = current.or(fresh).or(kept).copied()
            && self.is_live(&record, ALIVE)
            && rules.hold(Rule::IcmpFollowsRecord)
        {
            if !rules.hold(Rule::IcmpRecordsNothing) {
                let last = self.world.tick();
                self.flows.insert(key, Record { last, ..record });
            }
            return Some(record.backend);
        }
        somebody(owners.old).filter(|_| owners.lost == NOBODY)
    }
}
