//! What the test's agent answers: one service, one pool, one backend.

use lb_userspace::control::{
    AgentStatus, Answer, BackendStatus, Event, FlowsStatus, PoolStatus, ProbeStatus, RateStatus,
    Reload, Route, Rung, ServiceStatus, Status, TrafficStatus,
};

const SINCE: &str = "2026-01-02T03:04:05Z";

pub fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        agent: AgentStatus {
            pid: 1,
            since: SINCE.into(),
            config: "/etc/lb/lb.toml".into(),
            config_since: SINCE.into(),
            config_error: None,
            interfaces: vec![],
            drops: [].into(),
            replies: [].into(),
            passes: [].into(),
            flows: FlowsStatus {
                recorded: 0,
                recorded_max: 1 << 20,
                recorded_new: 0,
                recorded_new_max: 1 << 18,
                counts: [].into(),
                sweeps: 0,
                sweep_seconds: 0.0,
                sweep_deleted: 0,
                heartbeat_seconds: 0.0,
            },
            probes: ProbeStatus {
                per_second_max: 10_000,
                sent: 0,
                deferred: 0,
            },
            map_bytes: 0,
        },
        services: vec![ServiceStatus {
            name: "orders".into(),
            vip: "198.51.100.10".parse().expect("an address"),
            port: Some(5432),
            protocol: "tcp".into(),
            pool: "logic".into(),
            vip_state: "added".into(),
            total: TrafficStatus::default(),
            rate: RateStatus::default(),
        }],
        pools: vec![PoolStatus {
            name: "logic".into(),
            forward: "l2".into(),
            spill: "both".into(),
            slots: 65_537,
            on_empty: "reset".into(),
            check: Some("tcp".into()),
            unstable: None,
            backends: vec![backend()],
        }],
        removed: vec![],
    }
}

pub fn backend() -> BackendStatus {
    BackendStatus {
        name: "logic-1".into(),
        pool: "logic".into(),
        id: 1,
        address: "10.0.1.11".parse().expect("an address"),
        role: "primary".into(),
        zone: None,
        weight: 100,
        weight_configured: 100,
        share: 1.0,
        admin: "none".into(),
        admin_since: None,
        health: "up".into(),
        health_reason: None,
        health_since: Some(SINCE.into()),
        next_hop: "02:00:00:00:00:01 via eth0".into(),
        state: "up".into(),
        reason: "check passes".into(),
        since: SINCE.into(),
        flows: "settled".into(),
        flows_until: None,
        repeated_syns: 0,
        resets: 0,
        checks: None,
        total: TrafficStatus::default(),
        rate: RateStatus::default(),
    }
}

/// A dry run finds a change; a reload finds none.
pub fn reload(dry_run: bool) -> Reload {
    let change = "backend logic/logic-4 added (primary, weight 100)".to_owned();
    Reload {
        applied: !dry_run,
        changes: if dry_run { vec![change] } else { vec![] },
        moved: vec![],
    }
}

pub fn route() -> Route {
    Route {
        service: "orders".into(),
        pool: "logic".into(),
        slot: 1,
        backend: Some("logic-1".into()),
        rung: Some(0),
        slots_passed: 0,
        stable: true,
        e_new: Some("logic-1".into()),
        e_old: Some("logic-1".into()),
        previous: None,
        lost: false,
        record: None,
        why: "rung 0 is up".into(),
        ladder: vec![Rung {
            backend: "logic-1".into(),
            role: "primary".into(),
            state: "up".into(),
        }],
    }
}

pub fn event(number: u64) -> Answer {
    Answer::Event(Event {
        number,
        at: "2026-01-02T03:04:05.123456Z".into(),
        kind: "agent".into(),
        pool: None,
        backend: None,
        state: None,
        detection_us: None,
        store_us: None,
        text: "started".into(),
    })
}
