//! Which service a packet is for.

use std::net::IpAddr;

use anyhow::{Context, Result};
use lb_common::backend::{BackendId, Encapsulation};
use lb_common::packet::{TCP, UDP};
use lb_common::pool::{OnEmpty, PoolId};
use lb_common::service::{ServiceKey, service_cell_index};
use lb_tests::datapath::Gateway;
use lb_tests::packet;

use crate::setup::{CLIENT_V4, VIP_V4, assert_passed, backend_of, bare, mac, slot};

/// A gateway with `pools` pools of one backend each; backend and pool have the same number.
fn pools(pools: u16) -> Result<Gateway> {
    let mut gateway = bare()?;
    for number in 0..pools {
        let pool = gateway.pool(u32::from(number), OnEmpty::Drop, vec![slot(&[number])]);
        let address: IpAddr = format!("10.0.1.{number}").parse()?;
        gateway.backend(number, pool, address, Encapsulation::Ethernet);
    }
    gateway.apply()?;
    for number in 0..pools {
        gateway.up(BackendId(number), mac(number), 0);
    }
    Ok(gateway)
}

/// The backend that gets a packet of the client to this address and port.
fn reached(gateway: &mut Gateway, vip: &str, port: u16, protocol: u8) -> Result<Option<u16>> {
    let to = format!("{vip}:{port}");
    let packet = if protocol == TCP {
        packet::tcp(CLIENT_V4, to.as_str())
    } else {
        packet::udp(CLIENT_V4, to.as_str())
    };
    Ok(backend_of(&gateway.run(&packet.build())?))
}

#[test]
fn vips_ports_and_protocols_share_a_pool_and_count_apart() -> Result<()> {
    let mut gateway = pools(1)?;
    let mut services = Vec::new();
    for vip in ["198.51.100.10", "198.51.100.11", "192.0.2.1"] {
        for (port, protocol) in [(80, TCP), (443, TCP), (443, UDP)] {
            let counters = gateway.service(vip.parse()?, port, protocol, PoolId(0));
            services.push((vip, port, protocol, counters));
        }
    }
    gateway.apply()?;
    for (vip, port, protocol, _) in &services {
        assert_eq!(
            reached(&mut gateway, vip, *port, *protocol)?,
            Some(0),
            "{vip}:{port}"
        );
    }
    for (vip, port, protocol, counters) in services {
        let traffic = gateway.counters.service(counters)?;
        assert_eq!(traffic.packets, 1, "{vip}:{port}/{protocol}");
    }
    assert_eq!(gateway.counters.backend(BackendId(0))?.packets, 9);
    Ok(())
}

#[test]
fn an_exact_port_beats_any_port_and_any_port_takes_the_rest() -> Result<()> {
    let mut gateway = pools(2)?;
    gateway.service(VIP_V4.parse()?, 0, TCP, PoolId(0));
    gateway.service(VIP_V4.parse()?, 443, TCP, PoolId(1));
    gateway.apply()?;
    for (port, backend) in [(443, 1), (442, 0), (1, 0), (65_535, 0)] {
        assert_eq!(
            reached(&mut gateway, VIP_V4, port, TCP)?,
            Some(backend),
            "port {port}"
        );
    }
    assert_eq!(
        reached(&mut gateway, VIP_V4, 442, UDP)?,
        None,
        "the other protocol"
    );
    assert_eq!(
        reached(&mut gateway, "198.51.100.11", 442, TCP)?,
        None,
        "the address beside it"
    );
    Ok(())
}

/// Two ports of the VIP whose services fall on one cell.
fn colliding_ports() -> Result<[u16; 2]> {
    let cell = |port: u16| {
        service_cell_index(&ServiceKey {
            address: packet::Address::address(VIP_V4).into(),
            port: port.to_be_bytes(),
            protocol: TCP,
            pad: 0,
        })
    };
    let second = (2..=u16::MAX).find(|port| cell(*port) == cell(1));
    Ok([
        1,
        second.context("no two of 65,535 ports fall on one of 16,384 cells")?,
    ])
}

#[test]
fn services_that_hash_to_one_cell_are_all_served() -> Result<()> {
    let [first, second] = colliding_ports()?;
    for added in [[first, second], [second, first]] {
        let mut gateway = pools(2)?;
        for (port, pool) in added.into_iter().zip(0..) {
            gateway.service(VIP_V4.parse()?, port, TCP, PoolId(pool));
            gateway.apply()?;
        }
        for (port, backend) in added.into_iter().zip(0..) {
            assert_eq!(reached(&mut gateway, VIP_V4, port, TCP)?, Some(backend));
        }
        // The one that has the cell goes; the other never had it and stays.
        gateway
            .desired
            .services
            .retain(|key, _| key.port != added[0].to_be_bytes());
        gateway.apply()?;
        assert_eq!(reached(&mut gateway, VIP_V4, added[0], TCP)?, None);
        assert_eq!(reached(&mut gateway, VIP_V4, added[1], TCP)?, Some(1));
    }
    Ok(())
}

#[test]
fn a_service_that_changes_its_pool_does_so_with_the_next_packet() -> Result<()> {
    let mut gateway = pools(2)?;
    gateway.service(VIP_V4.parse()?, 80, TCP, PoolId(0));
    gateway.apply()?;
    for pool in [0, 1, 0] {
        for service in gateway.desired.services.values_mut() {
            service.pool = pool as u16;
        }
        gateway.apply()?;
        assert_eq!(reached(&mut gateway, VIP_V4, 80, TCP)?, Some(pool as u16));
    }
    Ok(())
}

#[test]
fn a_removed_vip_is_not_ours_any_more() -> Result<()> {
    let mut gateway = pools(1)?;
    gateway.service(VIP_V4.parse()?, 80, TCP, PoolId(0));
    gateway.apply()?;
    assert_eq!(reached(&mut gateway, VIP_V4, 80, TCP)?, Some(0));
    gateway.desired.services.clear();
    gateway.desired.vips.fill(0);
    gateway.apply()?;
    for frame in [
        packet::tcp(CLIENT_V4, "198.51.100.10:80").build(),
        packet::echo_request("203.0.113.7", VIP_V4, 1, 1).build(),
    ] {
        assert_passed("removed", &gateway.run(&frame)?, &frame);
    }
    Ok(())
}
