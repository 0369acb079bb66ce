//! The host's own side: interfaces found and watched, VIPs placed and announced.

use lb_userspace::agent::announce;
use lb_userspace::agent::interface::{Interface, InterfaceError, LinkChange, LinkWatch};
use lb_userspace::agent::netlink::Netlink;
use lb_userspace::agent::vip::{VipReport, Vips};
use tokio::time::timeout;

use crate::namespace::{Listener, ip_in};
use crate::{OTHER_MAC, PATIENCE, address, pair};

#[test]
fn an_interface_is_found_by_its_name_and_watched() {
    let (gateway, _peer) = pair();
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let netlink = Netlink::open().unwrap();
        let missing = Interface::by_name(&netlink, "eth9").await.unwrap_err();
        assert!(matches!(&missing, InterfaceError::NotFound(name) if name == "eth9"));

        let eth0 = Interface::by_name(&netlink, "eth0").await.unwrap();
        assert!(eth0.mac.is_some() && eth0.resolves_neighbours && eth0.xdp.is_none());
        let lo = Interface::by_name(&netlink, "lo").await.unwrap();
        assert!(lo.mac.is_none() && !lo.resolves_neighbours);

        let (_watch, mut changes) = LinkWatch::start(netlink).unwrap();
        ip_in(&name, "link set eth0 mtu 1400");
        ip_in(&name, "link add gone type veth");
        ip_in(&name, "link del gone");
        let (mut mtu_seen, mut removal_seen) = (false, false);
        while !(mtu_seen && removal_seen) {
            match timeout(PATIENCE, changes.recv())
                .await
                .expect("a link change")
                .unwrap()
            {
                LinkChange::Changed(link) => mtu_seen |= link.name == "eth0" && link.mtu == 1400,
                LinkChange::Removed(link) => removal_seen |= link.name == "gone",
            }
        }
    });
}

#[test]
fn vips_are_added_kept_and_removed_and_those_of_others_left_alone() {
    let (gateway, _peer) = pair();
    gateway.ip("addr add 198.51.100.12/32 dev lo");
    let name = gateway.name().to_owned();
    gateway.run(async move {
        let netlink = Netlink::open().unwrap();
        let eth0 = Interface::by_name(&netlink, "eth0").await.unwrap();
        let [v4, v6] = [address("198.51.100.10"), address("2001:db8::10")];
        let (second, operators) = (address("198.51.100.11"), address("198.51.100.12"));

        let mut vips = Vips::new(netlink.clone(), Vec::new());
        let report = vips.ensure(&[v4, v6, operators], &eth0).await.unwrap();
        let expected = VipReport {
            added: vec![v4, v6],
            foreign: vec![operators],
            ..VipReport::default()
        };
        assert_eq!(report, expected);
        let shown = ip_in(&name, "addr show dev eth0");
        assert!(shown.contains("inet 198.51.100.10/32 "), "{shown}");
        // Not tentative: usable at once. Deprecated: not a source of the host's own connections.
        let v6_line = shown
            .lines()
            .find(|line| line.contains("2001:db8::10/128"))
            .unwrap();
        assert!(
            v6_line.contains("deprecated") && !v6_line.contains("tentative"),
            "{v6_line}"
        );

        // Another run, which knows nothing but what the kernel remembers.
        let mut vips = Vips::new(netlink.clone(), Vec::new());
        let report = vips.ensure(&[v4, second, operators], &eth0).await.unwrap();
        let expected = VipReport {
            added: vec![second],
            kept: vec![v4],
            removed: vec![v6],
            foreign: vec![operators],
        };
        assert_eq!(report, expected);
        assert_eq!(vips.ours(), [second, v4]);

        let removed = Vips::new(netlink, Vec::new()).remove_all().await.unwrap();
        assert_eq!(removed, [v4, second]);
        let left = ip_in(&name, "addr show");
        assert!(
            left.contains("198.51.100.12/32") && left.contains("10.77.0.1/24"),
            "{left}"
        );
        assert!(
            !left.contains("198.51.100.10") && !left.contains("198.51.100.11"),
            "{left}"
        );
    });
}

#[test]
fn vips_move_with_the_interface() {
    let (gateway, _peer) = pair();
    let name = gateway.name().to_owned();
    gateway.ip("link add vips type veth");
    gateway.ip("link set vips up");
    gateway.run(async move {
        let netlink = Netlink::open().unwrap();
        let eth0 = Interface::by_name(&netlink, "eth0").await.unwrap();
        let other = Interface::by_name(&netlink, "vips").await.unwrap();
        let vip = address("198.51.100.10");
        let mut vips = Vips::new(netlink, Vec::new());
        vips.ensure(&[vip], &eth0).await.unwrap();
        let report = vips.ensure(&[vip], &other).await.unwrap();
        assert_eq!(report.added, [vip]);
        assert!(!ip_in(&name, "addr show dev eth0").contains("198.51.100.10"));
        assert!(ip_in(&name, "addr show dev vips").contains("198.51.100.10"));
    });
}

#[test]
fn an_announcement_is_heard_three_times_and_moves_the_vip_in_the_peers_table() {
    let (gateway, peer) = pair();
    let (v4, v6) = ("198.51.100.10", "fd77::10");
    for vip in [v4, v6] {
        peer.ip(&format!(
            "neigh add {vip} lladdr {OTHER_MAC} dev eth0 nud stale"
        ));
    }
    let mut listener = Listener::open(&peer);
    let mac = gateway.run(async move {
        let netlink = Netlink::open().unwrap();
        let eth0 = Interface::by_name(&netlink, "eth0").await.unwrap();
        let wanted = [address(v4), address(v6)];
        Vips::new(netlink, Vec::new())
            .ensure(&wanted, &eth0)
            .await
            .unwrap();
        announce::announce(eth0.clone(), wanted.to_vec())
            .finished()
            .await
            .unwrap();
        eth0.mac.unwrap()
    });

    let (mut requests, mut replies, mut advertisements) = (0, 0, 0);
    while (requests, replies, advertisements) != (3, 3, 3) {
        let frame = listener.next(PATIENCE);
        match &frame[12..14] {
            [0x08, 0x06] if frame[28..32] == [198, 51, 100, 10] => match frame[21] {
                1 => requests += 1,
                _ => replies += 1,
            },
            [0x86, 0xdd] if frame[20] == 58 && frame[54] == 136 && frame[77] == 0x10 => {
                advertisements += 1;
            }
            _ => {}
        }
    }
    for vip in [v4, v6] {
        let row = peer.ip(&format!("neigh show {vip} dev eth0"));
        assert!(row.contains(&mac.to_string()), "{row}");
    }
}
