//! ICMP errors about what a VIP sent to the client of a flow.

use fastrand::Rng;

use super::build;
use super::packet::Flow;
use super::setting::{self, VIPS};
use crate::frame::{ICMP, ICMPV6};

/// An error that somebody on the way, mostly the client itself, sends to the VIP.
pub(super) fn build(random: &mut Rng, frame: &mut Vec<u8>, flow: &Flow) {
    let error = Flow {
        protocol: if flow.v6 { ICMPV6 } else { ICMP },
        ..*flow
    };
    let mut back = *flow;
    (back.client, back.vip) = (flow.vip, flow.client);
    if random.u8(0..16) == 0 {
        // Another VIP's, perhaps, than the one that it is sent to.
        back.client = setting::vip(flow.v6, random.u8(0..VIPS));
    }
    let [a, b, c, d] = flow.ports;
    back.ports = [c, d, a, b];
    let mut quote = Vec::new();
    let transport = random.usize(8..32);
    let fragment = (random.u8(0..16) == 0).then_some(0x2000 + random.u16(0..2));
    build::headers(random, &mut quote, &back, fragment, transport);
    quote.extend_from_slice(&back.ports);
    quote.extend_from_slice(&random.u32(..).to_be_bytes());
    quote.resize(quote.len() + transport - 8, 0x11);
    let network = 14 + crate::frame::ethertype(&quote).map_or(0, |(tags, _)| tags);
    quote.drain(..network);
    if random.u8(0..8) == 0 {
        quote.truncate(random.usize(0..quote.len()));
    }
    let fragment = (random.u8(0..16) == 0).then(|| build::any_fragment(random));
    let start = build::headers(random, frame, &error, fragment, 8 + quote.len());
    let kinds: &[u8] = if flow.v6 {
        &[1, 2, 3, 4]
    } else {
        &[3, 11, 12, 4, 5]
    };
    let kind = kinds[random.usize(0..kinds.len())];
    frame.extend_from_slice(&[kind, random.u8(0..6), 0, 0]);
    frame.extend_from_slice(&random.u32(0..1501).to_be_bytes());
    frame.extend_from_slice(&quote);
    build::put_sum(frame, &error, start, start + 2);
}
