//! Every reason for which a packet is dropped, each by the packet that brings it about.

use std::collections::BTreeSet;

use anyhow::Result;
use lb_common::backend::{Backend, BackendId, BackendState, Encapsulation, NextHop};
use lb_common::pool::OnEmpty;
use lb_common::verdict::DropReason;
use lb_tests::datapath::{Gateway, Verdict};
use lb_tests::packet::{self, Frame, RST};
use lb_userspace::agent::plan::MapWrite;

use crate::setup::{
    CLIENT_V4, CLIENT_V6, DNS_V4, POOL, VIP_V4, VIP_V6, WEB_V4, bare, empty, mac, one_backend,
    one_pool, slot,
};

fn tunnelled() -> Result<Gateway> {
    one_pool(
        OnEmpty::Reset,
        &[("10.0.1.11", Encapsulation::Ipv4)],
        vec![slot(&[0])],
    )
}

fn without_next_hop() -> Result<Gateway> {
    let gateway = one_backend()?;
    gateway
        .states
        .set_next_hop(BackendId(0), NextHop::UNRESOLVED);
    Ok(gateway)
}

fn behind_a_port_that_nobody_made(port: u16) -> Result<Gateway> {
    let gateway = one_backend()?;
    gateway
        .states
        .set_next_hop(BackendId(0), NextHop::new(mac(0).0, port));
    Ok(gateway)
}

fn without_table() -> Result<Gateway> {
    let mut gateway = bare()?;
    gateway.pool(POOL.0, OnEmpty::Reset, vec![slot(&[0])]);
    gateway.service(VIP_V4.parse()?, 80, lb_common::packet::TCP, POOL);
    gateway.desired.tables.clear();
    gateway.apply()?;
    Ok(gateway)
}

/// The owner died lately, another takes new flows.
fn with_a_lost_owner() -> Result<Gateway> {
    let gateway = one_pool(
        OnEmpty::Reset,
        &[
            ("10.0.1.11", Encapsulation::Ethernet),
            ("10.0.1.12", Encapsulation::Ethernet),
        ],
        vec![slot(&[0, 1])],
    )?;
    gateway
        .states
        .set_state(BackendId(0), BackendState(BackendState::LOST));
    Ok(gateway)
}

fn with_a_backend_of_no_kind() -> Result<Gateway> {
    let mut gateway = one_backend()?;
    let backend = Backend {
        encapsulation: 0,
        ..gateway.desired.backends[&BackendId(0)]
    };
    gateway.datapath.apply(&MapWrite::Backend {
        id: BackendId(0),
        backend,
    })?;
    gateway.up(BackendId(0), mac(0), 0);
    Ok(gateway)
}

#[test]
fn every_drop_has_its_reason_and_is_counted_once() -> Result<()> {
    let web = || packet::tcp(CLIENT_V4, WEB_V4).build();
    let first_fragment = || {
        packet::udp(CLIENT_V4, DNS_V4)
            .fragment(0, true)
            .payload(&[0; 8])
            .build()
    };
    let later_fragment = || {
        packet::ip("203.0.113.7", VIP_V4, 17)
            .fragment(1480, false)
            .payload(&[0; 64])
            .build()
    };
    let later_fragment_v6 = || {
        packet::ip("2001:db8:7::7", VIP_V6, 17)
            .fragment(8, true)
            .payload(&[0; 64])
            .build()
    };
    let echo_fragment = || {
        packet::echo_request("203.0.113.7", VIP_V4, 1, 1)
            .fragment(0, true)
            .build()
    };
    let first_fragment_v6 = || {
        packet::tcp(CLIENT_V6, "[2001:db8:100::a]:80")
            .fragment(0, true)
            .build()
    };
    let large = || packet::tcp(CLIENT_V4, WEB_V4).payload(&[0; 1461]).build();
    let cases: Vec<(&str, Gateway, Frame, DropReason)> = vec![
        (
            "no backend",
            empty(OnEmpty::Drop)?,
            web(),
            DropReason::NoBackend,
        ),
        (
            "next hop unknown",
            without_next_hop()?,
            web(),
            DropReason::NoNextHop,
        ),
        ("above the MTU", one_backend()?, large(), DropReason::TooBig),
        (
            "first fragment",
            one_backend()?,
            first_fragment(),
            DropReason::Fragment,
        ),
        (
            "first fragment, v6",
            one_backend()?,
            first_fragment_v6(),
            DropReason::Fragment,
        ),
        (
            "later fragment",
            one_backend()?,
            later_fragment(),
            DropReason::Fragment,
        ),
        (
            "later fragment, v6",
            one_backend()?,
            later_fragment_v6(),
            DropReason::Fragment,
        ),
        (
            "fragment of an echo",
            one_backend()?,
            echo_fragment(),
            DropReason::Fragment,
        ),
        (
            "port unused",
            behind_a_port_that_nobody_made(3)?,
            web(),
            DropReason::NoDevice,
        ),
        (
            "port beyond all",
            behind_a_port_that_nobody_made(64)?,
            web(),
            DropReason::NoDevice,
        ),
        (
            "reset of a lost flow",
            with_a_lost_owner()?,
            packet::tcp(CLIENT_V4, WEB_V4).flags(RST).build(),
            DropReason::BackendLost,
        ),
        ("no table", without_table()?, web(), DropReason::NoTable),
        (
            "backend of no kind",
            with_a_backend_of_no_kind()?,
            web(),
            DropReason::Internal,
        ),
    ];
    // These two have tests of their own.
    let mut seen = BTreeSet::from([DropReason::NoHeadroom.name(), DropReason::ReplyLimit.name()]);
    for (name, mut gateway, frame, reason) in cases {
        assert_eq!(gateway.run(&frame)?.verdict, Verdict::Drop, "{name}");
        for (counted, count) in gateway.counters.drops()? {
            assert_eq!(
                count,
                u64::from(counted == reason.name()),
                "{name}: {counted}"
            );
        }
        seen.insert(reason.name());
    }
    assert_eq!(
        seen.len(),
        DropReason::ALL.len(),
        "only {seen:?} have a case"
    );
    Ok(())
}

#[test]
fn a_frame_without_room_in_front_is_dropped() -> Result<()> {
    let mut gateway = tunnelled()?;
    let frame = packet::tcp(CLIENT_V4, WEB_V4).build();
    assert_eq!(
        gateway.run_with_headroom(48, &frame)?.verdict,
        Verdict::Drop
    );
    assert_eq!(gateway.counters.drops()?["no_headroom"], 1);
    assert_eq!(gateway.run(&frame)?.verdict, Verdict::Transmit);
    Ok(())
}
