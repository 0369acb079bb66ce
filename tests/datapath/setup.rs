//! Gateways to send packets through, and what the tests have in common.

use anyhow::Result;
use lb_common::address::Address;
use lb_common::backend::{BackendId, Encapsulation};
use lb_common::counters::Traffic;
use lb_common::ladder::{RUNGS, Slot};
use lb_common::packet::{TCP, UDP};
use lb_common::pool::{OnEmpty, PoolId};
use lb_common::settings::Settings;
use lb_tests::datapath::{Gateway, LOOPBACK, Outcome, Verdict};
use lb_tests::mac::Mac;
use lb_tests::packet::{self, Builder, Frame};

pub const VIP_V4: &str = "198.51.100.10";
pub const VIP_V6: &str = "2001:db8:100::a";
/// The services of [`one_pool`].
pub const WEB_V4: &str = "198.51.100.10:80";
pub const DNS_V4: &str = "198.51.100.10:53";
pub const WEB_V6: &str = "[2001:db8:100::a]:80";
pub const DNS_V6: &str = "[2001:db8:100::a]:53";
pub const CLIENT_V4: &str = "203.0.113.7:40000";
pub const CLIENT_V6: &str = "[2001:db8:7::7]:40000";

/// The MAC address of port 0.
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
pub const MTU: u32 = 1500;
/// The pool of [`one_pool`].
pub const POOL: PoolId = PoolId(0);

/// The MAC address of a backend.
pub fn mac(id: u16) -> Mac {
    let [high, low] = id.to_be_bytes();
    Mac([2, 0, 0, 0xbb, high, low])
}

/// A slot with these rungs, the rest of them unused.
pub fn slot(ids: &[u16]) -> Slot {
    let mut rungs = [BackendId::NONE; RUNGS];
    for (rung, id) in rungs.iter_mut().zip(ids) {
        *rung = BackendId(*id);
    }
    Slot::new(rungs)
}

/// A gateway with port 0 on loopback, tunnel sources 198.18.0.0/16 and 100::/64, and nothing else.
pub fn bare() -> Result<Gateway> {
    let mut gateway = Gateway::new()?;
    fill_bare(&mut gateway)?;
    Ok(gateway)
}

fn fill_bare(gateway: &mut Gateway) -> Result<()> {
    gateway.port(0, LOOPBACK, GATEWAY_MAC, MTU)?;
    gateway.settings(Settings {
        tunnel_source_v4: Address::v4([198, 18, 0, 0]),
        tunnel_source_v6: Address::v6([0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        tunnel_fill_v4: u32::from_ne_bytes([0, 0, 0xff, 0xff]),
        tunnel_fill_v6: u32::MAX,
    });
    Ok(())
}

/// A gateway with one pool, whose backends (ids from 0 on) are all up behind port 0, and four
/// services: TCP port 80 and UDP port 53 of both VIPs.
pub fn one_pool(
    on_empty: OnEmpty,
    backends: &[(&str, Encapsulation)],
    table: Vec<Slot>,
) -> Result<Gateway> {
    let mut gateway = Gateway::new()?;
    fill_one_pool(&mut gateway, on_empty, backends, table)?;
    Ok(gateway)
}

/// The same, in a gateway that was loaded in another way.
pub fn fill_one_pool(
    gateway: &mut Gateway,
    on_empty: OnEmpty,
    backends: &[(&str, Encapsulation)],
    table: Vec<Slot>,
) -> Result<()> {
    fill_bare(gateway)?;
    gateway.pool(POOL.0, on_empty, table);
    for (id, (address, encapsulation)) in (0..).zip(backends) {
        gateway.backend(id, POOL, *address, *encapsulation);
    }
    for vip in [VIP_V4, VIP_V6] {
        gateway.service(vip.parse()?, 80, TCP, POOL);
        gateway.service(vip.parse()?, 53, UDP, POOL);
    }
    gateway.apply()?;
    for id in 0..backends.len() as u16 {
        gateway.up(BackendId(id), mac(id), 0);
    }
    Ok(())
}

/// As [`one_pool`], with one backend that is reached without a tunnel.
pub fn one_backend() -> Result<Gateway> {
    one_pool(
        OnEmpty::Reset,
        &[("10.0.1.11", Encapsulation::Ethernet)],
        vec![slot(&[0])],
    )
}

/// As [`one_pool`], with no backend at all.
pub fn empty(on_empty: OnEmpty) -> Result<Gateway> {
    one_pool(on_empty, &[], vec![Slot::EMPTY])
}

/// A packet of each kind that [`one_pool`] serves.
pub fn served() -> [(&'static str, Builder); 4] {
    [
        ("tcp4", packet::tcp(CLIENT_V4, WEB_V4).payload(b"hello")),
        ("udp4", packet::udp(CLIENT_V4, DNS_V4).payload(b"query")),
        ("tcp6", packet::tcp(CLIENT_V6, WEB_V6).payload(b"hello")),
        ("udp6", packet::udp(CLIENT_V6, DNS_V6).payload(b"query")),
    ]
}

/// Fails unless the frame was sent out of the port that it came in by, and is just as expected.
#[track_caller]
pub fn assert_transmitted(name: &str, outcome: &Outcome, expected: &Frame) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{name}");
    if let Some(difference) = packet::difference(&outcome.frame, expected) {
        panic!("{name}:\n{difference}{:?}", outcome.frame);
    }
}

/// Fails unless the frame went on to the kernel just as it came.
#[track_caller]
pub fn assert_passed(name: &str, outcome: &Outcome, frame: &[u8]) {
    assert_eq!(outcome.verdict, Verdict::Pass, "{name}");
    assert!(
        *outcome.frame == *frame,
        "{name}: changed to\n{:?}",
        outcome.frame
    );
}

/// The id of the backend to which a frame of [`one_pool`] left without a tunnel; `None` if it did
/// not leave.
pub fn backend_of(outcome: &Outcome) -> Option<u16> {
    let left = matches!(outcome.verdict, Verdict::Transmit | Verdict::Redirect);
    let id = u16::from_be_bytes([outcome.frame[4], outcome.frame[5]]);
    (left && outcome.frame[..6] == mac(id).0).then_some(id)
}

/// The sum of the counters of all services of a pool.
pub fn service_traffic(gateway: &Gateway) -> Result<Traffic> {
    let mut total = Traffic::default();
    for service in gateway.desired.services.values() {
        total += gateway.counters.service(service.counters)?;
    }
    Ok(total)
}
