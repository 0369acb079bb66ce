//! Interfaces, next hops, VIPs and announcements against the real kernel, in namespaces of their own
//! (root).

#[path = "netlink/host.rs"]
mod host;
#[path = "netlink/namespace.rs"]
mod namespace;

use std::{
    collections::HashSet,
    net::{IpAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use lb_userspace::agent::{
    interface::{Interface, Mac},
    neighbour::{self, NextHop, NextHopChange, NextHops, Target, Unresolved},
    netlink::Netlink,
};
use namespace::{Namespace, ip_in};
use tokio::{sync::mpsc, time::timeout};

/// Far beyond anything that these tests wait for.
const PATIENCE: Duration = Duration::from_secs(20);

const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
const OTHER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x0c]);

/// A gateway and a peer, their `eth0` wired to each other: 10.77.0.1 and .2, fd77::1 and ::2.
fn pair() -> (Namespace, Namespace) {
    let (gateway, peer) = (Namespace::new("gw"), Namespace::new("peer"));
    gateway.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        peer.name()
    ));
    peer.ip(&format!("link set eth0 address {PEER_MAC}"));
    for (namespace, host) in [(&gateway, 1), (&peer, 2)] {
        namespace.ip("link set lo up");
        namespace.ip(&format!("addr add 10.77.0.{host}/24 dev eth0"));
        namespace.ip(&format!("addr add fd77::{host}/64 dev eth0 nodad"));
        namespace.ip("link set eth0 up");
    }
    // Neighbour discovery asks from the link-local address, which the kernel makes and checks
    // against duplicates first.
    for namespace in [&gateway, &peer] {
        eventually("a link-local address", || {
            let shown = namespace.ip("-6 addr show dev eth0 scope link");
            shown.contains("fe80::") && !shown.contains("tentative")
        });
    }
    (gateway, peer)
}

/// Waits for what no event tells of.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn target(id: u32, to: &str) -> Target {
    Target {
        id,
        address: address(to),
        on_link_required: false,
    }
}

/// The next change, which must be of this target.
async fn change(
    changes: &mut mpsc::Receiver<NextHopChange>,
    id: u32,
) -> Result<NextHop, Unresolved> {
    let change = timeout(PATIENCE, changes.recv())
        .await
        .expect("a change in time")
        .expect("the watcher runs");
    assert_eq!(change.id, id, "{change:?}");
    change.result
}

/// Waits until a change of this target is as wanted, and returns it.
async fn change_until(
    changes: &mut mpsc::Receiver<NextHopChange>,
    id: u32,
    is_wanted: impl Fn(&Result<NextHop, Unresolved>) -> bool,
) -> Result<NextHop, Unresolved> {
    let mut seen = Vec::new();
    loop {
        match timeout(PATIENCE, changes.recv()).await {
            Ok(Some(change)) if change.id == id && is_wanted(&change.result) => {
                return change.result;
            }
            Ok(Some(change)) => seen.push(change),
            _ => panic!("target {id} did not become what it should; seen: {seen:?}"),
        }
    }
}

#[test]
fn an_on_link_address_resolves_to_its_own_mac_in_both_families() {
    let (gateway, _peer) = pair();
    gateway.run(async {
        let netlink = Netlink::open().unwrap();
        let eth0 = Interface::by_name(&netlink, "eth0").await.unwrap();
        let (next_hops, mut changes) = NextHops::start(netlink).unwrap();
        for (id, to, from) in [(1, "10.77.0.2", "10.77.0.1"), (2, "fd77::2", "fd77::1")] {
            let mut wanted = target(id, to);
            wanted.on_link_required = true;
            next_hops.set_targets(vec![wanted]);
            let expected = NextHop {
                interface_index: eth0.index,
                mac: PEER_MAC,
                gateway: None,
                source: Some(address(from)),
            };
            assert_eq!(change(&mut changes, id).await, Ok(expected));
        }
    });
}

#[test]
fn a_routed_address_resolves_to_its_gateway_unless_it_must_be_on_link() {
    let (gateway, _peer) = pair();
    gateway.ip("route add 10.88.0.0/16 via 10.77.0.2");
    gateway.ip("route add 10.89.0.0/16 via inet6 fd77::2 dev eth0");
    gateway.ip("route add fd88::/64 via fd77::2");
    gateway.run(async {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        for (id, to, via) in [
            (1, "10.88.1.1", "10.77.0.2"),
            (2, "10.89.1.1", "fd77::2"),
            (3, "fd88::1", "fd77::2"),
        ] {
            next_hops.set_targets(vec![target(id, to)]);
            let hop = change(&mut changes, id).await.unwrap();
            assert_eq!(
                (hop.mac, hop.gateway),
                (PEER_MAC, Some(address(via))),
                "{to}"
            );

            // The same id with another requirement is another question.
            let mut strict = target(id, to);
            strict.on_link_required = true;
            next_hops.set_targets(vec![strict]);
            let expected = Unresolved::NotOnLink {
                address: address(to),
                gateway: address(via),
            };
            assert_eq!(change(&mut changes, id).await, Err(expected));
        }
    });
}

#[test]
fn addresses_that_cannot_be_reached_say_why() {
    let (gateway, _peer) = pair();
    gateway.ip("route add unreachable 10.90.0.0/16");
    gateway.ip("route add blackhole 10.91.0.0/16");
    gateway.ip("route add prohibit fd91::/64");
    // The loopback device is the one without neighbours that every kernel has.
    gateway.ip("route add 10.92.0.0/16 dev lo");
    gateway.run(async {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        let to = address;
        let cases = [
            (
                "198.51.100.1",
                Unresolved::NoRoute {
                    address: to("198.51.100.1"),
                },
            ),
            (
                "2001:db8::1",
                Unresolved::NoRoute {
                    address: to("2001:db8::1"),
                },
            ),
            (
                "10.77.0.1",
                Unresolved::Local {
                    address: to("10.77.0.1"),
                },
            ),
            (
                "fd77::1",
                Unresolved::Local {
                    address: to("fd77::1"),
                },
            ),
            (
                "10.77.0.255",
                Unresolved::NotUnicast {
                    address: to("10.77.0.255"),
                    kind: "broadcast",
                },
            ),
            (
                "10.90.0.1",
                Unresolved::Refused {
                    address: to("10.90.0.1"),
                    kind: "unreachable",
                },
            ),
            (
                "10.91.0.1",
                Unresolved::Refused {
                    address: to("10.91.0.1"),
                    kind: "blackhole",
                },
            ),
            (
                "fd91::1",
                Unresolved::Refused {
                    address: to("fd91::1"),
                    kind: "prohibit",
                },
            ),
            (
                "10.92.0.1",
                Unresolved::NoLinkLayer {
                    address: to("10.92.0.1"),
                    interface: "lo".into(),
                },
            ),
            (
                "10.77.0.99",
                Unresolved::NoNeighbour {
                    neighbour: to("10.77.0.99"),
                    interface: "eth0".into(),
                },
            ),
        ];
        for (to, expected) in cases {
            next_hops.set_targets(vec![target(1, to)]);
            assert_eq!(change(&mut changes, 1).await, Err(expected), "{to}");
        }
    });
}

#[test]
fn a_route_that_comes_and_goes_is_noticed() {
    let (gateway, _peer) = pair();
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        next_hops.set_targets(vec![target(1, "10.88.1.1"), target(2, "10.77.0.2")]);
        let lost = Unresolved::NoRoute {
            address: address("10.88.1.1"),
        };
        assert_eq!(change(&mut changes, 1).await, Err(lost.clone()));
        assert!(change(&mut changes, 2).await.is_ok());
        ip_in(&name, "route add 10.88.0.0/16 via 10.77.0.2");
        assert_eq!(change(&mut changes, 1).await.unwrap().mac, PEER_MAC);
        ip_in(&name, "route del 10.88.0.0/16");
        assert_eq!(change(&mut changes, 1).await, Err(lost));
    });
}

#[test]
fn a_slow_reader_of_many_targets_ends_up_with_the_truth_when_events_were_lost() {
    const TARGETS: u32 = 3 * neighbour::CHANGES_MAX as u32;
    /// Far more notifications than the socket's buffer holds.
    const ROUTES: u32 = 10_000;
    let (gateway, _peer) = pair();
    gateway.ip("route add 10.88.0.0/16 via 10.77.0.2");
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        let started = Instant::now();
        // The neighbour first, so that no news of it makes up for what gets lost.
        next_hops.set_targets(vec![target(TARGETS, "10.77.0.2")]);
        assert!(change(&mut changes, TARGETS).await.is_ok());
        let to = |id: u32| IpAddr::from((0x0a58_0000 + id + 1).to_be_bytes());
        let targets = (0..TARGETS).map(|id| Target {
            id,
            address: to(id),
            on_link_required: false,
        });
        next_hops.set_targets(targets.collect());
        while changes.len() < neighbour::CHANGES_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        let routes: String = (0..ROUTES)
            .map(|n| format!("route add 10.99.{}.{}/32 via 10.77.0.2\n", n / 250, n % 250))
            .collect();
        namespace::ip_batch(&name, &(routes + "route del 10.88.0.0/16\n"));

        let mut pending: HashSet<u32> = (0..TARGETS).collect();
        while !pending.is_empty() {
            let change = timeout(PATIENCE, changes.recv())
                .await
                .expect("in time")
                .unwrap();
            match change.result {
                Err(Unresolved::NoRoute { .. }) => pending.remove(&change.id),
                _ => pending.insert(change.id),
            };
        }
        let took = started.elapsed();
        assert!(
            took < neighbour::SWEEP_INTERVAL,
            "only the sweep found out, after {took:?}"
        );
    });
}

#[test]
fn a_neighbour_that_falls_silent_and_returns_with_another_mac_is_reported_both_times() {
    let (gateway, peer) = pair();
    let peer_name = peer.name().to_owned();
    gateway.run(async move {
        // So that a silent neighbour is found out in about a second instead of half a minute.
        for (setting, value) in [
            ("base_reachable_time_ms", "200"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "100"),
            ("ucast_solicit", "1"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/neigh/eth0/{setting}"), value).unwrap();
        }
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        next_hops.set_targets(vec![target(1, "10.77.0.2")]);
        assert_eq!(change(&mut changes, 1).await.unwrap().mac, PEER_MAC);

        ip_in(&peer_name, "addr del 10.77.0.2/24 dev eth0");
        // Traffic on the path, as health checks would be.
        let traffic = tokio::spawn(async {
            let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
            loop {
                let _refused_or_not = socket.send_to(b"x", "10.77.0.2:9");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let silent = Unresolved::NoNeighbour {
            neighbour: address("10.77.0.2"),
            interface: "eth0".into(),
        };
        assert_eq!(change(&mut changes, 1).await, Err(silent));
        traffic.abort();

        // Nothing but our own asking can find it again. (No link change: carrier stays.)
        ip_in(&peer_name, &format!("link set eth0 address {OTHER_MAC}"));
        ip_in(&peer_name, "addr add 10.77.0.2/24 dev eth0");
        assert_eq!(change(&mut changes, 1).await.unwrap().mac, OTHER_MAC);
    });
}

#[test]
fn a_neighbour_that_changes_its_mac_in_passing_is_reported_without_a_loss() {
    let (gateway, _peer) = pair();
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        next_hops.set_targets(vec![target(1, "10.77.0.2")]);
        assert_eq!(change(&mut changes, 1).await.unwrap().mac, PEER_MAC);
        ip_in(
            &name,
            &format!("neigh replace 10.77.0.2 lladdr {OTHER_MAC} dev eth0"),
        );
        assert_eq!(change(&mut changes, 1).await.unwrap().mac, OTHER_MAC);
    });
}

#[test]
fn a_flush_of_the_neighbour_table_passes_unnoticed_and_the_entry_is_managed_again() {
    let (gateway, _peer) = pair();
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        next_hops.set_targets(vec![target(1, "10.77.0.2")]);
        assert!(change(&mut changes, 1).await.is_ok());
        ip_in(&name, "neigh flush all");
        let deadline = Instant::now() + PATIENCE;
        while !ip_in(&name, "neigh show 10.77.0.2").contains("managed") {
            assert!(Instant::now() < deadline, "not managed again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let reported = changes.try_recv();
        assert!(reported.is_err(), "the flush was reported: {reported:?}");
    });
}

#[test]
fn a_static_neighbour_of_the_operator_stays_static() {
    let (gateway, _peer) = pair();
    gateway.ip(&format!(
        "neigh add 10.77.0.50 lladdr {OTHER_MAC} dev eth0 nud permanent"
    ));
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        next_hops.set_targets(vec![target(1, "10.77.0.50")]);
        assert_eq!(change(&mut changes, 1).await.unwrap().mac, OTHER_MAC);
        assert!(ip_in(&name, "neigh show 10.77.0.50").contains("PERMANENT"));
    });
}

#[test]
fn neighbours_are_given_back_when_nobody_wants_them_even_by_a_later_run() {
    let (gateway, _peer) = pair();
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let netlink = Netlink::open().unwrap();
        let (next_hops, mut changes) = NextHops::start(netlink.clone()).unwrap();
        next_hops.set_targets(vec![target(1, "10.77.0.2"), target(2, "fd77::2")]);
        assert!(change(&mut changes, 1).await.is_ok());
        assert!(change(&mut changes, 2).await.is_ok());
        assert!(ip_in(&name, "neigh show 10.77.0.2").contains("managed"));
        drop((next_hops, changes));

        let (next_hops, mut changes) = NextHops::start(netlink).unwrap();
        next_hops.set_targets(vec![target(2, "fd77::2")]);
        assert!(change(&mut changes, 2).await.is_ok());
        // Given back after the report: the next set of targets is taken up only after that.
        next_hops.set_targets(vec![target(3, "fd77::2")]);
        assert!(change(&mut changes, 3).await.is_ok());
        assert!(!ip_in(&name, "neigh show 10.77.0.2").contains("managed"));
        assert!(ip_in(&name, "neigh show fd77::2").contains("managed"));
    });
}

#[test]
fn carrier_that_goes_and_comes_back_is_noticed() {
    let (gateway, peer) = pair();
    let (name, peer_name) = (gateway.name().to_owned(), peer.name().to_owned());
    gateway.run(async move {
        let (next_hops, mut changes) = NextHops::start(Netlink::open().unwrap()).unwrap();
        next_hops.set_targets(vec![target(1, "10.77.0.2")]);
        assert!(change(&mut changes, 1).await.is_ok());

        ip_in(&peer_name, "link set eth0 down");
        let down = Unresolved::InterfaceDown {
            address: address("10.77.0.2"),
            interface: "eth0".to_owned(),
        };
        change_until(&mut changes, 1, |result| *result == Err(down.clone()))
            .await
            .unwrap_err();
        ip_in(&peer_name, "link set eth0 up");
        change_until(&mut changes, 1, Result::is_ok).await.unwrap();

        // Switched off on this side the route is gone as well.
        ip_in(&name, "link set eth0 down");
        change_until(&mut changes, 1, Result::is_err)
            .await
            .unwrap_err();
        ip_in(&name, "link set eth0 up");
        change_until(&mut changes, 1, Result::is_ok).await.unwrap();
    });
}
