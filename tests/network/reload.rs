//! A configuration is read again: what it changes, and what happens when it cannot.

use std::fs;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use lb_tests::load::Load;
use lb_tests::site::Site;
use lb_tests::wait;
use lb_tests::wire::Wire;
use nix::sys::signal::Signal;

use crate::support::{
    SOON, Serving, assert_unharmed, backend, has_address, has_program, reload, status,
};

/// A VIP that no site has by itself.
const EXTRA: &str = "198.51.100.250";

fn extra_service(vip: &str) -> String {
    format!(
        "\n[[service]]\nname = \"extra\"\nvip = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\n\
         pool = \"logic\"\n"
    )
}

fn answered_by(serving: &Serving) -> Vec<String> {
    let load = Load::http(serving.site.vip()).clients(4).count(200);
    let report = load.run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    report.answered_by().into_keys().collect()
}

#[test]
fn a_backend_added_and_removed_by_reload_under_load_costs_no_connection_begun_after_it()
-> Result<()> {
    let without = |site: &Site| site.config().without("logic-3");
    let serving = Serving::configured(Site::builder(), |site| without(site).text())?;
    let load = Load::http(serving.site.vip()).clients(4);
    let running = load.start(serving.site.client());
    serving.configure(&serving.site.config())?;
    let began = Instant::now();
    let added = reload(&serving.agent, false)?;
    let adding = (began, Instant::now());
    assert!(added.applied);
    assert_eq!(added.changes.len(), 1, "{:?}", added.changes);
    assert!(
        added.changes[0].contains("logic/logic-3 added"),
        "{:?}",
        added.changes
    );
    let moved = added.moved.first().context("slots moved")?.share;
    assert!(
        (moved - 1.0 / 3.0).abs() < 0.02,
        "a third moves to the new one: {moved}"
    );
    // It passed its checks before it got its slots.
    assert_eq!(backend(&serving.agent, "logic-3")?.state, "up");
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    serving.configure(&without(&serving.site))?;
    let began = Instant::now();
    reload(&serving.agent, false)?;
    let removing = (began, Instant::now());
    assert!(backend(&serving.agent, "logic-3").is_err());
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2"]);
    // Without records of flows, a connection whose slot moved while it was open is reset; no other.
    let report = running.stop();
    for request in &report.requests {
        let straddles =
            |(from, to): &(Instant, Instant)| request.start < *to && request.end > *from;
        assert!(
            !request.outcome.is_failure() || [&adding, &removing].into_iter().any(straddles),
            "{request:?} failed, {report}"
        );
    }
    Ok(())
}

#[test]
fn hangup_reloads_as_well() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let heavy = serving.site.config().backend("logic-1", "weight", "300");
    serving.configure(&heavy)?;
    serving.agent.process().signal(Signal::SIGHUP)?;
    wait::until("the weight counts", SOON, || {
        backend(&serving.agent, "logic-1").is_ok_and(|it| it.weight == 300)
    })
    .with_context(|| serving.explain())?;
    let share = backend(&serving.agent, "logic-1")?.share;
    assert!((share - 0.6).abs() < 0.01, "{share}");
    Ok(())
}

#[test]
fn hangups_in_quick_succession_end_with_the_last_configuration() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    for weight in [200, 300, 400, 500] {
        let config = serving.site.config();
        serving.configure(&config.backend("logic-1", "weight", &weight.to_string()))?;
        serving.agent.process().signal(Signal::SIGHUP)?;
    }
    wait::until("the last weight counts", SOON, || {
        backend(&serving.agent, "logic-1").is_ok_and(|it| it.weight == 500)
    })
    .with_context(|| serving.explain())?;
    assert_eq!(status(&serving.agent)?.agent.config_error, None);
    Ok(())
}

#[test]
fn a_dry_run_tells_the_difference_and_changes_nothing() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let changed = serving.site.config().without("logic-3");
    serving.configure(&changed.backend("logic-1", "weight", "300"))?;
    let before = status(&serving.agent)?;
    let dry = reload(&serving.agent, true)?;
    assert!(!dry.applied);
    assert_eq!(dry.changes.len(), 2, "{:?}", dry.changes);
    assert!(dry.moved[0].share > 0.3, "{:?}", dry.moved);
    let after = status(&serving.agent)?;
    assert_eq!(after.agent.config_since, before.agent.config_since);
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    // What it foretold is what happens.
    let carried_out = reload(&serving.agent, false)?;
    assert_eq!(
        (carried_out.changes, carried_out.moved),
        (dry.changes, dry.moved)
    );
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2"]);
    Ok(())
}

#[test]
fn a_refused_reload_leaves_the_old_configuration_serving_and_says_why() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let (site, gateway) = (&serving.site, serving.site.gateway());
    let table = gateway.agent_table();
    let elsewhere = table.replace(
        &gateway.pins().display().to_string(),
        "/sys/fs/bpf/lbt-none",
    );
    let stranger = table.replace("\"eth0\"", "\"eth0\", \"nosuch0\"");
    let good = site.config().text();
    let cases = [
        ("syntax", format!("{table}\n{good}\n[[["), "lb.toml:"),
        (
            "slots",
            format!("{table}\n{}", site.config().pool("slots", "251").text()),
            "slots",
        ),
        ("pin", format!("{elsewhere}\n{good}"), "[agent].pin"),
        ("interface", format!("{stranger}\n{good}"), "nosuch0"),
        // One that is refused half way through: everything before it must be taken back.
        (
            "interface and backends",
            format!("{stranger}\n{}", site.config().without("logic-1").text()),
            "nosuch0",
        ),
    ];
    for (case, text, expected) in cases {
        gateway.write_config(&text)?;
        let refusal = reload(&serving.agent, false).map(|it| it.changes);
        let refusal = refusal.expect_err(case).to_string();
        assert!(refusal.contains(expected), "{case}: {refusal}");
        assert_eq!(refusal.lines().count(), 1, "{case}: {refusal}");
        let shown = status(&serving.agent)?.agent.config_error;
        assert!(
            shown.is_some_and(|it| it.contains(expected)),
            "{case} is shown"
        );
        assert_eq!(
            answered_by(&serving),
            ["logic-1", "logic-2", "logic-3"],
            "{case}"
        );
    }
    gateway.write_config(&good)?;
    reload(&serving.agent, false)?;
    assert_eq!(status(&serving.agent)?.agent.config_error, None);
    Ok(())
}

#[test]
fn a_reload_refused_half_way_does_not_bring_a_dead_backend_back() -> Result<()> {
    let native = |site: &Site| format!("{}xdp_mode = \"native\"\n", site.gateway().agent_table());
    let mut serving = Serving::configured(Site::builder(), |site| {
        format!("{}\n{}", native(site), site.config().text())
    })?;
    serving.kill("logic-1");
    serving.is("logic-1", "down")?;
    // The loopback device exists and runs no native program: refused after the tables were written.
    let site = &serving.site;
    let table = native(site).replace("\"eth0\"", "\"eth0\", \"lo\"");
    let text = format!("{table}\n{}", site.config().without("logic-1").text());
    site.gateway().write_config(&text)?;
    let refusal = reload(&serving.agent, false).map(|it| it.changes);
    let refusal = refusal.expect_err("lo has no native XDP").to_string();
    assert!(refusal.contains("lo:"), "{refusal}");
    assert_eq!(serving.backend("logic-1")?.state, "down");
    let report = Load::http(site.vip()).count(300).run(site.client());
    assert_unharmed(&report, &serving.agent);
    assert!(!report.answered_by().contains_key("logic-1"));
    assert!(!has_program(site.gateway(), "lo")?);
    Ok(())
}

#[test]
fn a_hangup_that_is_refused_is_shown() -> Result<()> {
    let mut serving = Serving::start(Site::builder().primaries(1))?;
    serving.site.gateway().write_config("[[[")?;
    serving.agent.process().signal(Signal::SIGHUP)?;
    wait::until("the refusal is shown", SOON, || {
        status(&serving.agent).is_ok_and(|status| status.agent.config_error.is_some())
    })
}

#[test]
fn interfaces_can_be_taken_out_and_put_in() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let gateway = serving.site.gateway();
    let has_program = |device: &str| -> Result<bool> {
        Ok(gateway.ip(&["link", "show", device])?.contains("prog/xdp"))
    };
    assert!(has_program("eth0")? && has_program("eth1")?);
    let one = gateway
        .agent_table()
        .replace("\"eth0\", \"eth1\"", "\"eth0\"");
    gateway.write_config(&format!("{one}\n{}", serving.site.config().text()))?;
    reload(&serving.agent, false)?;
    assert!(has_program("eth0")? && !has_program("eth1")?);
    serving.configure(&serving.site.config())?;
    reload(&serving.agent, false)?;
    assert!(has_program("eth0")? && has_program("eth1")?);
    assert_eq!(answered_by(&serving).len(), 3);
    let shown = status(&serving.agent)?.agent.interfaces;
    assert!(
        shown.iter().all(|interface| interface.xdp == "native"),
        "{shown:?}"
    );
    Ok(())
}

#[test]
fn a_service_added_and_removed_brings_and_takes_its_vip_announced_on_the_link() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let site = &serving.site;
    let extra: IpAddr = EXTRA.parse()?;
    // In front of the gateway: the router's end of the same link.
    let wire = Wire::open(site.router(), "front")?;
    let config = site.config().text();
    site.gateway()
        .write_config(&(config.clone() + &extra_service(EXTRA)))?;
    reload(&serving.agent, false)?;
    assert!(has_address(site, extra)?);
    wire.receive("a gratuitous ARP for the new VIP", SOON, |frame| {
        // Ethernet type ARP; sender and target protocol address are the VIP.
        let IpAddr::V4(vip) = extra else { return false };
        frame.get(12..14) == Some(&[0x08, 0x06])
            && frame.get(28..32) == Some(&vip.octets())
            && frame.get(38..42) == Some(&vip.octets())
    })?;
    site.router()
        .ip(&["route", "add", EXTRA, "via", "10.20.0.2"])?;
    for backend in site.backends() {
        backend.ip(&["addr", "add", &format!("{EXTRA}/32"), "dev", "lo"])?;
    }
    let target = (extra, 80).into();
    assert_unharmed(
        &Load::http(target).count(20).run(site.client()),
        &serving.agent,
    );
    site.gateway().write_config(&config)?;
    reload(&serving.agent, false)?;
    assert!(!has_address(site, extra)?);
    Ok(())
}

#[test]
fn a_vip_that_is_the_hosts_own_already_is_left_alone() -> Result<()> {
    let serving = Serving::start(Site::builder().primaries(1))?;
    let site = &serving.site;
    let extra: IpAddr = EXTRA.parse()?;
    site.gateway()
        .ip(&["addr", "add", &format!("{EXTRA}/32"), "dev", "lo"])?;
    site.gateway()
        .write_config(&(site.config().text() + &extra_service(EXTRA)))?;
    reload(&serving.agent, false)?;
    let services = status(&serving.agent)?.services;
    let service = services
        .iter()
        .find(|it| it.name == "extra")
        .context("the service")?;
    assert_eq!(service.vip_state, "kept");
    serving.configure(&site.config())?;
    reload(&serving.agent, false)?;
    assert!(has_address(site, extra)?, "it was not ours to remove");
    Ok(())
}

#[test]
fn without_manage_vips_no_address_is_added_and_turning_it_off_takes_ours_away() -> Result<()> {
    let serving = Serving::start(Site::builder().primaries(1))?;
    let site = &serving.site;
    for vip in site.vips() {
        assert!(has_address(site, *vip)?, "{vip}");
    }
    let table = site.gateway().agent_table() + "manage_vips = false\n";
    site.gateway()
        .write_config(&format!("{table}\n{}", site.config().text()))?;
    reload(&serving.agent, false)?;
    for vip in site.vips() {
        assert!(!has_address(site, *vip)?, "{vip}");
    }
    // Packets reach the program before the host looks at their destination.
    assert_unharmed(
        &Load::http(site.vip()).count(20).run(site.client()),
        &serving.agent,
    );
    let services = status(&serving.agent)?.services;
    assert!(
        services.iter().all(|it| it.vip_state == "unmanaged"),
        "{services:?}"
    );
    Ok(())
}

#[test]
fn a_configuration_file_that_is_gone_is_named() -> Result<()> {
    let serving = Serving::start(Site::builder().primaries(1))?;
    fs::remove_file(serving.site.run_directory().join("lb.toml"))?;
    let refusal = reload(&serving.agent, false).map(|it| it.changes);
    let refusal = refusal.expect_err("there is no file").to_string();
    assert!(refusal.contains("lb.toml"), "{refusal}");
    Ok(())
}
