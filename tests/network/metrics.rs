//! What Prometheus scrapes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::load::{Load, http};
use lb_tests::site::Site;
use lb_tests::wait;

use crate::support::{SOON, Serving, assert_unharmed};

/// A scrape: samples by name and labels as they are written.
type Samples = BTreeMap<String, f64>;

fn scrape(serving: &Serving) -> Result<Samples> {
    let address: SocketAddr = "127.0.0.1:9180".parse()?;
    let answer = serving
        .site
        .gateway()
        .run(|| http::request(address, "GET", "/metrics", Duration::from_secs(5)))?;
    ensure!(answer.status == 200, "status {}", answer.status);
    parse(std::str::from_utf8(&answer.body)?)
}

/// Reads the text format 0.0.4 as strictly as `promtool check metrics`: every family has its HELP
/// and TYPE before its first sample, all its samples stand together, names and labels are well
/// formed, counters end in `_total`, no sample comes twice.
fn parse(text: &str) -> Result<Samples> {
    let mut samples = Samples::new();
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut family = "";
    ensure!(text.ends_with('\n'), "the last line is cut off");
    for line in text.lines() {
        let context = || format!("in {line:?}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').with_context(context)?;
            ensure!(helped.insert(name), "HELP twice {}", context());
            ensure!(help.ends_with('.'), "help is a sentence {}", context());
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').with_context(context)?;
            ensure!(helped.contains(name), "no HELP before {}", context());
            ensure!(
                types.insert(name, kind).is_none(),
                "TYPE twice {}",
                context()
            );
            ensure!(["counter", "gauge"].contains(&kind), "{}", context());
            let is_total = name.ends_with("_total");
            ensure!(
                is_total == (kind == "counter"),
                "name against type {}",
                context()
            );
            family = name;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').with_context(context)?;
        let name = series.split('{').next().unwrap_or_default();
        ensure!(name == family, "outside of its family {}", context());
        ensure!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
            "name {}",
            context()
        );
        if let Some(labels) = series
            .strip_prefix(name)
            .filter(|labels| !labels.is_empty())
        {
            labels_are_well_formed(labels).with_context(context)?;
        }
        let value: f64 = value.parse().with_context(context)?;
        ensure!(value >= 0.0, "{}", context());
        ensure!(
            samples.insert(series.to_owned(), value).is_none(),
            "twice {}",
            context()
        );
    }
    Ok(samples)
}

fn labels_are_well_formed(labels: &str) -> Result<()> {
    let inside = labels
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .context("braces")?;
    let mut names = BTreeSet::new();
    for label in inside.split("\",") {
        let (name, value) = label.split_once("=\"").context("NAME=\"VALUE\"")?;
        ensure!(
            !value.trim_end_matches('"').contains(['"', '\n']),
            "value {value:?}"
        );
        ensure!(names.insert(name), "label {name} twice");
    }
    Ok(())
}

/// The sum of a family's samples whose labels contain `label`.
fn sum(samples: &Samples, name: &str, label: &str) -> f64 {
    let family = format!("{name}{{");
    samples
        .iter()
        .filter(|(series, _)| series.starts_with(&family) && series.contains(label))
        .map(|(_, value)| value)
        .sum()
}

#[test]
fn a_scrape_is_well_formed_and_its_counters_move_with_traffic() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let before = scrape(&serving)?;
    assert_eq!(before.get("lb_config_last_reload_successful"), Some(&1.0));
    assert_eq!(sum(&before, "lb_backend_state", "state=\"up\""), 4.0);
    assert_eq!(sum(&before, "lb_interface_xdp", "mode=\"native\""), 2.0);
    let report = Load::http(serving.site.vip())
        .count(100)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    let moved = |after: &Samples, name: &str, label: &str| {
        sum(after, name, label) - sum(&before, name, label)
    };
    let service = "service=\"web-tcp-1\"";
    let after = wait::until_some("all 100 connections are counted", SOON, || {
        let after = scrape(&serving).ok()?;
        (moved(&after, "lb_service_new_flows_total", service) >= 100.0).then_some(after)
    })?;
    assert_eq!(moved(&after, "lb_service_new_flows_total", service), 100.0);
    // SYN, ACK, request and FIN at the least; the answers do not come this way.
    assert!(moved(&after, "lb_service_packets_total", service) >= 400.0);
    assert!(moved(&after, "lb_service_bytes_total", service) >= 400.0 * 40.0);
    assert_eq!(
        moved(&after, "lb_service_packets_total", "service=\"web-udp-1\""),
        0.0
    );

    serving.kill("logic-1");
    serving.is("logic-1", "down")?;
    let failed = scrape(&serving)?;
    let logic = "backend=\"logic-1\"";
    let down: Vec<_> = failed
        .iter()
        .filter(|(series, _)| series.starts_with("lb_backend_state{") && series.contains(logic))
        .filter(|(series, _)| series.contains("\"down\""))
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(down, [1.0]);

    serving.site.gateway().write_config("[[[")?;
    let refused = crate::support::reload(&serving.agent, false);
    assert!(refused.is_err());
    let after = scrape(&serving)?;
    assert_eq!(after.get("lb_config_last_reload_successful"), Some(&0.0));
    Ok(())
}
