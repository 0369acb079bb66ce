//! The words of the command line, and what is shown of a whole status.

mod json;

use clap::CommandFactory;

use super::*;
use crate::control::{
    AgentStatus, BackendStatus, CheckStatus, Event, FlowsStatus, InstabilityStatus,
    InterfaceStatus, PoolStatus, ProbeStatus, RateStatus, ServiceStatus, Status, TrafficStatus,
};

/// An hour and some after `since` of [`status`].
const NOW: &str = "2026-01-02T03:04:05Z";

fn backend(id: u16, name: &str, share: f64, state: &str, reason: &str) -> BackendStatus {
    let role = if share > 0.0 { "primary" } else { "standby" };
    BackendStatus {
        name: name.into(),
        pool: "logic".into(),
        id,
        address: format!("10.0.1.1{id}").parse().expect("an address"),
        role: role.into(),
        zone: Some("a".into()),
        weight: 100,
        weight_configured: 100,
        share,
        admin: "none".into(),
        admin_since: None,
        health: "up".into(),
        health_reason: None,
        health_since: Some("2026-01-02T03:00:53Z".into()),
        next_hop: "02:00:00:00:00:01 via eth0".into(),
        state: state.into(),
        reason: reason.into(),
        since: "2026-01-02T03:00:53Z".into(),
        flows: match state {
            "up" => "settled",
            other => other,
        }
        .into(),
        flows_until: None,
        repeated_syns: 0,
        resets: 0,
        checks: Some(CheckStatus {
            probes: 1_204,
            passed: 1_198,
            failed: [
                ("refused".into(), 4),
                ("timeout".into(), 2),
                ("reset".into(), 0),
            ]
            .into(),
            triggered: 1,
            deferred: 0,
            last_seconds: 0.001_234,
        }),
        total: TrafficStatus {
            packets: 1_234_567,
            bytes: 987_654_321,
            new_flows: 4_321,
            diverted: 12,
        },
        rate: RateStatus {
            packets_per_second: 4_120.0,
            bytes_per_second: 3_200_000.0,
            new_flows_per_second: 70.4,
        },
    }
}

fn service(name: &str, vip: &str, port: Option<u16>, protocol: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.into(),
        vip: vip.parse().expect("an address"),
        port,
        protocol: protocol.into(),
        pool: "logic".into(),
        vip_state: "added".into(),
        total: TrafficStatus::default(),
        rate: RateStatus {
            packets_per_second: 12_345.0,
            bytes_per_second: 9.6e6,
            new_flows_per_second: 210.0,
        },
    }
}

/// A gateway with something of everything.
pub(super) fn status() -> Status {
    let mut draining = backend(2, "logic-2", 0.2, "draining", "drained by the operator");
    (draining.weight, draining.admin) = (50, "drained".into());
    draining.admin_since = Some("2026-01-02T03:03:53Z".into());
    draining.since = "2026-01-02T03:03:53Z".into();
    draining.repeated_syns = 3;
    let mut down = backend(
        3,
        "logic-3",
        0.4,
        "down",
        "connection refused by 10.0.1.13:8080",
    );
    down.health = "down".into();
    down.health_reason = Some("connection refused by 10.0.1.13:8080".into());
    down.rate = RateStatus::default();
    (down.flows, down.flows_until) = ("lost".into(), Some("2026-01-02T03:04:53Z".into()));
    let mut removed = backend(
        5,
        "logic-0",
        0.0,
        "draining",
        "removed from the configuration",
    );
    removed.flows = "removed".into();
    let mut standby = backend(4, "logic-s1", 0.0, "up", "check passes");
    standby.rate = RateStatus::default();
    let mut missing = service("any-six", "2001:db8::10", None, "udp");
    missing.vip_state = "missing".into();
    Status {
        version: "0.1.0".into(),
        agent: AgentStatus {
            pid: 1234,
            since: "2026-01-02T01:59:05Z".into(),
            config: "/etc/lb/lb.toml".into(),
            config_since: "2026-01-02T02:52:00Z".into(),
            config_error: None,
            interfaces: vec![InterfaceStatus {
                name: "eth0".into(),
                xdp: "native".into(),
                mtu: 1500,
                up: true,
            }],
            drops: [("no_backend".into(), 12), ("too_big".into(), 0)].into(),
            replies: [("echo".into(), 3)].into(),
            passes: [("not_ours".into(), 7)].into(),
            flows: FlowsStatus {
                recorded: 1_234,
                recorded_max: 1 << 20,
                recorded_new: 56,
                recorded_new_max: 1 << 18,
                counts: [("recorded".into(), 1_300)].into(),
                sweeps: 12,
                sweep_seconds: 0.000_789,
                sweep_deleted: 8,
                heartbeat_seconds: 0.012,
            },
            probes: ProbeStatus {
                per_second_max: 10_000,
                sent: 123,
                deferred: 0,
            },
            map_bytes: 123_731_968,
        },
        services: vec![
            service("orders", "198.51.100.10", Some(5432), "tcp"),
            missing,
        ],
        pools: vec![PoolStatus {
            name: "logic".into(),
            forward: "l2".into(),
            spill: "both".into(),
            slots: 65_537,
            on_empty: "reset".into(),
            check: Some("http".into()),
            unstable: Some(InstabilityStatus {
                slots: 39_322,
                slots_changed: 0,
                since: Some("2026-01-02T03:03:53Z".into()),
                until: None,
                causes: vec!["logic-2 is draining".into(), "logic-3 was lost".into()],
                recorded: 1_290,
                needed: 31,
            }),
            backends: vec![
                backend(1, "logic-1", 0.4, "up", "check passes"),
                draining,
                down,
                standby,
            ],
        }],
        removed: vec![removed],
    }
}

/// A failure that a check found.
pub(super) fn event(number: u64) -> Event {
    Event {
        number,
        at: "2026-01-02T03:04:05.123456Z".into(),
        kind: "state".into(),
        pool: Some("logic".into()),
        backend: Some("logic-1".into()),
        state: Some("down".into()),
        detection_us: Some(12_345),
        store_us: Some(14),
        text: "down: connection refused".into(),
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_status_is_read_at_a_glance() {
    let now = NOW.parse().expect("a time");
    let expected = include_str!("tests/status.txt");
    let shown = plain(&status::everything(&status(), now));
    assert_eq!(shown, expected, "shown:\n{shown}");
    let longest = shown.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(120), "{longest:?} columns");
}

#[test]
fn the_document_shows_what_is_shown() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let document = std::fs::read_to_string(path).expect("docs/cli.md is in the repository");
    for example in [
        include_str!("tests/status.txt"),
        include_str!("tests/backend.txt"),
    ] {
        assert!(document.contains(example), "docs/cli.md lacks:\n{example}");
    }
    let mut cli = Cli::command();
    cli.build();
    for command in cli.get_subcommands().map(clap::Command::get_name) {
        assert!(
            document.contains(command),
            "lb {command} is not in docs/cli.md"
        );
    }
}

#[test]
fn states_have_their_colours() {
    let now = NOW.parse().expect("a time");
    let shown = status::everything(&status(), now);
    for coloured in [
        "\x1b[32mup\x1b[0m",
        "\x1b[33mdraining\x1b[0m",
        "\x1b[31mdown\x1b[0m",
        "\x1b[31mmissing\x1b[0m",
    ] {
        assert!(shown.contains(coloured), "{coloured:?} in {shown:?}");
    }
}

#[test]
fn what_somebody_should_look_at_is_in_the_head() {
    let mut status = status();
    status.agent.config_error = Some("lb.toml:3:1: agent.pim: unknown key".into());
    status.agent.probes.deferred = 1_200;
    let shown = plain(&status::everything(&status, NOW.parse().expect("a time")));
    for line in [
        "last reload refused: lb.toml:3:1: agent.pim: unknown key",
        "1.20k health probes waited for their budget of 10000 a second ([agent].probes_per_second)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }
}

#[test]
fn an_instability_that_ends_by_itself_says_when() {
    let mut status = status();
    status.pools[0].unstable = Some(InstabilityStatus {
        slots: 65_537,
        slots_changed: 4_000,
        since: None,
        until: Some("2026-01-02T03:08:35Z".into()),
        causes: vec!["the configuration changed".into()],
        recorded: 5,
        needed: 0,
    });
    let shown = plain(&status::everything(&status, NOW.parse().expect("a time")));
    let expected = "  unstable: the configuration changed\n  65.5k slots (4.00k with another owner), \
                    5 flows on record, 0 of them needed; over in 4m30s\n";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn a_removed_backend_is_found_by_its_name() {
    let now = NOW.parse().expect("a time");
    for name in ["logic-0", "logic/logic-0"] {
        let shown = plain(&status::selected_by_name(&status(), name, now).expect("it is there"));
        assert!(
            shown.contains("removed: out of the configuration"),
            "{shown}"
        );
    }
}

#[test]
fn one_backend_is_shown_in_full() {
    let now = NOW.parse().expect("a time");
    let expected = include_str!("tests/backend.txt");
    let shown = plain(&status::selected_by_name(&status(), "logic-2", now).expect("it is there"));
    assert_eq!(shown, expected, "shown:\n{shown}");
}
