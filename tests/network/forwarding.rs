//! Packets reach the right backends, in every way of forwarding.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::load::{Failure, Load, http};
use lb_tests::packet;
use lb_tests::site::{Host, Nics, Site};
use lb_tests::wait;
use lb_tests::web::Web;
use lb_userspace::control::Request;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::support::{SOON, Serving, ask, assert_unharmed, reload, status};

const PRIMARIES: [&str; 3] = ["logic-1", "logic-2", "logic-3"];

/// Sends HTTP and UDP to the first VIP of each family: every primary answers, nothing fails.
fn assert_served(serving: &Serving) {
    let site = &serving.site;
    for vip in [site.vip(), site.vip_v6()] {
        for load in [Load::http(vip), Load::udp(vip)] {
            let report = load.clients(4).count(80).run(site.client());
            assert_unharmed(&report, &serving.agent);
            let answered: Vec<String> = report.answered_by().into_keys().collect();
            assert_eq!(answered, PRIMARIES, "at {vip}");
        }
    }
}

#[test]
fn l2_through_one_nic_reaches_every_primary_in_both_families() -> Result<()> {
    let serving = Serving::start(Site::builder().nics(Nics::One))?;
    assert_served(&serving);
    Ok(())
}

#[test]
fn l2_through_two_nics_reaches_every_primary_in_both_families() -> Result<()> {
    let serving = Serving::start(Site::builder().nics(Nics::Two))?;
    assert_served(&serving);
    Ok(())
}

#[test]
fn generic_xdp_serves_where_it_is_asked_for_and_the_status_says_so() -> Result<()> {
    for nics in [Nics::One, Nics::Two] {
        let generic = |site: &Site| {
            let table = site.gateway().agent_table();
            let config = site.config().text();
            format!("{table}xdp_mode = \"generic\"\n\n{config}")
        };
        let serving = Serving::configured(Site::builder().nics(nics), generic)?;
        for interface in status(&serving.agent)?.agent.interfaces {
            assert_eq!(interface.xdp, "generic", "{interface:?}");
        }
        assert_served(&serving);
    }
    Ok(())
}

#[test]
fn ipip_reaches_every_primary_in_all_four_mixes_of_families() -> Result<()> {
    let site = Site::builder().decapsulating();
    let ipip = |site: &Site| site.config().pool("forward", "\"ipip\"");
    let serving = Serving::configured(site, |site| ipip(site).text())?;
    assert_served(&serving);
    serving.configure(&ipip(&serving.site).backends_by_v6())?;
    reload(&serving.agent, false)?;
    serving.all_are_up()?;
    assert_served(&serving);
    Ok(())
}

#[test]
fn ipip_through_one_nic_reaches_every_primary_in_both_families() -> Result<()> {
    let site = Site::builder().nics(Nics::One).decapsulating();
    let serving = Serving::configured(site, |site| {
        site.config().pool("forward", "\"ipip\"").text()
    })?;
    assert_served(&serving);
    Ok(())
}

#[test]
fn datagrams_of_one_flow_all_reach_the_same_backend() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    for _ in 0..5 {
        let flow = Load::udp(serving.site.vip()).keep_alive().count(30);
        let report = flow.run(serving.site.client());
        assert_unharmed(&report, &serving.agent);
        assert_eq!(report.answered_by().len(), 1, "{report}");
    }
    Ok(())
}

/// What a network card with jumbo frames hands on in several pieces.
#[test]
fn datagrams_of_nine_thousand_bytes_go_both_ways_through_both_forwards() -> Result<()> {
    const MTU: u32 = 9000;
    for forward in ["l2", "ipip"] {
        let room = if forward == "ipip" { MTU + 40 } else { MTU };
        let site = Site::builder().client_mtu(MTU).fabric_mtu(room);
        let serving = Serving::configured(site.decapsulating(), |site| {
            let pool = site.config().pool("forward", &format!("\"{forward}\""));
            pool.text()
        })?;
        for vip in [serving.site.vip(), serving.site.vip_v6()] {
            let headers = if vip.is_ipv4() { 20 + 8 } else { 40 + 8 };
            let sent = vec![b'j'; MTU as usize - headers - NAME_MAX];
            let answer = serving.site.client().run(|| echo(vip, &sent))?;
            assert!(answer.ends_with(&sent), "{forward} at {vip}");
        }
        let interfaces = status(&serving.agent)?.agent.interfaces;
        assert!(
            interfaces.iter().all(|it| it.xdp == "native"),
            "{interfaces:?}"
        );
    }
    Ok(())
}

/// Longest name of a server, which stands in front of its answer, with the space behind it.
const NAME_MAX: usize = 8;

/// Sends a datagram whole, and waits for the answer.
fn echo(to: SocketAddr, sent: &[u8]) -> Result<Vec<u8>> {
    let own: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(own, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(SOON))?;
    socket.send(sent)?;
    let mut answer = vec![0; 2 * sent.len()];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

#[test]
fn several_vips_and_ports_share_one_pool_and_other_ports_are_the_hosts_own() -> Result<()> {
    let more = |site: &Site| {
        let mut text = site.config().text();
        for (name, vip, port) in [
            ("admin", site.vips()[0], "8080"),
            ("everything", site.vips()[1], "\"any\""),
        ] {
            text += &format!(
                "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\n\
                 protocol = \"tcp\"\npool = \"logic\"\n"
            );
        }
        text
    };
    let serving = Serving::configured(Site::builder().vips(2), more)?;
    let site = &serving.site;
    let mut others = Vec::new();
    for backend in site.backends() {
        others.push(backend.serve_on(8080)?);
    }
    let at = |vip: usize, port| SocketAddr::new(site.vips()[vip], port);
    // Two VIPs of each family come first; the second one has a service at "any" port as well.
    for target in [
        at(0, 80),
        at(1, 80),
        at(2, 80),
        at(3, 80),
        at(0, 8080),
        at(1, 8080),
    ] {
        let report = Load::http(target).clients(4).count(60).run(site.client());
        assert_unharmed(&report, &serving.agent);
        assert_eq!(report.answered_by().len(), 3, "at {target}: {report}");
    }
    // No service has it: the gateway's own kernel answers for its VIP, at once.
    let refused = Load::http(at(0, 81)).count(3).run(site.client());
    assert_eq!(
        refused.failures().get(&Failure::Refused),
        Some(&3),
        "{refused}"
    );
    Ok(())
}

#[test]
fn curl_reads_pages_small_and_large_from_a_vip() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let site = &serving.site;
    for vip in [site.vip(), site.vip_v6()] {
        let url = format!("http://{vip}");
        let page = site
            .client()
            .tool("curl", &["-sS", "--fail", "--max-time", "5", &url])?;
        assert!(PRIMARIES.contains(&page.trim()), "{page:?}");
        let url = format!("http://{vip}/bytes?n=5000000");
        let large = site
            .client()
            .tool("curl", &["-sS", "--fail", "--max-time", "5", &url])?;
        assert_eq!(large.len(), 5_000_000);
    }
    Ok(())
}

#[test]
fn a_vip_answers_pings_even_when_every_backend_is_gone() -> Result<()> {
    let site = Site::builder().primaries(1).standbys(0);
    let mut serving = Serving::start(site)?;
    serving.kill("logic-1");
    serving.is("logic-1", "down")?;
    for vip in serving.site.vips() {
        ping(serving.site.client(), *vip)?;
    }
    wait::until("the echo replies are counted", SOON, || {
        status(&serving.agent).is_ok_and(|status| {
            let echoes = status.agent.replies.iter();
            echoes
                .filter(|(kind, _)| kind.contains("echo"))
                .map(|(_, count)| count)
                .sum::<u64>()
                >= 2
        })
    })
    .with_context(|| serving.explain())
}

#[test]
fn what_is_not_for_a_service_passes_the_program_unharmed() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let (site, gateway) = (&serving.site, serving.site.gateway());
    let logs = site.run_directory().join("log");
    let _own = Web::start(gateway, "gateway", 22, &[], None, &logs)?;
    for address in [IpAddr::V4(gateway.v4()), IpAddr::V6(gateway.v6())] {
        let own = Load::http(SocketAddr::new(address, 22)).count(20);
        let report = own.run(site.client());
        assert_unharmed(&report, &serving.agent);
        assert_eq!(report.answered_by().get("gateway"), Some(&20));
        ping(site.client(), address)?;
    }
    // Past the gateway as well: a backend's own address, from the client and from the gateway.
    let logic = SocketAddr::new(site.backend("logic-1").address(), 80);
    for host in [site.client(), gateway] {
        let answer = host.run(|| http::request(logic, "GET", "/", Duration::from_secs(1)))?;
        assert_eq!(answer.backend.as_deref(), Some("logic-1"));
    }
    Ok(())
}

#[test]
fn the_agent_knows_where_the_data_plane_sends_a_flow() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let vip = serving.site.vip();
    let report = Load::http(vip).count(40).run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    for request in &report.requests {
        let from = request.from.context("an address")?;
        let route = ask(
            &serving.agent,
            &Request::Route {
                vip,
                protocol: "tcp".into(),
                from,
            },
        )?;
        let lb_userspace::control::Answer::Route(route) = route else {
            anyhow::bail!("not a route: {route:?}");
        };
        let lb_tests::load::Outcome::Answered { by } = &request.outcome else {
            anyhow::bail!("not answered");
        };
        assert_eq!(route.backend.as_deref(), Some(by.as_ref()), "{route:?}");
        assert_eq!(route.rung, Some(0), "{route:?}");
    }
    Ok(())
}

/// Sends an echo request and waits for the reply with the same number.
fn ping(from: &Host, to: IpAddr) -> Result<()> {
    const NUMBER: u16 = 0x4c42;
    let (source, domain, protocol, reply) = match to {
        IpAddr::V4(_) => (IpAddr::V4(from.v4()), Domain::IPV4, Protocol::ICMPV4, 0),
        IpAddr::V6(_) => (IpAddr::V6(from.v6()), Domain::IPV6, Protocol::ICMPV6, 129),
    };
    // Built with its checksum; the kernel adds the IP header.
    let frame = packet::echo_request(source, to, NUMBER, 1).build();
    let message = frame.network()[if to.is_ipv4() { 20 } else { 40 }..].to_vec();
    let mut socket = from.run(|| Socket::new(domain, Type::RAW, Some(protocol)))?;
    socket.connect(&SockAddr::from(SocketAddr::new(to, 0)))?;
    socket.set_read_timeout(Some(SOON))?;
    socket.send(&message)?;
    let mut buffer = [0; 1500];
    loop {
        let length = socket
            .read(&mut buffer)
            .with_context(|| format!("ping {to}"))?;
        // A raw socket delivers IPv4 with its header and IPv6 without.
        let skip = if to.is_ipv4() { 20 } else { 0 };
        let received = &buffer[skip..length];
        if received[0] == reply && received[4..6] == message[4..6] {
            return Ok(());
        }
    }
}
