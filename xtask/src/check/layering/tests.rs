//! Samples of code that the check must refuse, and of code that it must not.

use super::{violation_in_common, violations_in_userspace};

fn assert_clean(module: &str, source: &str) {
    let violations = violations_in_userspace(module, source);
    assert!(violations.is_empty(), "{module}: {source}\n{violations:?}");
}

fn assert_refused(module: &str, source: &str, expected: &str) {
    let violations = violations_in_userspace(module, source);
    let [violation] = violations.as_slice() else {
        panic!("{module}: {source}\n{violations:?}");
    };
    assert!(violation.contains(expected), "{violation}");
}

#[test]
fn downward_imports_are_fine() {
    for (module, source) in [
        ("main", "use lb_userspace::{cli, runtime};"),
        ("main", "mod cli; use crate::cli::Arguments;"),
        (
            "cli/status",
            "use crate::control::{Request, client::Client}; use crate::config::Config;",
        ),
        (
            "agent",
            "use crate::health::Checker; use crate::{config, runtime};",
        ),
        (
            "agent/stats",
            "use crate::agent::datapath; use super::plan; use super::super::control;",
        ),
        (
            "health/checker",
            "use crate::wire::postgres; use super::threshold::Threshold;",
        ),
        ("lib", "pub mod cli; pub mod agent;"),
    ] {
        assert_clean(module, source);
    }
}

#[test]
fn upward_imports_are_refused() {
    for (module, source, expected) in [
        (
            "config",
            "use crate::agent::plan;",
            "`config` uses `agent`, which points upwards",
        ),
        (
            "health",
            "fn f() { crate::control::notify() }",
            "`health` uses `control`",
        ),
        (
            "runtime",
            "use crate::{\n    telemetry::{self, Log},\n};",
            "sideways",
        ),
        (
            "telemetry",
            "use crate::{config::{A, B}};",
            "`telemetry` uses `config`",
        ),
        ("agent/plan", "use crate::cli;", "`agent` uses `cli`"),
        (
            "health/checker",
            "use super::super::agent::plan;",
            "`health` uses `agent`",
        ),
        (
            "wire/resp/frame",
            "use super::super::super::health;",
            "`wire` uses `health`",
        ),
        ("upstream", "use crate :: main;", "`upstream` uses `main`"),
        (
            "control",
            "use lb_userspace::agent;",
            "`control` uses `agent`",
        ),
    ] {
        assert_refused(module, source, expected);
    }
}

#[test]
fn roles_do_not_import_each_other() {
    for (module, used) in [
        ("agent", "logic"),
        ("logic/http", "db_proxy"),
        ("db_proxy", "agent"),
    ] {
        assert_refused(module, &format!("use crate::{used}::X;"), "sideways");
    }
}

#[test]
fn a_module_without_a_layer_is_refused() {
    assert_refused("helpers", "", "has no layer");
}

#[test]
fn what_is_no_code_imports_nothing() {
    for source in [
        "// use crate::cli;",
        "/* crate::cli */",
        "//! See [`crate::cli`].",
        r#"const A: &str = "crate::cli";"#,
        "use other_crate::cli; use my::crate_cli;",
    ] {
        assert_clean("config", source);
    }
}

#[test]
fn pure_modules_do_not_wait_or_ask() {
    for (module, source, expected) in [
        (
            "wire/postgres",
            "use tokio::io::AsyncRead;",
            "`tokio` waits",
        ),
        (
            "failover",
            "use std::net::TcpStream;",
            "`TcpStream` is a socket",
        ),
        (
            "health/threshold",
            "let now = Instant::now();",
            "reads the clock",
        ),
        (
            "agent/plan",
            "fn f() { std::time::SystemTime::now() }",
            "reads the clock",
        ),
        (
            "maglev/draw",
            "use std::{net::UdpSocket};",
            "`UdpSocket` is a socket",
        ),
    ] {
        assert_refused(module, source, expected);
    }
}

#[test]
fn pure_modules_may_name_times_and_addresses_and_test_as_they_like() {
    for (module, source) in [
        (
            "health/threshold",
            "use std::time::{Duration, Instant}; fn f(now: Instant) {}",
        ),
        ("maglev", "use std::net::IpAddr;"),
        (
            "agent/plan",
            "#[cfg(test)]\nmod tests { fn now() { Instant::now() } }",
        ),
        ("agent/plan/tests", "fn now() { Instant::now() }"),
        ("health", "use tokio::time;"),
        ("agent/planner", "use tokio::time;"),
    ] {
        assert_clean(module, source);
    }
}

#[test]
fn only_the_datapath_uses_aya() {
    assert_clean("agent/datapath", "use aya::Ebpf;");
    assert_clean("agent/datapath/pins", "use aya::pin;");
    assert_clean("agent/stats", "use aya_log::EbpfLogger;");
    assert_refused("agent/stats", "use aya::maps::PerCpuArray;", "names `aya`");
}

#[test]
fn the_shared_crate_has_no_std() {
    for (module, source, is_refused) in [
        ("lib", "#![no_std]\npub mod flow;", false),
        ("lib", "#![cfg_attr(not(test), no_std)]", false),
        ("lib", "pub mod flow;", true),
        ("packet", "use core::net::IpAddr;", false),
        ("packet", "use std::net::IpAddr;", true),
        (
            "packet",
            "#[cfg(test)]\nmod tests { use std::vec::Vec; }",
            false,
        ),
        ("packet/tests", "use std::vec::Vec;", false),
    ] {
        assert_eq!(
            violation_in_common(module, source).is_some(),
            is_refused,
            "{module}: {source}"
        );
    }
}
