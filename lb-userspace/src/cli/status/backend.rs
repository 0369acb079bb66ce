//! Everything about one backend.

use std::time::Duration;

use jiff::Timestamp;

use super::super::units::{
    ago, microseconds, percent, si, si_bytes, si_count, si_count_bytes, until_then,
};
use super::{HEADING, state_style};
use crate::control::{BackendStatus, CheckStatus};

/// One line for each thing that there is to know; long reasons are shown in full here.
pub(super) fn detail(backend: &BackendStatus, now: Timestamp) -> String {
    let (total, rate) = (&backend.total, &backend.rate);
    let style = state_style(&backend.state);
    let because = |reason: &str| match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let for_ = |since: &Option<String>| {
        since
            .as_ref()
            .map_or_else(String::new, |since| format!(" for {}", ago(since, now)))
    };
    let weight = if backend.weight == backend.weight_configured {
        backend.weight.to_string()
    } else {
        format!(
            "{} (by the operator; configured: {})",
            backend.weight, backend.weight_configured
        )
    };
    let zone = backend.zone.as_deref().map(|zone| format!(", zone {zone}"));
    let lines = [
        (
            "state",
            format!(
                "{style}{}{style:#} for {}{}",
                backend.state,
                ago(&backend.since, now),
                because(&backend.reason)
            ),
        ),
        ("flows", flows(backend, now)),
        (
            "operator",
            format!("{}{}", backend.admin, for_(&backend.admin_since)),
        ),
        (
            "health",
            format!(
                "{}{}{}",
                backend.health,
                for_(&backend.health_since),
                because(backend.health_reason.as_deref().unwrap_or_default())
            ),
        ),
        (
            "checks",
            backend.checks.as_ref().map_or_else(no_check, checks),
        ),
        ("next hop", backend.next_hop.clone()),
        (
            "weight",
            format!("{weight}, {} of the slots", percent(backend.share)),
        ),
        (
            "now",
            format!(
                "{} packets/s, {}/s, {} new flows/s",
                si(rate.packets_per_second),
                si_bytes(rate.bytes_per_second),
                si(rate.new_flows_per_second)
            ),
        ),
        (
            "in all",
            format!(
                "{} packets ({} of them diverted), {}, {} new flows",
                si_count(total.packets),
                si_count(total.diverted),
                si_count_bytes(total.bytes),
                si_count(total.new_flows)
            ),
        ),
    ];
    let head = format!(
        "{HEADING}{}/{}{HEADING:#}: {} at {}{} (id {})\n",
        backend.pool,
        backend.name,
        backend.role,
        backend.address,
        zone.unwrap_or_default(),
        backend.id
    );
    lines.into_iter().fold(head, |text, (name, value)| {
        text + &format!("  {name:<8}  {value}\n")
    })
}

/// What it is to flows, in words.
fn flows(backend: &BackendStatus, now: Timestamp) -> String {
    let end = backend
        .flows_until
        .as_ref()
        .map_or_else(String::new, |until| {
            format!(", for {} more", until_then(until, now))
        });
    let meaning = match backend.flows.as_str() {
        "settled" => "takes new flows and owns the old ones of its slots",
        "tracked" => "takes and owns all flows of its slots; some may be recorded elsewhere",
        "warming" => "takes new flows; old ones of its slots are recorded where they are",
        "draining" => "keeps the flows that it has and takes no new ones",
        "removed" => "out of the configuration; keeps the flows that it has until they end",
        "lost" => "its flows are told that it failed",
        "down" => "has none",
        _ => "",
    };
    let mut text = format!("{}: {meaning}{end}", backend.flows);
    for (count, what) in [
        (backend.repeated_syns, "SYNs were repeated"),
        (backend.resets, "resets were sent for it"),
    ] {
        if count > 0 {
            text += &format!("; {} {what}", si_count(count));
        }
    }
    text
}

fn no_check() -> String {
    "none".to_owned()
}

/// `1.20k passed, 4 refused, 2 timeout; the last took 1.23 ms`.
fn checks(checks: &CheckStatus) -> String {
    let mut text = format!("{} passed", si_count(checks.passed));
    for (kind, &count) in checks.failed.iter().filter(|&(_, &count)| count > 0) {
        text += &format!(", {} {kind}", si_count(count));
    }
    let last = Duration::try_from_secs_f64(checks.last_seconds).unwrap_or_default();
    let micros = u64::try_from(last.as_micros()).unwrap_or(u64::MAX);
    text + &format!("; the last took {}", microseconds(micros))
}
