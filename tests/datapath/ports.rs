//! Out of which interface a packet leaves.

use anyhow::Result;
use lb_common::backend::{BackendId, NextHop};
use lb_tests::datapath::{LOOPBACK, Verdict};
use lb_tests::link::{self, End};
use lb_tests::mac::Mac;
use lb_tests::namespace::Namespace;
use lb_tests::packet;
use nix::net::if_::if_nametoindex;

use crate::setup::{CLIENT_V4, MTU, WEB_V4, backend_of, mac, one_backend};

const OTHER_PORT: u16 = 5;
const OTHER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x55]);

#[test]
fn the_interface_that_a_packet_came_by_decides_between_transmit_and_redirect() -> Result<()> {
    let here = Namespace::new("ports")?;
    let there = Namespace::new("peer")?;
    link::connect(&End::new(&here, "eth0"), &End::new(&there, "eth0"))?;
    here.run(|| {
        let eth0 = if_nametoindex("eth0")?;
        let mut gateway = one_backend()?;
        gateway.port(OTHER_PORT, eth0, OTHER_MAC, MTU)?;
        let packet = packet::tcp(CLIENT_V4, WEB_V4);
        for (port, port_mac, from, verdict) in [
            (0, crate::setup::GATEWAY_MAC, LOOPBACK, Verdict::Transmit),
            (0, crate::setup::GATEWAY_MAC, eth0, Verdict::Redirect),
            (OTHER_PORT, OTHER_MAC, eth0, Verdict::Transmit),
            (OTHER_PORT, OTHER_MAC, LOOPBACK, Verdict::Redirect),
        ] {
            gateway
                .states
                .set_next_hop(BackendId(0), NextHop::new(mac(0).0, port));
            let outcome = gateway.run_from(from, &packet.build())?;
            assert_eq!(
                outcome.verdict, verdict,
                "port {port} from interface {from}"
            );
            let expected = packet.clone().macs(port_mac, mac(0)).build();
            packet::assert_same(&outcome.frame, &expected);
        }
        Ok(())
    })
}

#[test]
fn a_changed_next_hop_takes_effect_on_the_next_packet() -> Result<()> {
    let mut gateway = one_backend()?;
    let frame = packet::tcp(CLIENT_V4, WEB_V4).build();
    for number in [0, 7, 300] {
        gateway
            .states
            .set_next_hop(BackendId(0), NextHop::new(mac(number).0, 0));
        assert_eq!(backend_of(&gateway.run(&frame)?), Some(number));
    }
    Ok(())
}
