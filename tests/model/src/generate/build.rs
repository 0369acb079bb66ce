//! The bytes of a frame, field by field.

use fastrand::Rng;

use super::packet::{Flow, payload_length};
use crate::frame::{ETHERNET, ICMPV6, SYN, TCP, UDP};
use crate::sum::Sum;

/// A segment or datagram of a flow.
pub(super) struct Segment {
    pub flow: Flow,
    pub flags: u8,
    pub payload: usize,
    pub is_fragment: bool,
}

impl Segment {
    pub(super) fn build(&self, random: &mut Rng, frame: &mut Vec<u8>) {
        let flow = &self.flow;
        let options = match random.u8(0..8) {
            0 | 1 if flow.protocol == TCP => random.usize(0..11) * 4,
            _ => 0,
        };
        let header = if flow.protocol == TCP {
            20 + options
        } else {
            8
        };
        let fragment = self.is_fragment.then(|| any_fragment(random));
        let start = headers(random, frame, flow, fragment, header + self.payload);
        frame.extend_from_slice(&flow.ports);
        if flow.protocol == TCP {
            frame.extend_from_slice(&self.sequence(random).to_be_bytes());
            frame.extend_from_slice(&random.u32(..).to_be_bytes());
            frame.extend_from_slice(&[(header as u8 / 4) << 4, self.flags, 0x20, 0, 0, 0, 0, 0]);
            tcp_options(random, frame, start + header);
        } else {
            frame.extend_from_slice(&((header + self.payload) as u16).to_be_bytes());
            frame.extend_from_slice(&[0, 0]);
        }
        self.add_payload(random, frame);
        let at = start + if flow.protocol == TCP { 16 } else { 6 };
        put_sum(frame, flow, start, at);
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

/// Options up to `end`: a segment size among others, at any place, whole or not.
fn tcp_options(random: &mut Rng, frame: &mut Vec<u8>, end: usize) {
    while frame.len() < end {
        match random.u8(0..8) {
            0 | 1 => {
                let [high, low] = random.u16(..).to_be_bytes();
                frame.extend_from_slice(&[2, 4, high, low]);
            }
            2 => frame.extend_from_slice(&[3, 3, 7]),
            3 => frame.extend_from_slice(&[8, 10, 0, 0, 0, 1, 0, 0, 0, 0]),
            4 if random.u8(0..4) == 0 => frame.extend_from_slice(&[random.u8(..), random.u8(..)]),
            _ => frame.push(1),
        }
    }
    frame.truncate(end);
}

/// The fragment word of IPv4; IPv6 has the same fields elsewhere.
pub(super) fn any_fragment(random: &mut Rng) -> u16 {
    let words = [0x2000, 0x2001, 0x0007, 0x4000, 0x1fff, 0];
    random.choice(words).unwrap_or(0)
}

/// Ethernet and IP headers of a packet with `length` bytes behind them; where they end.
pub(super) fn headers(
    random: &mut Rng,
    frame: &mut Vec<u8>,
    flow: &Flow,
    fragment: Option<u16>,
    length: usize,
) -> usize {
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 0xc1]);
    let tags = match random.u8(0..64) {
        0..8 => 1,
        8..10 => 2,
        10 => 3,
        _ => 0,
    };
    for _ in 0..tags {
        let kind = if random.bool() { 0x81 } else { 0x88 };
        let low = if kind == 0x81 { 0 } else { 0xa8 };
        frame.extend_from_slice(&[kind, low, random.u8(..), random.u8(..)]);
    }
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
        ipv6(random, frame, flow, fragment, length, [class, hops]);
    } else {
        ipv4(random, frame, flow, fragment, length, [class, hops]);
    }
    frame.len()
}

fn ipv4(
    random: &mut Rng,
    frame: &mut Vec<u8>,
    flow: &Flow,
    fragment: Option<u16>,
    length: usize,
    [class, hops]: [u8; 2],
) {
    let options = match random.u8(0..16) {
        0 => random.usize(0..11) * 4,
        _ => 0,
    };
    let whole = if random.u8(0..4) == 0 { 0 } else { 0x4000 };
    let fragment = fragment.unwrap_or(whole).to_be_bytes();
    let start = frame.len() + 2;
    frame.extend_from_slice(&[0x08, 0, 0x45 + (options / 4) as u8, class]);
    frame.extend_from_slice(&((20 + options + length) as u16).to_be_bytes());
    frame.extend_from_slice(&[random.u8(..), random.u8(..), fragment[0], fragment[1]]);
    frame.extend_from_slice(&[hops, flow.protocol, 0, 0]);
    frame.extend_from_slice(&flow.client[12..]);
    frame.extend_from_slice(&flow.vip[12..]);
    frame.resize(start + 20 + options, 1);
    let sum = Sum::default().bytes(&frame[start..]).finish();
    frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
}

fn ipv6(
    random: &mut Rng,
    frame: &mut Vec<u8>,
    flow: &Flow,
    fragment: Option<u16>,
    length: usize,
    [class, hops]: [u8; 2],
) {
    let mut headers: Vec<(u8, usize)> = Vec::new();
    if random.u8(0..8) == 0 {
        // As many as are looked through, now and then, and one or two more.
        let most = if random.u8(0..4) == 0 { 9 } else { 5 };
        for _ in 0..random.usize(1..most) {
            let common = [43, 60, 60, 60, 51, 51];
            let kind = match random.u8(0..8) {
                0 => random.choice([0, 44, 135, 59]),
                _ => random.choice(common),
            };
            match kind.unwrap_or(60) {
                44 => headers.push((44, 8)),
                kind => headers.push((kind, 8 * random.usize(1..4))),
            }
        }
    }
    if fragment.is_some() {
        let at = random.usize(0..=headers.len());
        headers.insert(at, (44, 8));
    }
    let extensions: usize = headers.iter().map(|(_, length)| length).sum();
    let next = |at: usize| headers.get(at).map_or(flow.protocol, |(kind, _)| *kind);
    let label = random.u8(0..16);
    frame.extend_from_slice(&[0x86, 0xdd, 0x60 | class >> 4, class << 4 | label, 1, 2]);
    frame.extend_from_slice(&((extensions + length) as u16).to_be_bytes());
    frame.extend_from_slice(&[next(0), hops]);
    frame.extend_from_slice(&flow.client);
    frame.extend_from_slice(&flow.vip);
    for (at, (kind, length)) in headers.iter().enumerate() {
        let end = frame.len() + length;
        // An authentication header counts its length in words of four bytes, without two of them.
        let counted = if *kind == 51 {
            length / 4 - 2
        } else {
            length / 8 - 1
        };
        frame.extend_from_slice(&[next(at + 1), counted as u8]);
        if *kind == 44 {
            // A second one says the same, or something else.
            let word = match fragment {
                Some(word) if random.u8(0..8) != 0 => word,
                _ => any_fragment(random),
            };
            let word = (word & 0x1fff) << 3 | u16::from(word & 0x2000 != 0);
            frame.extend_from_slice(&word.to_be_bytes());
        }
        if *kind == 43 {
            // A type, and how many segments are left.
            frame.extend_from_slice(&[4, u8::from(random.u8(0..4) == 0)]);
        }
        frame.resize(end, 1);
    }
}

/// Puts a transport checksum, the whole of the frame behind `start` being the transport's.
pub(super) fn put_sum(frame: &mut [u8], flow: &Flow, start: usize, at: usize) {
    let length = frame.len() - start;
    let sum = if flow.protocol == crate::frame::ICMP {
        Sum::default()
    } else {
        Sum::default().pseudo_header(flow.v6, &flow.client, &flow.vip, flow.protocol, length)
    };
    frame[at..at + 2].fill(0);
    let sum = sum.bytes(&frame[start..]).finish();
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// An echo request, or something near to one.
pub(super) fn echo(random: &mut Rng, frame: &mut Vec<u8>, flow: &Flow) {
    let payload = payload_length(random);
    let fragment = (random.u8(0..8) == 0).then(|| any_fragment(random));
    let start = headers(random, frame, flow, fragment, 8 + payload);
    let kind = match (random.u8(0..8), flow.protocol) {
        (0, _) => random.u8(..),
        (_, ICMPV6) => 128,
        _ => 8,
    };
    frame.extend_from_slice(&[kind, u8::from(random.u8(0..16) == 0), 0, 0]);
    frame.extend_from_slice(&random.u32(..).to_be_bytes());
    frame.resize(start + 8 + payload, random.u8(..));
    put_sum(frame, flow, start, start + 2);
}

/// Changes a few bytes, and perhaps where the frame ends.
pub(super) fn damage(random: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..frame.len().min(110));
        frame[at] = match random.u8(0..4) {
            0 => 0,
            1 => 0xff,
            2 => frame[at] ^ 1 << random.u8(0..8),
            _ => random.u8(..),
        };
    }
    if random.u8(0..3) == 0 {
        let length = random.usize(ETHERNET..frame.len() + 20);
        frame.resize(length, 0);
    }
}
