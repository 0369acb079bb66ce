//! A backend fails and returns: who takes its flows, and who notices nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use lb_common::maps::name;
use lb_tests::load::{Failure, Load};
use lb_tests::site::Site;
use lb_tests::wait;
use lb_userspace::agent::datapath::Pins;

use crate::support::{SOON, Serving, assert_unharmed, disturbed};

const SURVIVORS: [&str; 2] = ["logic-2", "logic-3"];

/// Who answers new connections now; none may fail.
fn answered_by(serving: &Serving) -> Vec<String> {
    let load = Load::http(serving.site.vip()).clients(4).count(200);
    let report = load.run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    report.answered_by().into_keys().collect()
}

/// Does `fault` under load on kept connections; fails if one of a surviving primary breaks.
fn assert_survivors_undisturbed(
    serving: &mut Serving,
    fault: impl FnOnce(&mut Serving) -> Result<()>,
) -> Result<()> {
    let load = Load::http(serving.site.vip())
        .keep_alive()
        .clients(16)
        .pause(Duration::from_millis(2))
        .timeout(Duration::from_millis(200));
    let running = load.start(serving.site.client());
    wait::until("every client has a connection", SOON, || {
        running.count() >= 64
    })?;
    let began = Instant::now();
    fault(serving)?;
    let so_far = running.count();
    wait::until("requests go on", SOON, || running.count() >= so_far + 100)?;
    let report = running.stop();
    let broken = disturbed(&report, &SURVIVORS, began);
    assert!(broken.is_empty(), "{broken:#?}\n{}", serving.agent.log());
    for survivor in SURVIVORS {
        assert!(report.answered_by().contains_key(survivor), "{report}");
    }
    Ok(())
}

#[test]
fn a_killed_primary_is_replaced_and_nobody_else_is_disturbed() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    assert_survivors_undisturbed(&mut serving, |serving| {
        serving.kill("logic-1");
        serving.is("logic-1", "down")
    })?;
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3", "logic-s1"]);
    let down = serving.backend("logic-1")?;
    // Refused, or reset if a probe was under way.
    let reason = down.reason.as_str();
    assert!(reason.starts_with("check failed: connection"), "{reason}");
    Ok(())
}

#[test]
fn a_silent_host_is_replaced_and_nobody_else_is_disturbed() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    assert_survivors_undisturbed(&mut serving, |serving| {
        serving.site.backend("logic-1").silence()?;
        serving.is("logic-1", "down")
    })?;
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3", "logic-s1"]);
    serving.site.backend("logic-1").unsilence()?;
    serving.is("logic-1", "up")?;
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn a_host_whose_cable_is_pulled_is_replaced_and_returns() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    serving.site.backend("logic-1").unplug()?;
    serving.is("logic-1", "down")?;
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3", "logic-s1"]);
    serving.site.backend("logic-1").plug()?;
    serving.is("logic-1", "up")?;
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn a_frozen_server_is_replaced_although_its_kernel_still_accepts() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let server = serving.servers.get_mut("logic-1").context("a server")?;
    server.process().freeze()?;
    serving.is("logic-1", "down")?;
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3", "logic-s1"]);
    let server = serving.servers.get_mut("logic-1").context("a server")?;
    server.process().thaw()?;
    serving.is("logic-1", "up")
}

#[test]
fn a_server_that_says_it_is_not_ready_gets_no_connections_and_its_status_is_the_reason()
-> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    assert_survivors_undisturbed(&mut serving, |serving| {
        serving.site.backend("logic-1").set_ready(false)?;
        serving.is("logic-1", "down")
    })?;
    let down = serving.backend("logic-1")?;
    assert!(down.reason.contains("503"), "{}", down.reason);
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3", "logic-s1"]);
    serving.site.backend("logic-1").set_ready(true)?;
    serving.is("logic-1", "up")?;
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn a_primary_that_returns_gets_its_flows_back_and_no_others() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    assert_survivors_undisturbed(&mut serving, |serving| {
        serving.kill("logic-1");
        serving.is("logic-1", "down")?;
        serving.revive("logic-1")?;
        serving.is("logic-1", "up")
    })?;
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn the_standby_serves_alone_when_every_primary_is_dead() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    for primary in ["logic-1", "logic-2", "logic-3"] {
        serving.kill(primary);
    }
    for primary in ["logic-1", "logic-2", "logic-3"] {
        serving.is(primary, "down")?;
    }
    assert_eq!(answered_by(&serving), ["logic-s1"]);
    Ok(())
}

#[test]
fn with_nobody_left_connections_and_datagrams_are_refused_at_once() -> Result<()> {
    let serving = Serving::start(Site::builder().primaries(2))?;
    let site = &serving.site;
    // Silent, not killed: nobody but the gateway can answer.
    for backend in site.backends() {
        backend.silence()?;
    }
    for backend in site.backends() {
        serving.is(backend.name(), "down")?;
    }
    for vip in [site.vip(), site.vip_v6()] {
        for load in [Load::http(vip), Load::udp(vip)] {
            let load = load.count(20).timeout(Duration::from_secs(5));
            let started = Instant::now();
            let report = load.run(site.client());
            assert_eq!(
                report.failures().get(&Failure::Refused),
                Some(&20),
                "{vip}: {report}"
            );
            assert!(started.elapsed() < Duration::from_secs(5), "{report}");
        }
    }
    for backend in site.backends() {
        backend.unsilence()?;
    }
    serving.all_are_up()?;
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2"]);
    Ok(())
}

#[test]
fn failing_and_recovering_write_no_slot() -> Result<()> {
    let mut serving = Serving::configured(Site::builder(), |site| {
        site.config().pool("slots", "251").text()
    })?;
    let pins = serving.site.gateway().pins();
    let before = table(&pins)?;
    for round in 0..2 {
        serving.kill("logic-1");
        serving.site.backend("logic-2").silence()?;
        serving.is("logic-1", "down")?;
        serving.is("logic-2", "down")?;
        assert_eq!(table(&pins)?, before, "round {round}: both down");
        serving.revive("logic-1")?;
        serving.site.backend("logic-2").unsilence()?;
        serving.all_are_up()?;
        assert_eq!(table(&pins)?, before, "round {round}: both back");
    }
    Ok(())
}

/// The kernel's id of the one pool's table, and every slot in it.
fn table(pins: &Path) -> Result<(u32, Vec<u64>)> {
    let path = Pins::at(pins).map(name::TABLES);
    let tables: ArrayOfMaps<MapData, MapData> =
        Map::ArrayOfMaps(MapData::from_pin(path)?).try_into()?;
    let table = tables.get(&0, 0)?;
    let id = table.info()?.id();
    let slots: Array<MapData, u64> = Map::Array(table).try_into()?;
    let slots = slots.iter().collect::<Result<Vec<_>, _>>()?;
    Ok((id, slots))
}
