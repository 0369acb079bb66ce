//! What is accepted, and what becomes of it; and that nothing makes the reader panic.

use std::{net::IpAddr, path::Path, time::Duration};

use proptest::prelude::*;

use super::{AGENT, POOL, SERVICE, parse};
use crate::config::{
    Agent, Backend, Check, Config, ConfigError, FlowTimes, Forward, OnBackendLoss, OnEmpty, Pool,
    Port, Probe, Protocol, Role, Service, Spill, StatusRanges, Tracking, UdpFlows, XdpMode,
};

const EVERYTHING: &str = include_str!("../../../../examples/everything.toml");

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn the_whole_example_of_the_design_means_what_it_says() {
    let config = parse(EVERYTHING).expect("it is good");
    let backend = |name: &str, at: &str, role, weight| Backend {
        name: name.to_owned(),
        address: address(at),
        role,
        weight,
        zone: None,
        port: None,
    };
    assert_eq!(config.source, Path::new("lb.toml"));
    assert_eq!(
        config.agent.metrics,
        Some("127.0.0.1:9180".parse().expect("a socket address"))
    );
    assert_eq!(
        config.pools,
        [Pool {
            name: "logic".to_owned(),
            forward: Forward::L2,
            slots: 65_537,
            spill: Spill::Both,
            on_backend_loss: OnBackendLoss::Reset,
            on_empty: OnEmpty::Reset,
            tracking: Tracking::Auto,
            flows: FlowTimes {
                window: Duration::from_secs(300),
                udp_window: Duration::from_secs(30),
                idle: Duration::from_secs(3600),
                lost_for: Duration::from_secs(60),
                embryo: Duration::from_secs(60),
            },
            check: Some(Check {
                probe: Probe::Http {
                    path: "/readyz".to_owned(),
                    host: None,
                    expect: StatusRanges::from(200..=399),
                },
                port: 8080,
                interval: Duration::from_millis(100),
                timeout: Duration::from_millis(80),
                rise: 2,
                fall: 2,
                jitter: 0.1,
                hold: true,
            }),
            backends: vec![
                backend("logic-1", "10.0.1.11", Role::Primary, 100),
                backend("logic-2", "10.0.1.12", Role::Primary, 200),
                backend("logic-s1", "10.0.1.21", Role::Standby, 100),
            ],
        }]
    );
    assert_eq!(
        config.services,
        [
            Service {
                name: "orders".to_owned(),
                vip: address("198.51.100.10"),
                port: Port::Number(5432),
                protocol: Protocol::Tcp,
                pool: "logic".to_owned(),
                fragments: false,
                mss: Some(1400),
                udp: UdpFlows::Plain,
            },
            Service {
                name: "calls".to_owned(),
                vip: address("198.51.100.10"),
                port: Port::Number(443),
                protocol: Protocol::Udp,
                pool: "logic".to_owned(),
                fragments: false,
                mss: None,
                udp: UdpFlows::Quic,
            },
        ]
    );
    assert_eq!(config.pool("logic"), config.pools.first());
    assert_eq!(config.pool("other"), None);
}

#[test]
fn only_the_interfaces_of_the_agent_are_needed() {
    let config = parse(AGENT).expect("a gateway may have nothing to do yet");
    assert_eq!(
        config.agent,
        Agent {
            interfaces: vec!["eth0".to_owned()],
            xdp_mode: XdpMode::Auto,
            manage_vips: true,
            pin: "/sys/fs/bpf/lb".into(),
            state: "/var/lib/lb".into(),
            control: "/run/lb/agent.sock".into(),
            metrics: None,
            tunnel_source_v4: "198.18.0.0/16".parse().expect("a network"),
            tunnel_source_v6: "100::/64".parse().expect("a network"),
            probes_per_second: 10_000,
            flows_max: 1 << 20,
        }
    );
    assert!(config.pools.is_empty() && config.services.is_empty());
}

#[test]
fn what_only_looks_odd_is_accepted() {
    let check = |check: &str| format!("{AGENT}{POOL}check = {{ {check} }}\n");
    for (why, text) in [
        ("a pool that no service uses", format!("{AGENT}{POOL}")),
        (
            "an IPv6 VIP before IPv4 backends: l2 only needs the MAC",
            format!("{AGENT}{POOL}{SERVICE}").replace("198.51.100.10", "2001:db8::10"),
        ),
        (
            "dsr, another word for l2",
            format!("{AGENT}{POOL}forward = \"dsr\"\n"),
        ),
        (
            "one port beside all the others of the VIP",
            format!(
                "{AGENT}{POOL}{SERVICE}{}",
                SERVICE.replace("orders", "rest").replace("5432", "\"any\"")
            ),
        ),
        (
            "the same port for another protocol",
            format!(
                "{AGENT}{POOL}{SERVICE}{}protocol = \"udp\"\n",
                SERVICE.replace("orders", "datagrams")
            ),
        ),
        (
            "a udp service with an http check",
            format!(
                "{}{SERVICE}protocol = \"udp\"\n",
                check("kind = \"http\", port = 80, interval = \"1s\", timeout = \"1s\"")
            ),
        ),
        (
            "a timeout as long as the interval",
            check("kind = \"tcp\", port = 80, timeout = \"1s\""),
        ),
        (
            "a list of status codes",
            check("kind = \"http\", port = 80, expect = [200, \"300-304\"]"),
        ),
        (
            "a whole number as jitter",
            check("kind = \"tcp\", port = 80, jitter = 0"),
        ),
        (
            "a primary without weight beside one with",
            format!(
                "{AGENT}{}",
                POOL.replace(
                    "}]",
                    "}, { name = \"logic-2\", address = \"10.0.1.12\", weight = 0 }]"
                )
            ),
        ),
        (
            "a name that two pools give to a server",
            format!("{AGENT}{POOL}{}", POOL.replace("\"logic\"", "\"web\"")),
        ),
        (
            "Windows line ends",
            format!("{AGENT}{POOL}{SERVICE}").replace('\n', "\r\n"),
        ),
    ] {
        if let Err(error) = parse(&text) {
            panic!("{why}: {error}");
        }
    }
}

#[test]
fn a_check_without_port_takes_that_of_the_backends() {
    let pool = POOL.replace(" }]", ", port = 5432 }]");
    let config = parse(&format!(
        "{AGENT}{pool}check = {{ kind = \"tcp\" }}\n{SERVICE}"
    ));
    let config = config.expect("all backends have the same port");
    assert_eq!(
        config.pools[0].check.as_ref().map(|check| check.port),
        Some(5432)
    );
}

#[test]
fn the_timeout_left_out_never_exceeds_the_interval() {
    for (interval, timeout_ms) in [("100ms", 100), ("800ms", 800), ("1s", 800), ("1m", 800)] {
        let check = format!("check = {{ kind = \"tcp\", port = 80, interval = \"{interval}\" }}");
        let config = parse(&format!("{AGENT}{POOL}{check}\n")).expect("it is good");
        let timeout = config.pools[0].check.as_ref().map(|check| check.timeout);
        assert_eq!(
            timeout,
            Some(Duration::from_millis(timeout_ms)),
            "{interval}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why_in_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"\xFF\xFE").expect("a file");
    for (path, part) in [
        (
            directory.path().join("nothing.toml"),
            "there is no such file",
        ),
        (directory.path().to_owned(), "is a directory"),
        (binary, "is not UTF-8"),
    ] {
        let error = Config::load(&path).expect_err("it cannot be read");
        assert!(matches!(error, ConfigError::Unreadable { .. }));
        let line = error.to_string();
        assert!(
            line.starts_with(&format!("{}: ", path.display())) && line.contains(part),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }
}

/// Words that mean something to the reader, for mutations that get past the TOML parser.
const PIECES: &[&str] = &[
    "\"",
    "[",
    "]",
    "[[pool]]",
    "[agent]",
    "{",
    "}",
    "=",
    "\n",
    ",",
    "0",
    "-1",
    "1e999",
    "nan",
    "99999999999999999999",
    "\"any\"",
    "\"100ms\"",
    "\"::ffff:1.2.3.4\"",
    "true",
    "[]",
    "{}",
    "é",
    "\"\\u0000\"",
    "'''",
    "pool.check.kind = 1",
    "1979-05-27",
    "name",
    "backends",
    "0xFFFFFFFFFF",
];

fn check_that_refusal_is_well_formed(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse(text) {
        let diagnostics = error.diagnostics();
        prop_assert!(!diagnostics.is_empty());
        prop_assert_eq!(error.to_string().lines().count(), diagnostics.len());
        let lines = text.split('\n').count();
        for diagnostic in diagnostics {
            prop_assert!((1..=lines).contains(&diagnostic.line), "{}", diagnostic);
            prop_assert!(!diagnostic.wrong.is_empty() && !diagnostic.right.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn mutated_text_is_accepted_or_refused_line_by_line(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, prop::sample::select(PIECES)), 1..6)
    ) {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        check_that_refusal_is_well_formed(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn a_value_replaced_by_any_other_is_accepted_or_refused_line_by_line(
        line in any::<prop::sample::Index>(), piece in prop::sample::select(PIECES)
    ) {
        let mut lines: Vec<String> = EVERYTHING.lines().map(str::to_owned).collect();
        let at = line.index(lines.len());
        if let Some((key, _)) = lines[at].split_once('=') {
            lines[at] = format!("{key}= {piece}");
        }
        check_that_refusal_is_well_formed(&lines.join("\n"))?;
    }

    #[test]
    fn arbitrary_text_is_refused_line_by_line(text in "\\PC*") {
        check_that_refusal_is_well_formed(&text)?;
    }
}
