//! What `--json` prints is a contract: fields are only ever added, and docs/json.md has them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{event, status};
use crate::agent::detach::DetachReport;
use crate::cli::cache::plan;
use crate::cli::check;
use crate::config::Config;
use crate::control::{
    CacheServerStatus, CacheStatus, LogicStatus, Moved, RecordStatus, Reload, Route, Rung,
    SentinelStatus, TierStatus,
};

/// Every object with its fields, in order. A field that is missing here has been renamed or removed
/// in the code: scripts of users break by it. One that is new is added here and to the document.
const OBJECTS: &[(&str, &[&str])] = &[
    (
        "Status",
        &["version", "agent", "services", "pools", "removed"],
    ),
    (
        "Agent",
        &[
            "pid",
            "since",
            "config",
            "config_since",
            "config_error",
            "interfaces",
            "drops",
            "replies",
            "passes",
            "flows",
            "probes",
            "map_bytes",
        ],
    ),
    (
        "Flows",
        &[
            "recorded",
            "recorded_max",
            "recorded_new",
            "recorded_new_max",
            "counts",
            "sweeps",
            "sweep_seconds",
            "sweep_deleted",
            "heartbeat_seconds",
        ],
    ),
    ("Interface", &["name", "xdp", "mtu", "up"]),
    ("Probes", &["per_second_max", "sent", "deferred"]),
    (
        "Service",
        &[
            "name",
            "vip",
            "port",
            "protocol",
            "pool",
            "vip_state",
            "total",
            "rate",
        ],
    ),
    (
        "Pool",
        &[
            "name", "forward", "spill", "slots", "on_empty", "check", "unstable", "backends",
        ],
    ),
    (
        "Instability",
        &[
            "slots",
            "slots_changed",
            "since",
            "until",
            "causes",
            "recorded",
            "needed",
        ],
    ),
    (
        "Backend",
        &[
            "name",
            "pool",
            "id",
            "address",
            "role",
            "zone",
            "weight",
            "weight_configured",
            "share",
            "admin",
            "admin_since",
            "health",
            "health_reason",
            "health_since",
            "next_hop",
            "state",
            "reason",
            "since",
            "flows",
            "flows_until",
            "repeated_syns",
            "resets",
            "checks",
            "total",
            "rate",
        ],
    ),
    (
        "Checks",
        &[
            "probes",
            "passed",
            "failed",
            "triggered",
            "deferred",
            "last_seconds",
        ],
    ),
    ("Total", &["packets", "bytes", "new_flows", "diverted"]),
    (
        "Rate",
        &[
            "packets_per_second",
            "bytes_per_second",
            "new_flows_per_second",
        ],
    ),
    ("Reload", &["applied", "changes", "moved"]),
    ("Moved", &["pool", "slots", "share"]),
    (
        "Route",
        &[
            "service",
            "pool",
            "slot",
            "backend",
            "rung",
            "slots_passed",
            "stable",
            "e_new",
            "e_old",
            "previous",
            "lost",
            "record",
            "why",
            "ladder",
        ],
    ),
    (
        "Record",
        &[
            "map",
            "backend",
            "live",
            "superseded",
            "closing",
            "age_seconds",
        ],
    ),
    ("Rung", &["backend", "role", "state"]),
    (
        "Event",
        &[
            "number",
            "at",
            "kind",
            "pool",
            "backend",
            "state",
            "detection_us",
            "store_us",
            "text",
        ],
    ),
    (
        "Logic",
        &[
            "version",
            "pid",
            "since",
            "config",
            "config_since",
            "config_error",
            "threads",
            "ready",
            "tiers",
        ],
    ),
    (
        "Tier",
        &["name", "listen", "ready", "reason", "clients", "counts"],
    ),
    (
        "Cache",
        &[
            "authority",
            "hash",
            "writes",
            "during_failover",
            "failover_share",
            "max_failover_share",
            "servers",
            "sentinels",
        ],
    ),
    (
        "CacheServer",
        &[
            "name",
            "layer",
            "address",
            "copy",
            "share",
            "state",
            "reason",
            "since",
            "lag_seconds",
            "run_id",
            "counts",
        ],
    ),
    ("Sentinel", &["address", "connected", "news"]),
    ("Plan", &["copies", "spares", "sentinel"]),
    (
        "Placed",
        &["primary", "address", "copy", "source", "command"],
    ),
    (
        "Check",
        &[
            "ok",
            "file",
            "services",
            "pools",
            "backends",
            "databases",
            "caches",
            "daemons",
            "unread",
            "errors",
        ],
    ),
    ("Mistake", &["line", "column", "key", "message"]),
    ("Detached", &["interfaces", "maps", "vips"]),
];

/// An example of each object of [`OBJECTS`], in that order.
fn examples() -> Vec<Value> {
    fn value(object: impl Serialize) -> Value {
        serde_json::to_value(object).expect("it has only names for keys")
    }
    let status = value(status());
    let reload = value(Reload {
        applied: true,
        changes: vec![],
        moved: vec![Moved {
            pool: "logic".into(),
            slots: 1,
            share: 0.5,
        }],
    });
    let route = value(Route {
        service: "orders".into(),
        pool: "logic".into(),
        slot: 1,
        backend: None,
        rung: None,
        slots_passed: 0,
        stable: false,
        e_new: None,
        e_old: None,
        previous: None,
        lost: false,
        record: Some(RecordStatus {
            map: "FLOWS".into(),
            backend: "logic-1".into(),
            live: true,
            superseded: false,
            closing: false,
            age_seconds: 0.5,
        }),
        why: String::new(),
        ladder: vec![Rung {
            backend: "logic-1".into(),
            role: "primary".into(),
            state: "up".into(),
        }],
    });
    let logic = value(LogicStatus {
        version: "0.1.0".into(),
        pid: 1,
        since: String::new(),
        config: String::new(),
        config_since: String::new(),
        config_error: None,
        threads: 1,
        ready: true,
        tiers: vec![TierStatus {
            name: "resp".into(),
            listen: vec![],
            ready: true,
            reason: None,
            clients: 0,
            counts: BTreeMap::new(),
        }],
    });
    let cache = value(CacheStatus {
        authority: "sentinel".into(),
        hash: "maglev".into(),
        writes: "async".into(),
        during_failover: "serve".into(),
        failover_share: 0.0,
        max_failover_share: 0.5,
        servers: vec![CacheServerStatus {
            name: "cache-1".into(),
            layer: 1,
            address: String::new(),
            copy: None,
            share: 1.0,
            state: "up".into(),
            reason: String::new(),
            since: String::new(),
            lag_seconds: None,
            run_id: None,
            counts: BTreeMap::new(),
        }],
        sentinels: vec![SentinelStatus {
            address: String::new(),
            connected: true,
            news: None,
        }],
    });
    let everything = include_str!("../../../../examples/everything.toml");
    let everything = Config::check_text(everything, "lb.toml").expect("it is good");
    let plan = value(plan::plan(&everything.cache.expect("it has one"), &[]));
    let check = value(check::check(
        Path::new("lb.toml"),
        &Config::check_text("colour = 1", "lb.toml"),
    ));
    let part = |object: &Value, pointer| object.pointer(pointer).expect(pointer).clone();
    vec![
        status.clone(),
        part(&status, "/agent"),
        part(&status, "/agent/flows"),
        part(&status, "/agent/interfaces/0"),
        part(&status, "/agent/probes"),
        part(&status, "/services/0"),
        part(&status, "/pools/0"),
        part(&status, "/pools/0/unstable"),
        part(&status, "/pools/0/backends/0"),
        part(&status, "/pools/0/backends/0/checks"),
        part(&status, "/services/0/total"),
        part(&status, "/services/0/rate"),
        reload.clone(),
        part(&reload, "/moved/0"),
        route.clone(),
        part(&route, "/record"),
        part(&route, "/ladder/0"),
        value(event(1)),
        logic.clone(),
        part(&logic, "/tiers/0"),
        cache.clone(),
        part(&cache, "/servers/0"),
        part(&cache, "/sentinels/0"),
        plan.clone(),
        part(&plan, "/copies/0"),
        check.clone(),
        part(&check, "/errors/0"),
        value(DetachReport::default()),
    ]
}

fn sorted<T: Ord>(names: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort();
    names
}

#[test]
fn no_field_is_renamed_or_removed() {
    let examples = examples();
    assert_eq!(examples.len(), OBJECTS.len());
    for ((object, fields), example) in OBJECTS.iter().zip(&examples) {
        let keys = example.as_object().expect(object).keys();
        assert_eq!(
            sorted(keys.map(String::as_str)),
            sorted(fields.iter().copied()),
            "fields of {object}"
        );
    }
}

#[test]
fn the_document_names_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let document = fs::read_to_string(path).expect("docs/json.md is in the repository");
    for (object, fields) in OBJECTS {
        let (_, section) = document
            .split_once(&format!("\n### {object}\n"))
            .unwrap_or_else(|| panic!("docs/json.md has no section {object}"));
        let section = section.split("\n#").next().expect("split gives one part");
        let documented: Vec<_> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(field, _)| field)
            .collect();
        assert_eq!(&documented, fields, "docs/json.md, section {object}");
    }
}

#[test]
fn times_and_addresses_are_strings_and_what_is_absent_is_null() {
    let status = serde_json::to_value(status()).expect("it has only names for keys");
    let backend = &status["pools"][0]["backends"][0];
    assert_eq!(backend["address"], "10.0.1.11");
    assert_eq!(backend["since"], "2026-01-02T03:00:53Z");
    assert_eq!(backend["admin_since"], Value::Null);
    assert_eq!(status["services"][1]["port"], Value::Null);
}
