//! Frames: those of a few dozen flows again and again, and all sorts of others.

use fastrand::Rng;

use super::build::{self, Segment};
use super::error;
use super::setting::{self, Limits, PORTS, VIPS};
use crate::frame::{ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, is_mapped, mapped};
use crate::hash::{Ip, Key};
use crate::world::{FRAGMENTS, World};

/// Most flows of a run.
const FLOWS_MAX: usize = 48;

/// A client's side of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub v6: bool,
    pub protocol: u8,
    pub client: Ip,
    pub vip: Ip,
    pub ports: [u8; 4],
    pub isn: u32,
    /// Its records have no ports.
    pub has_fragments: bool,
}

/// The flows of a run.
pub struct Traffic {
    flows: Vec<Flow>,
    interfaces: [u32; 2],
}

impl Traffic {
    pub(super) fn new(random: &mut Rng, world: &World, limits: &Limits) -> Self {
        let is_service = |protocol: u8| protocol == TCP || protocol == UDP;
        let keys = world.services.keys();
        let mut services: Vec<_> = keys.filter(|key| is_service(key.protocol)).collect();
        services.sort();
        let count = random.usize(4..=FLOWS_MAX);
        let flows = (0..count).map(|_| {
            let key = services[random.usize(0..services.len())];
            let v6 = !is_mapped(&key.vip);
            let port = match key.port {
                0 => random.u16(1..100),
                port => port,
            };
            let [high, low] = port.to_be_bytes();
            Flow {
                v6,
                protocol: key.protocol,
                client: client(random, v6),
                vip: key.vip,
                ports: [random.u8(..), random.u8(..), high, low],
                isn: random.u32(..),
                has_fragments: world.services[key].detours & FRAGMENTS != 0,
            }
        });
        Self {
            flows: flows.collect(),
            interfaces: limits.interfaces,
        }
    }

    /// The key of some flow.
    pub(super) fn key(&self, random: &mut Rng) -> Key {
        let flow = self.any(random);
        Key {
            source: flow.client,
            destination: flow.vip,
            ports: if flow.has_fragments {
                [0; 4]
            } else {
                flow.ports
            },
            protocol: flow.protocol,
        }
    }

    /// Some flow's sequence number.
    pub(super) fn any_isn(&self, random: &mut Rng) -> u32 {
        self.any(random).isn
    }

    fn any(&self, random: &mut Rng) -> Flow {
        self.flows[random.usize(0..self.flows.len())]
    }

    /// Makes a frame, and says by which interface it comes.
    pub(super) fn frame(&mut self, random: &mut Rng, frame: &mut Vec<u8>) -> u32 {
        frame.clear();
        let flow = self.any(random);
        match random.u8(0..32) {
            0 => {
                let flow = any_flow(random, ICMP);
                build::echo(random, frame, &flow);
            }
            1 => stranger(random, frame),
            2 => self.of_flow(random, frame, true),
            3 => error::build(random, frame, &flow),
            _ => self.of_flow(random, frame, false),
        }
        if random.u8(0..12) == 0 {
            build::damage(random, frame);
        }
        self.interfaces[usize::from(random.u8(0..8) == 0)]
    }

    fn of_flow(&mut self, random: &mut Rng, frame: &mut Vec<u8>, is_fragment: bool) {
        let at = random.usize(0..self.flows.len());
        if random.u8(0..32) == 0 {
            self.flows[at].isn = random.u32(..);
        }
        let flow = self.flows[at];
        let segment = Segment {
            flow,
            flags: if random.u8(0..4) == 0 {
                SYN
            } else {
                flags(random)
            },
            payload: payload_length(random),
            is_fragment: is_fragment || flow.has_fragments && random.u8(0..3) == 0,
        };
        segment.build(random, frame);
    }
}

/// Something that no flow of the run sends.
fn stranger(random: &mut Rng, frame: &mut Vec<u8>) {
    let protocol = random.choice([TCP, UDP, TCP, UDP, 47, 50, 132]);
    let segment = Segment {
        flow: any_flow(random, protocol.unwrap_or(TCP)),
        flags: flags(random),
        payload: payload_length(random),
        is_fragment: random.u8(0..8) == 0,
    };
    segment.build(random, frame);
}

fn any_flow(random: &mut Rng, protocol: u8) -> Flow {
    let v6 = random.bool();
    let protocol = match (protocol, v6) {
        (ICMP, true) => ICMPV6,
        (protocol, _) => protocol,
    };
    let port = PORTS[random.usize(0..PORTS.len())] + u16::from(random.u8(0..4) == 0);
    let [high, low] = port.to_be_bytes();
    Flow {
        v6,
        protocol,
        client: client(random, v6),
        vip: setting::vip(v6, random.u8(0..VIPS + 2)),
        ports: [random.u8(..), random.u8(..), high, low],
        isn: random.u32(..),
        has_fragments: false,
    }
}

/// Some host; now and then what is none, or not one alone.
fn client(random: &mut Rng, v6: bool) -> Ip {
    if random.u8(0..16) == 0 {
        return odd_source(random, v6);
    }
    if v6 {
        setting::ip6(7, random.u32(0..4))
    } else {
        mapped(&[203, 0, 113, random.u8(0..4)])
    }
}

fn odd_source(random: &mut Rng, v6: bool) -> Ip {
    if v6 {
        let mut ip = [0; 16];
        ip[0] = random.choice([0, 0, 0xff]).unwrap_or(0);
        ip[15] = random.u8(0..4);
        return ip;
    }
    let first = random.choice([0, 1, 126, 127, 128, 223, 224, 255]);
    mapped(&[first.unwrap_or(0), 0, 0, random.u8(0..2)])
}

fn flags(random: &mut Rng) -> u8 {
    match random.u8(0..12) {
        0 => SYN | ACK,
        1 => FIN | ACK,
        2 => RST,
        3 => RST | ACK,
        4 => FIN,
        5 => random.u8(..),
        _ => ACK,
    }
}

/// Mostly short; now and then around what a tunnel or an interface takes.
pub(super) fn payload_length(random: &mut Rng) -> usize {
    match random.u8(0..32) {
        0 => random.usize(1380..1480),
        1 => random.usize(0..200),
        _ => random.usize(0..24),
    }
}
