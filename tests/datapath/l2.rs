//! Forwarding without a tunnel: only the MAC addresses change.

use anyhow::Result;
use lb_common::backend::BackendId;
use lb_common::counters::Traffic;
use lb_tests::packet::{self, SYN};

use crate::setup::{
    CLIENT_V4, GATEWAY_MAC, WEB_V4, assert_transmitted, mac, one_backend, served, service_traffic,
};

#[test]
fn only_the_mac_addresses_change() -> Result<()> {
    let mut gateway = one_backend()?;
    let odd = [
        ("syn", packet::tcp(CLIENT_V4, WEB_V4).flags(SYN)),
        (
            "tcp options",
            packet::tcp(CLIENT_V4, WEB_V4).tcp_options(&[1; 40]),
        ),
        (
            "ip options",
            packet::tcp(CLIENT_V4, WEB_V4).ip_options(&[1; 40]),
        ),
        (
            "full size",
            packet::tcp(CLIENT_V4, WEB_V4).payload(&[7; 1460]),
        ),
        ("last hop", packet::tcp(CLIENT_V4, WEB_V4).hop_limit(1)),
        (
            "wrong checksum",
            packet::tcp(CLIENT_V4, WEB_V4).wrong_checksum(),
        ),
    ];
    for (name, packet) in served().into_iter().chain(odd) {
        let outcome = gateway.run(&packet.build())?;
        let expected = packet.macs(GATEWAY_MAC, mac(0)).build();
        assert_transmitted(name, &outcome, &expected);
    }
    Ok(())
}

#[test]
fn ethernet_padding_stays() -> Result<()> {
    let mut gateway = one_backend()?;
    let packet = packet::tcp(CLIENT_V4, WEB_V4);
    let padded = |frame: packet::Frame| {
        let mut bytes = frame.0;
        bytes.resize(60, 0xee);
        packet::Frame(bytes)
    };
    let outcome = gateway.run(&padded(packet.build()))?;
    let expected = padded(packet.macs(GATEWAY_MAC, mac(0)).build());
    assert_transmitted("padded", &outcome, &expected);
    Ok(())
}

#[test]
fn packets_bytes_and_new_flows_are_counted_for_service_and_backend() -> Result<()> {
    let mut gateway = one_backend()?;
    let syn = packet::tcp(CLIENT_V4, WEB_V4).flags(SYN).build();
    let data = packet::tcp(CLIENT_V4, WEB_V4).payload(&[0; 100]).build();
    for frame in [&syn, &data, &data] {
        gateway.run(frame)?;
    }
    let expected = Traffic {
        packets: 3,
        bytes: (syn.len() + 2 * data.len()) as u64,
        new_flows: 1,
        diverted: 0,
    };
    assert_eq!(gateway.counters.backend(BackendId(0))?, expected);
    assert_eq!(service_traffic(&gateway)?, expected);
    Ok(())
}
