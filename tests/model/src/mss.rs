//! The largest segment size that a SYN announces, brought down to what its service allows: with a
//! tunnel's header in front, the segments that the backend sends back need not fit, but the client's do.

use crate::frame::{self, Parsed};
use crate::plane::Plane;
use crate::rules::Rule;
use crate::sum::updated;
use crate::world::Service;

/// Kind and length of the option (RFC 9293 §3.7.1).
const MSS: [u8; 2] = [2, 4];

impl Plane {
    /// Changes the packet whose bytes end the frame that goes out.
    pub(crate) fn clamp(&mut self, packet: &Parsed, frame: &[u8], service: &Service) {
        if service.mss == 0 || !packet.is_syn() || !self.rules.hold(Rule::ClampsMss) {
            return;
        }
        let tcp = self.out.len() - (frame.len() - packet.transport);
        let header = usize::from(self.out[tcp + 12] >> 4) * 4;
        // A header that claims to be longer than its packet is not read.
        if packet.transport + header > packet.end {
            return;
        }
        let end = tcp + header;
        if let Some(at) = option(&self.out, tcp + 20, end)
            && u16::from_be_bytes([self.out[at], self.out[at + 1]]) > service.mss
        {
            self.rewrite(tcp, at, service.mss.to_be_bytes());
        }
    }

    /// Writes two bytes of a segment, which may lie across two words of its checksum.
    fn rewrite(&mut self, tcp: usize, at: usize, bytes: [u8; 2]) {
        let first = at - (at - tcp) % 2;
        let words = [first, first + 2];
        // Nothing lies behind a header without payload; options end at an even place, so what has
        // only half of a word there is not changed either.
        let word = |out: &[u8], at: usize| frame::word(out, at) as u16;
        let before = words.map(|at| word(&self.out, at));
        self.out[at..at + 2].copy_from_slice(&bytes);
        let mut sum = word(&self.out, tcp + 16);
        for (at, before) in words.into_iter().zip(before) {
            let after = word(&self.out, at);
            if after != before {
                sum = updated(sum, before, after);
            }
        }
        self.out[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Where the value of the option stands, if the options before it are well formed.
fn option(frame: &[u8], mut at: usize, end: usize) -> Option<usize> {
    loop {
        match frame.get(at..end)? {
            [1, ..] => at += 1,
            [kind, length, _, _, ..] if [*kind, *length] == MSS => return Some(at + 2),
            [2, ..] | [0, ..] => return None,
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
}
