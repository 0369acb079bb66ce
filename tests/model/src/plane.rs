//! The data plane: a frame comes in, a verdict and perhaps another frame come out.

use crate::count::{Counters, Drop, Event, Flow, Kind, Pass, Reply};
use crate::flow::{Choice, Record};
use crate::frame::{self, ICMP, ICMPV6, Parsed, Part, TCP, UDP};
use crate::hash::{self, Key};
use crate::rules::{Rule, Rules};
use crate::world::{self, FRAGMENTS, Map, OnEmpty, Service, ServiceKey, World};

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Gone.
    Drop,
    /// To the kernel, as it came.
    Pass,
    /// Out of the interface that it came by.
    Transmit,
    /// Out of another.
    Redirect,
}

/// Words of fingerprints.
const FINGERPRINTS: usize = 8192;

/// A data plane with all that it remembers.
#[derive(Clone, Debug)]
pub struct Plane {
    /// What the agent wrote.
    pub world: World,
    /// Records that are known for longer than a packet.
    pub flows: Map<Key, Record>,
    /// Records of one packet.
    pub flows_new: Map<Key, Record>,
    /// Room in `flows`.
    pub flows_max: usize,
    /// What was counted.
    pub counters: Counters,
    /// What the agent was told, not yet taken away.
    pub events: Vec<Event>,
    /// The frame that goes out, after [`Verdict::Transmit`] and [`Verdict::Redirect`].
    pub out: Vec<u8>,
    /// The backend that got the last packet.
    pub sent_to: Option<u16>,
    /// Whether the last packet went without a look at the flow maps.
    pub was_stable: bool,
    /// Which rules hold.
    pub rules: Rules,
    pub(crate) fingerprints: Vec<u64>,
    /// Tick in which the agent was last told of a backend's repeated SYNs, and of its resets.
    pub(crate) told: Vec<[u32; 2]>,
    /// The same of a pool that is empty.
    pub(crate) told_empty: Vec<u32>,
    /// Tick of the answers that are limited, and how many were given in it.
    pub(crate) answers: (u64, u32),
}

impl Plane {
    /// A data plane that remembers nothing.
    #[must_use]
    pub fn new(world: World, flows_max: usize, rules: Rules) -> Self {
        let counters = world
            .services
            .values()
            .map(|service| service.counters)
            .max();
        Self {
            told: vec![[0; 2]; world.backends.len()],
            told_empty: vec![0; world.pools.len()],
            counters: Counters::new(counters.unwrap_or(0) as usize + 1, world.backends.len()),
            flows: Map::default(),
            flows_new: Map::default(),
            flows_max,
            events: Vec::new(),
            out: Vec::with_capacity(4096),
            sent_to: None,
            was_stable: false,
            rules,
            fingerprints: vec![0; FINGERPRINTS],
            answers: (0, 0),
            world,
        }
    }

    /// What becomes of a frame that came in by an interface.
    pub fn process(&mut self, frame: &[u8], interface: u32) -> Verdict {
        self.sent_to = None;
        self.was_stable = true;
        let Some(mut packet) = frame::parse(frame) else {
            return self.pass(Pass::NotOurs);
        };
        if packet.v6 && frame::is_mapped(&packet.destination) {
            return self.pass(Pass::NotOurs);
        }
        match packet.protocol {
            TCP | UDP => {}
            _ if packet.is_icmp() => return self.icmp(&packet, frame, interface),
            _ => return self.pass(Pass::NotOurs),
        }
        let Some(service) = self.service(&packet) else {
            return if self.is_fragment_of_vip(&packet) {
                self.drop(Drop::Fragment)
            } else {
                self.pass(Pass::NotOurs)
            };
        };
        if service.detours & FRAGMENTS != 0 && self.rules.hold(Rule::FragmentsHaveNoPorts) {
            packet.ports = [0; 4];
        } else if packet.part != Part::Whole {
            return self.drop(Drop::Fragment);
        }
        let hash = flow_hash(&packet);
        if self.world.pools[usize::from(service.pool)]
            .ladders
            .is_empty()
        {
            return self.drop(Drop::NoTable);
        }
        match self.choose(&packet, frame, &service, hash) {
            Choice::To(id) => self.forward(&packet, frame, &service, hash, id, interface),
            Choice::Empty => self.on_empty(&packet, frame, &service),
            Choice::Lost(id) => self.on_loss(&packet, frame, &service, id),
        }
    }

    pub(crate) fn service(&self, packet: &Parsed) -> Option<Service> {
        let find = |port: u16, later: bool| {
            let key = ServiceKey {
                vip: packet.destination,
                port,
                protocol: packet.protocol,
                later,
            };
            self.world.services.get(&key).copied()
        };
        if packet.part == Part::Later {
            return find(0, true);
        }
        let [_, _, high, low] = packet.ports;
        find(u16::from_be_bytes([high, low]), false).or_else(|| find(0, false))
    }

    /// A later fragment that some service of the VIP would get, if it had its ports.
    fn is_fragment_of_vip(&self, packet: &Parsed) -> bool {
        packet.part == Part::Later
            && self.world.services.keys().any(|key| {
                !key.later && key.vip == packet.destination && key.protocol == packet.protocol
            })
    }

    fn icmp(&mut self, packet: &Parsed, frame: &[u8], interface: u32) -> Verdict {
        let vip = ServiceKey {
            vip: packet.destination,
            port: 0,
            protocol: if packet.v6 { ICMPV6 } else { ICMP },
            later: false,
        };
        if !self.world.services.contains_key(&vip) {
            return self.pass(Pass::NotOurs);
        }
        match packet.part {
            Part::Later => self.drop(Drop::Fragment),
            Part::First if packet.is_echo_request() => self.drop(Drop::Fragment),
            Part::Whole if packet.is_echo_request() => self.echo(packet, frame),
            Part::Whole | Part::First if packet.is_icmp_error() => {
                self.error(packet, frame, interface)
            }
            _ => self.pass(Pass::NotOurs),
        }
    }

    fn on_empty(&mut self, packet: &Parsed, frame: &[u8], service: &Service) -> Verdict {
        self.tell_empty(packet, service);
        match self.world.pools[usize::from(service.pool)].on_empty {
            OnEmpty::Pass => self.pass(Pass::Empty),
            OnEmpty::Drop => self.drop(Drop::NoBackend),
            OnEmpty::Reset if packet.protocol == TCP => {
                if packet.flags & frame::RST != 0 {
                    return self.drop(Drop::NoBackend);
                }
                self.reset(packet, frame, Reply::Reset)
            }
            OnEmpty::Reset => self.unreachable(packet, frame),
        }
    }

    fn on_loss(
        &mut self,
        packet: &Parsed,
        frame: &[u8],
        service: &Service,
        backend: u16,
    ) -> Verdict {
        if packet.flags & frame::RST != 0 && self.rules.hold(Rule::ResetIsNotAnswered) {
            return self.drop(Drop::BackendLost);
        }
        self.tell_reset(packet, service, backend);
        self.reset(packet, frame, Reply::LossReset)
    }

    pub(crate) fn pass(&mut self, why: Pass) -> Verdict {
        self.counters.passes[why as usize] += 1;
        Verdict::Pass
    }

    pub(crate) fn drop(&mut self, why: Drop) -> Verdict {
        self.counters.drops[why as usize] += 1;
        Verdict::Drop
    }

    pub(crate) fn count(&mut self, what: Flow) {
        self.counters.flows[what as usize] += 1;
    }

    fn tell_empty(&mut self, packet: &Parsed, service: &Service) {
        let tick = self.world.tick();
        let told = &mut self.told_empty[usize::from(service.pool)];
        if *told != tick {
            *told = tick;
            self.tell(Kind::Empty, service, world::NOBODY, packet);
        }
    }

    fn tell_reset(&mut self, packet: &Parsed, service: &Service, backend: u16) {
        let tick = self.world.tick();
        let Some(told) = self.told.get_mut(usize::from(backend)) else {
            return;
        };
        let is_news = told[1] != tick;
        told[1] = tick;
        self.counters.suspicions[usize::from(backend)][1] += 1;
        if is_news {
            self.tell(Kind::Reset, service, backend, packet);
        }
    }

    pub(crate) fn tell(&mut self, kind: Kind, service: &Service, backend: u16, packet: &Parsed) {
        self.events.push(Event {
            kind,
            pool: service.pool,
            backend,
            flow: Key::of(packet),
        });
    }
}

/// The hash of a packet's flow.
#[must_use]
pub fn flow_hash(packet: &Parsed) -> u64 {
    hash::flow_hash(
        packet.v6,
        &packet.source,
        &packet.destination,
        packet.ports,
        packet.protocol,
    )
}
