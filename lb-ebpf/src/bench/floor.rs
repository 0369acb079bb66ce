//! The least that a stateless IPIP balancer can do: parse, one hash lookup for the service, three
//! array lookups for slot, backend and port, one outer header. It counts nothing, checks no length
//! against an MTU, has no states, no ladder, no options, no fragments.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::address::Address;
use lb_common::backend::Backend;
use lb_common::packet::Cursor;
use lb_common::port::Port;
use lb_common::service::ServiceKey;

use crate::cursor::Frame;

const TABLE_SLOTS: u32 = 65_536;
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TTL: u8 = 64;

/// Service → its first backend; the table's numbers count from there.
#[btf_map]
static FLOOR_SERVICES: HashMap<ServiceKey, u32, 8192> = HashMap::new();
#[btf_map]
static FLOOR_TABLE: Array<u32, { TABLE_SLOTS as usize }> = Array::new();
#[btf_map]
static FLOOR_BACKENDS: Array<Backend, 8192> = Array::new();
#[btf_map]
static FLOOR_PORTS: Array<Port, 64> = Array::new();

#[xdp(frags)]
pub fn lb_bench_floor(ctx: XdpContext) -> u32 {
    balance(&mut Frame::new(&ctx)).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn balance(frame: &mut Frame<'_>) -> Option<u32> {
    let ethernet: &[u8; ETHERNET_LEN] = frame.bytes(0)?;
    match [ethernet[12], ethernet[13]] {
        [0x08, 0x00] => balance_v4(frame),
        [0x86, 0xdd] => balance_v6(frame),
        _ => None,
    }
}

#[inline(always)]
fn balance_v4(frame: &mut Frame<'_>) -> Option<u32> {
    let bytes: &[u8; ETHERNET_LEN + IPV4_LEN + 4] = frame.bytes(0)?;
    if bytes[14] != 0x45 || !matches!(bytes[23], 6 | 17) {
        return None;
    }
    let source = word(bytes, 26);
    let destination = Address::v4(word(bytes, 30).to_ne_bytes());
    let ports = word(bytes, 34);
    let length = u16::from_be_bytes([bytes[16], bytes[17]]);
    let (backend, port) = choose(destination, bytes[23], u64::from(source), ports)?;

    let [high, low] = (length + IPV4_LEN as u16).to_be_bytes();
    let first = u32::from_ne_bytes([0x45, 0, high, low]);
    let third = u32::from_ne_bytes([TTL, 4, 0, 0]);
    let outer_source = u32::from_ne_bytes([198, 18, 0, 1]);
    let outer_destination = backend.address.words[3];
    let sum =
        lb_common::checksum::finish_words(&[first, 0, third, outer_source, outer_destination]);
    frame.grow_head(IPV4_LEN as i32)?;
    frame.write::<{ ETHERNET_LEN + IPV4_LEN }>(0, |bytes| {
        ethernet(bytes, backend, port, [0x08, 0x00]);
        bytes[14..18].copy_from_slice(&first.to_ne_bytes());
        bytes[18..22].copy_from_slice(&[0; 4]);
        bytes[22..24].copy_from_slice(&[TTL, 4]);
        bytes[24..26].copy_from_slice(&sum);
        bytes[26..30].copy_from_slice(&outer_source.to_ne_bytes());
        bytes[30..34].copy_from_slice(&outer_destination.to_ne_bytes());
    })?;
    Some(xdp_action::XDP_TX)
}

#[inline(always)]
fn balance_v6(frame: &mut Frame<'_>) -> Option<u32> {
    let bytes: &[u8; ETHERNET_LEN + IPV6_LEN + 4] = frame.bytes(0)?;
    if bytes[14] >> 4 != 6 || !matches!(bytes[20], 6 | 17) {
        return None;
    }
    let source = u64::from(word(bytes, 30)) << 32 | u64::from(word(bytes, 34));
    let destination = Address {
        words: [
            word(bytes, 38),
            word(bytes, 42),
            word(bytes, 46),
            word(bytes, 50),
        ],
    };
    let ports = word(bytes, 54);
    let length = u16::from_be_bytes([bytes[18], bytes[19]]) + IPV6_LEN as u16;
    let (backend, port) = choose(destination, bytes[20], source, ports)?;

    frame.grow_head(IPV6_LEN as i32)?;
    frame.write::<{ ETHERNET_LEN + IPV6_LEN }>(0, |bytes| {
        ethernet(bytes, backend, port, [0x86, 0xdd]);
        bytes[14..18].copy_from_slice(&[0x60, 0, 0, 0]);
        bytes[18..20].copy_from_slice(&length.to_be_bytes());
        bytes[20..22].copy_from_slice(&[41, TTL]);
        bytes[22..38].copy_from_slice(&Address::v6([1; 16]).octets());
        bytes[38..54].copy_from_slice(&backend.address.octets());
    })?;
    Some(xdp_action::XDP_TX)
}

#[inline(always)]
fn choose(
    destination: Address,
    protocol: u8,
    source: u64,
    ports: u32,
) -> Option<(&'static Backend, &'static Port)> {
    let [_, _, high, low] = ports.to_ne_bytes();
    let key = ServiceKey {
        address: destination,
        port: [high, low],
        protocol,
        pad: 0,
    };
    // SAFETY: nothing writes the map while a program runs.
    let first = unsafe { FLOOR_SERVICES.get(&key) }?;
    let mixed = (source ^ u64::from(ports) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let slot = (mixed >> 48) as u32 % TABLE_SLOTS;
    let backend = FLOOR_BACKENDS.get(first + FLOOR_TABLE.get(slot)?)?;
    let port = FLOOR_PORTS.get(u32::from(backend.next_hop.port()))?;
    Some((backend, port))
}

#[inline(always)]
fn ethernet<const N: usize>(
    bytes: &mut [u8; N],
    backend: &Backend,
    port: &Port,
    ethertype: [u8; 2],
) {
    bytes[..6].copy_from_slice(&backend.next_hop.mac());
    bytes[6..12].copy_from_slice(&port.mac);
    bytes[12..14].copy_from_slice(&ethertype);
}

#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
