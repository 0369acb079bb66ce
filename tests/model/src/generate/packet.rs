//! Frames: those of a few dozen flows again and again, and all sorts of others.

use fastrand::Rng;

use super::setting::{self, Limits, PORTS, VIPS};
use crate::frame::{ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, mapped};
use crate::hash::{Ip, Key};
use crate::sum::Sum;
use crate::world::World;

/// Most flows of a run.
const FLOWS_MAX: usize = 48;

/// A client's side of a flow.
#[derive(Clone, Copy, Debug)]
struct Flow {
    v6: bool,
    protocol: u8,
    client: Ip,
    vip: Ip,
    ports: [u8; 4],
    isn: u32,
}

/// The flows of a run.
pub struct Traffic {
    flows: Vec<Flow>,
    interfaces: [u32; 2],
}

impl Traffic {
    pub(super) fn new(random: &mut Rng, world: &World, limits: &Limits) -> Self {
        let mut services: Vec<_> = world
            .services
            .keys()
            .filter(|key| key.protocol == TCP || key.protocol == UDP)
            .collect();
        services.sort();
        let count = random.usize(4..=FLOWS_MAX);
        let flows = (0..count)
            .map(|_| {
                let key = services[random.usize(0..services.len())];
                let v6 = !crate::frame::is_mapped(&key.vip);
                let port = if key.port == 0 {
                    random.u16(1..100)
                } else {
                    key.port
                };
                let [high, low] = port.to_be_bytes();
                Flow {
                    v6,
                    protocol: key.protocol,
                    client: client(random, v6),
                    vip: key.vip,
                    ports: [random.u8(..), random.u8(..), high, low],
                    isn: random.u32(..),
                }
            })
            .collect();
        Self {
            flows,
            interfaces: limits.interfaces,
        }
    }

    /// The key of some flow.
    pub(super) fn key(&self, random: &mut Rng) -> Key {
        let flow = self.any(random);
        Key {
            source: flow.client,
            destination: flow.vip,
            ports: flow.ports,
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
        match random.u8(0..32) {
            0 => echo(random, frame),
            1 => stranger(random, frame),
            2 => self.fragment(random, frame),
            _ => self.of_flow(random, frame),
        }
        if random.u8(0..12) == 0 {
            damage(random, frame);
        }
        self.interfaces[usize::from(random.u8(0..8) == 0)]
    }

    fn of_flow(&mut self, random: &mut Rng, frame: &mut Vec<u8>) {
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
        };
        segment.build(random, frame);
    }

    fn fragment(&mut self, random: &mut Rng, frame: &mut Vec<u8>) {
        self.of_flow(random, frame);
        if frame[12..14] == [0x08, 0] {
            let bits: u16 = random
                .choice([0x2000, 0x2001, 0x0007, 0x4000, 0x1fff])
                .unwrap_or(0);
            frame[20..22].copy_from_slice(&bits.to_be_bytes());
            fix_header(frame);
        }
    }
}

fn client(random: &mut Rng, v6: bool) -> Ip {
    if v6 {
        setting::ip6(7, random.u32(0..4))
    } else {
        mapped(&[203, 0, 113, random.u8(0..4)])
    }
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

fn payload_length(random: &mut Rng) -> usize {
    match random.u8(0..32) {
        0 => random.usize(1300..1500),
        1 => random.usize(0..200),
        _ => random.usize(0..24),
    }
}

/// A segment or datagram of a flow.
struct Segment {
    flow: Flow,
    flags: u8,
    payload: usize,
}

impl Segment {
    fn build(&self, random: &mut Rng, frame: &mut Vec<u8>) {
        let flow = &self.flow;
        let options = match random.u8(0..8) {
            0 if flow.protocol == TCP => random.usize(0..11) * 4,
            _ => 0,
        };
        let header = if flow.protocol == TCP {
            20 + options
        } else {
            8
        };
        let start = header_of(random, frame, flow, flow.protocol, header + self.payload);
        frame.extend_from_slice(&flow.ports);
        if flow.protocol == TCP {
            frame.extend_from_slice(&self.sequence(random).to_be_bytes());
            frame.extend_from_slice(&random.u32(..).to_be_bytes());
            frame.extend_from_slice(&[(header as u8 / 4) << 4, self.flags, 0x20, 0, 0, 0, 0, 0]);
            frame.resize(start + header, 1);
        } else {
            frame.extend_from_slice(&((header + self.payload) as u16).to_be_bytes());
            frame.extend_from_slice(&[0, 0]);
        }
        self.add_payload(random, frame);
        let at = start + if flow.protocol == TCP { 16 } else { 6 };
        let (from, to) = (&flow.client, &flow.vip);
        let length = frame.len() - start;
        let sum = Sum::default().pseudo_header(flow.v6, from, to, flow.protocol, length);
        let sum = sum.bytes(&frame[start..]).finish();
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        if random.u8(0..8) == 0 {
            frame.resize(frame.len().max(60), 0xee);
        }
    }

    /// A SYN's is mostly the flow's own; others lie behind it, and around the borders of the window.
    fn sequence(&self, random: &mut Rng) -> u32 {
        let isn = self.flow.isn;
        if self.flags & SYN != 0 && random.u8(0..8) != 0 {
            return isn;
        }
        match random.u8(0..12) {
            0 => random.u32(..),
            1 => isn,
            2 => isn.wrapping_add(65_536),
            3 => isn.wrapping_add(65_537),
            4 => isn.wrapping_sub(1),
            _ => isn.wrapping_add(random.u32(1..70_000)),
        }
    }

    fn add_payload(&self, random: &mut Rng, frame: &mut Vec<u8>) {
        let start = frame.len();
        frame.resize(start + self.payload, 0x55);
        if self.flow.protocol != UDP || self.payload < 5 || random.bool() {
            return;
        }
        let version = random
            .choice([
                [0, 0, 0, 1],
                [0x6b, 0x33, 0x43, 0xcf],
                [0, 0, 0, 0],
                [0, 0, 1, 1],
            ])
            .unwrap_or([0; 4]);
        frame[start] = random.u8(..) | 0xc0;
        if random.bool() {
            frame[start] &= 0xdf;
        }
        frame[start + 1..start + 5].copy_from_slice(&version);
    }
}

/// Ethernet and IP header of a packet with `length` bytes behind them; where they end.
fn header_of(
    random: &mut Rng,
    frame: &mut Vec<u8>,
    flow: &Flow,
    protocol: u8,
    length: usize,
) -> usize {
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 0xc1]);
    let class = if random.u8(0..4) == 0 {
        random.u8(..)
    } else {
        0
    };
    let hops = if random.u8(0..4) == 0 {
        random.u8(..)
    } else {
        57
    };
    if flow.v6 {
        frame.extend_from_slice(&[
            0x86,
            0xdd,
            0x60 | class >> 4,
            class << 4 | random.u8(0..16),
            1,
            2,
        ]);
        frame.extend_from_slice(&(length as u16).to_be_bytes());
        frame.extend_from_slice(&[protocol, hops]);
        frame.extend_from_slice(&flow.client);
        frame.extend_from_slice(&flow.vip);
        return frame.len();
    }
    let options = if random.u8(0..16) == 0 {
        random.usize(0..11) * 4
    } else {
        0
    };
    frame.extend_from_slice(&[0x08, 0, 0x45 + (options / 4) as u8, class]);
    frame.extend_from_slice(&((20 + options + length) as u16).to_be_bytes());
    frame.extend_from_slice(&[random.u8(..), random.u8(..), 0x40, 0, hops, protocol, 0, 0]);
    frame.extend_from_slice(&flow.client[12..]);
    frame.extend_from_slice(&flow.vip[12..]);
    frame.resize(34 + options, 1);
    fix_header(frame);
    frame.len()
}

fn fix_header(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..end]).finish();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
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
    }
}

fn echo(random: &mut Rng, frame: &mut Vec<u8>) {
    let flow = any_flow(random, ICMP);
    let payload = payload_length(random);
    let start = header_of(random, frame, &flow, flow.protocol, 8 + payload);
    let kind = match (random.u8(0..8), flow.v6) {
        (0, _) => random.u8(..),
        (_, true) => 128,
        (_, false) => 8,
    };
    frame.extend_from_slice(&[kind, u8::from(random.u8(0..16) == 0), 0, 0]);
    frame.extend_from_slice(&random.u32(..).to_be_bytes());
    frame.resize(start + 8 + payload, random.u8(..));
    let sum = if flow.v6 {
        Sum::default().pseudo_header(true, &flow.client, &flow.vip, ICMPV6, 8 + payload)
    } else {
        Sum::default()
    };
    let sum = sum.bytes(&frame[start..]).finish();
    frame[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
}

/// Something that no flow of the run sends.
fn stranger(random: &mut Rng, frame: &mut Vec<u8>) {
    let protocol = random
        .choice([TCP, UDP, TCP, UDP, 47, 50, 132])
        .unwrap_or(TCP);
    let flow = any_flow(random, protocol);
    let segment = Segment {
        flow,
        flags: flags(random),
        payload: payload_length(random),
    };
    segment.build(random, frame);
}

/// Changes a few bytes, and perhaps where the frame ends.
fn damage(random: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..frame.len().min(90));
        frame[at] = match random.u8(0..4) {
            0 => 0,
            1 => 0xff,
            2 => frame[at] ^ 1 << random.u8(0..8),
            _ => random.u8(..),
        };
    }
    if random.u8(0..3) == 0 {
        let length = random.usize(14..frame.len() + 20);
        frame.resize(length, 0);
    }
}
