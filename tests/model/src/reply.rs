//! What the gateway answers by itself.

use crate::count::{Drop, Reply};
use crate::frame::{ACK, FIN, ICMP, ICMPV6, Parsed, Part, RST, SYN, TCP, long, word};
use crate::hash::Ip;
use crate::plane::{Plane, Verdict};
use crate::rules::Rule;
use crate::sum::{Sum, updated};

/// Port-unreachable answers per tick of 2²³ ns.
const ANSWERS_PER_TICK: u32 = 32;

impl Plane {
    fn answered(&mut self, reply: Reply) -> Verdict {
        self.counters.replies[reply as usize] += 1;
        Verdict::Transmit
    }

    /// The Ethernet header back to whom the frame came from, its tags included.
    fn back(&mut self, packet: &Parsed, frame: &[u8]) {
        self.out.clear();
        self.out.extend_from_slice(&frame[6..12]);
        self.out.extend_from_slice(&frame[..6]);
        self.out.extend_from_slice(&frame[12..packet.network]);
    }

    /// An IP header from the VIP to the client.
    fn header_back(&mut self, packet: &Parsed, protocol: u8, length: usize) {
        if packet.v6 {
            self.out.extend_from_slice(&[0x60, 0, 0, 0]);
            self.out.extend_from_slice(&(length as u16).to_be_bytes());
            self.out.extend_from_slice(&[protocol, 64]);
            self.out.extend_from_slice(&packet.destination);
            self.out.extend_from_slice(&packet.source);
            return;
        }
        let mut header = [0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(length as u16 + 20).to_be_bytes());
        header[6] = 0x40;
        header[8] = 64;
        header[9] = protocol;
        header[12..16].copy_from_slice(&packet.destination[12..]);
        header[16..].copy_from_slice(&packet.source[12..]);
        let sum = Sum::default().bytes(&header).finish();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        self.out.extend_from_slice(&header);
    }

    /// RFC 9293 §3.10.7.1: what a closed port answers.
    pub(crate) fn reset(&mut self, packet: &Parsed, frame: &[u8], reply: Reply) -> Verdict {
        let segment = &frame[packet.transport..packet.end];
        let flags = packet.flags;
        let (sequence, acknowledgement, answer) = if flags & ACK != 0 {
            (long(segment, 8), 0, RST)
        } else {
            let header = usize::from(segment[12] >> 4) * 4;
            let ends = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            let length = segment.len().saturating_sub(header) as u32 + ends;
            (0, packet.sequence.wrapping_add(length), RST | ACK)
        };
        let mut header = [0; 20];
        header[..2].copy_from_slice(&segment[2..4]);
        header[2..4].copy_from_slice(&segment[..2]);
        header[4..8].copy_from_slice(&u32::to_be_bytes(sequence));
        header[8..12].copy_from_slice(&u32::to_be_bytes(acknowledgement));
        header[12] = 0x50;
        header[13] = answer;
        let sum = pseudo(packet, TCP, 20).bytes(&header).finish();
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        self.back(packet, frame);
        self.header_back(packet, TCP, 20);
        self.out.extend_from_slice(&header);
        self.answered(reply)
    }

    /// RFC 792 and 4443 §3.1: nobody listens on the port.
    pub(crate) fn unreachable(&mut self, packet: &Parsed, frame: &[u8]) -> Verdict {
        if !self.is_answerable(packet) {
            return self.drop(Drop::NoBackend);
        }
        if !self.may_answer() {
            return self.drop(Drop::ReplyLimit);
        }
        let quoted = quote(packet, frame);
        let (protocol, kind) = if packet.v6 {
            (ICMPV6, [1, 4])
        } else {
            (ICMP, [3, 3])
        };
        self.back(packet, frame);
        self.header_back(packet, protocol, 8 + quoted.len());
        let start = self.out.len();
        self.out.extend_from_slice(&kind);
        self.out.extend_from_slice(&[0; 6]);
        self.out.extend_from_slice(quoted);
        self.put_icmp_sum(packet, start);
        self.answered(Reply::Unreachable)
    }

    /// RFC 1191 and 4443 §3.2: what fits beside the tunnel's header.
    pub(crate) fn too_big(&mut self, packet: &Parsed, frame: &[u8], mtu: usize) -> Verdict {
        let may_fragment = !packet.v6 && frame[packet.network + 6] & 0x40 == 0;
        // No IPv6 link has less than 1280 (RFC 8200 §5): nothing smaller need be sent.
        // No IPv4 link has less than 68 (RFC 791 §3.2): a sender can not do what it is told.
        let is_small = packet.v6 && packet.length() <= 1280 || !packet.v6 && mtu < 68;
        if is_small || may_fragment || !self.is_answerable(packet) {
            return self.drop(Drop::TooBig);
        }
        if !self.may_answer() {
            return self.drop(Drop::ReplyLimit);
        }
        let mtu = if packet.v6 && self.rules.hold(Rule::SixNeedsNoLess) {
            mtu.max(1280)
        } else {
            mtu
        };
        let quoted = quote(packet, frame);
        let (protocol, kind) = if packet.v6 {
            (ICMPV6, [2, 0])
        } else {
            (ICMP, [3, 4])
        };
        self.back(packet, frame);
        self.header_back(packet, protocol, 8 + quoted.len());
        let start = self.out.len();
        self.out.extend_from_slice(&kind);
        self.out.extend_from_slice(&[0; 2]);
        self.out.extend_from_slice(&(mtu as u32).to_be_bytes());
        self.out.extend_from_slice(quoted);
        self.put_icmp_sum(packet, start);
        self.answered(Reply::TooBig)
    }

    /// RFC 1122 §3.2.2 and 4443 §2.4 (e): nothing about errors and later fragments, and nothing to
    /// a source that is no single host.
    fn is_answerable(&self, packet: &Parsed) -> bool {
        let is_one_host = if packet.v6 {
            let [start @ .., last] = packet.source;
            packet.source[0] != 0xff && (start != [0; 15] || last > 1)
        } else {
            !matches!(packet.source[12], 0 | 127 | 224..)
        };
        (is_one_host || !self.rules.hold(Rule::HostsAreAnswered))
            && !packet.is_icmp()
            && packet.part != Part::Later
    }

    fn may_answer(&mut self) -> bool {
        let moment = self.world.now >> 23;
        if self.answers.0 != moment {
            self.answers = (moment, 0);
        }
        self.answers.1 += 1;
        self.answers.1 <= ANSWERS_PER_TICK || !self.rules.hold(Rule::AnswersAreLimited)
    }

    /// RFC 792 and 4443 §4.2: the request's own data back.
    pub(crate) fn echo(&mut self, packet: &Parsed, frame: &[u8]) -> Verdict {
        self.back(packet, frame);
        self.out.extend_from_slice(&frame[packet.network..]);
        let (ip, icmp) = (packet.network, packet.transport);
        if packet.v6 {
            self.out[ip + 7] = 64;
            self.out[ip + 8..ip + 24].copy_from_slice(&packet.destination);
            self.out[ip + 24..ip + 40].copy_from_slice(&packet.source);
            self.replace(icmp + 2, icmp, 129);
        } else {
            self.replace(ip + 10, ip + 8, 64);
            self.out[ip + 12..ip + 16].copy_from_slice(&packet.destination[12..]);
            self.out[ip + 16..ip + 20].copy_from_slice(&packet.source[12..]);
            self.replace(icmp + 2, icmp, 0);
        }
        self.answered(Reply::Echo)
    }

    /// Changes the first byte of a word, and the checksum over it.
    fn replace(&mut self, sum_at: usize, at: usize, byte: u8) {
        let before = word(&self.out, at) as u16;
        self.out[at] = byte;
        let sum = updated(
            word(&self.out, sum_at) as u16,
            before,
            word(&self.out, at) as u16,
        );
        self.out[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn put_icmp_sum(&mut self, packet: &Parsed, start: usize) {
        let length = self.out.len() - start;
        let sum = if packet.v6 {
            pseudo(packet, ICMPV6, length)
        } else {
            Sum::default()
        };
        let sum = sum.bytes(&self.out[start..]).finish();
        self.out[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// As much of the packet as fits in 512 bytes, in words of four.
fn quote<'a>(packet: &Parsed, frame: &'a [u8]) -> &'a [u8] {
    let length = packet.length().min(512) & !3;
    &frame[packet.network..packet.network + length]
}

fn pseudo(packet: &Parsed, protocol: u8, length: usize) -> Sum {
    let (from, to): (&Ip, &Ip) = (&packet.destination, &packet.source);
    Sum::default().pseudo_header(packet.v6, from, to, protocol, length)
}
