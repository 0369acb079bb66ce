//! The agent comes, goes and comes back; packets do not wait for it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_tests::link::{self, End};
use lb_tests::load::Load;
use lb_tests::poll::Polling;
use lb_tests::site::{Backend, Nics, Site};
use lb_tests::wait;
use lb_userspace::control::Intent;
use nix::sys::signal::Signal;

use crate::support::{
    SOON, Serving, admin, assert_unharmed, backend, has_address, has_program, lb, status,
};

/// Long enough for every backend to have been checked several times.
const SEVERAL_CHECKS: usize = 10;

/// Waits until every backend has been checked several times more.
fn several_checks_later(serving: &Serving) -> Result<()> {
    let probes = || -> Result<u64> {
        let pools = status(&serving.agent)?.pools;
        let backends = pools.iter().flat_map(|pool| &pool.backends);
        let checks = backends.filter_map(|backend| backend.checks.as_ref());
        checks.map(|checks| checks.probes).min().context("checks")
    };
    let before = probes()?;
    wait::until("several checks", SOON, || {
        probes().is_ok_and(|probes| probes >= before + SEVERAL_CHECKS as u64)
    })
}

#[test]
fn packets_flow_while_the_agent_is_killed_and_started_again() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    // Nothing may be set up, nor down, by the next agent: kept connections would break.
    let fresh = Load::http(serving.site.vip()).clients(2);
    let kept = Load::http(serving.site.vip()).clients(8).keep_alive();
    let kept = kept
        .pause(Duration::from_millis(1))
        .start(serving.site.client());
    let fresh = fresh.start(serving.site.client());
    serving.agent.process().kill();
    let alone = fresh.count();
    wait::until("requests go on without an agent", SOON, || {
        fresh.count() > alone + 200
    })?;
    for _ in 0..2 {
        serving.restart_agent(&serving.site.config().text())?;
        serving.all_are_up()?;
        several_checks_later(&serving)?;
    }
    assert_unharmed(&fresh.stop(), &serving.agent);
    let kept = kept.stop();
    assert_unharmed(&kept, &serving.agent);
    assert!(
        !serving.agent.log().contains(" is down"),
        "{}",
        serving.agent.log()
    );
    assert!(
        serving.agent.log().contains("took over"),
        "{}",
        serving.agent.log()
    );
    Ok(())
}

#[test]
fn a_termination_leaves_program_vips_and_packets() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let running = Load::http(serving.site.vip())
        .clients(2)
        .start(serving.site.client());
    let status = serving.agent.process().terminate(SOON)?;
    assert!(status.success(), "{status}\n{}", serving.agent.log());
    let so_far = running.count();
    wait::until("requests go on", SOON, || running.count() > so_far + 200)?;
    assert_unharmed(&running.stop(), &serving.agent);
    for device in serving.site.gateway().interfaces() {
        assert!(has_program(serving.site.gateway(), device)?);
    }
    for vip in serving.site.vips() {
        assert!(has_address(&serving.site, *vip)?);
    }
    assert!(!serving.site.gateway().control_socket().exists());
    Ok(())
}

#[test]
fn a_configuration_changed_while_no_agent_ran_counts_when_one_starts() -> Result<()> {
    let site = Site::builder().vips(2);
    let config = |site: &Site| site.config().without("logic-3");
    let mut serving = Serving::configured(site, |site| config(site).text())?;
    let running = Load::http(serving.site.vip())
        .clients(2)
        .start(serving.site.client());
    serving.agent.process().kill();
    // Meanwhile logic-3 comes and logic-2 goes.
    let began = Instant::now();
    let changed = serving.site.config().without("logic-2");
    serving.restart_agent(&changed.text())?;
    serving.is("logic-3", "up")?;
    serving.is("logic-1", "up")?;
    wait::until("the change is written", SOON, || {
        backend(&serving.agent, "logic-2").is_err()
            && backend(&serving.agent, "logic-3").is_ok_and(|it| it.share > 0.4)
    })
    .with_context(|| serving.explain())?;
    let ended = Instant::now();
    let after = Load::http(serving.site.vip())
        .count(100)
        .run(serving.site.client());
    assert_unharmed(&after, &serving.agent);
    let by: Vec<String> = after.answered_by().into_keys().collect();
    assert_eq!(by, ["logic-1", "logic-3"]);
    let report = running.stop();
    for request in &report.requests {
        // A connection whose slot moved while it was open is reset; no other fails.
        let straddles = request.start < ended && request.end > began;
        assert!(
            !request.outcome.is_failure() || straddles,
            "{request:?}: {report}"
        );
    }
    Ok(())
}

#[test]
fn a_primary_that_died_while_no_agent_ran_is_found_by_the_next() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    admin(&serving.agent, "logic-2", Intent::Drain)?;
    serving.agent.process().kill();
    serving.kill("logic-1");
    serving.agent = serving
        .site
        .gateway()
        .start_agent(&serving.site.config().text())?;
    serving.is("logic-1", "down")?;
    serving.is("logic-2", "draining")?;
    let report = Load::http(serving.site.vip())
        .count(100)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    let by: Vec<String> = report.answered_by().into_keys().collect();
    assert_eq!(by, ["logic-3", "logic-s1"]);
    Ok(())
}

#[test]
fn detach_removes_program_maps_and_vips_and_nothing_of_others() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let gateway = serving.site.gateway();
    let config = gateway.write_config(&serving.site.config().text())?;
    let arguments = ["detach", "--config", config.to_str().context("a path")?];
    let refused = lb(gateway, &arguments, None)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("stop it first") && said.trim().lines().count() == 1,
        "{said}"
    );
    assert!(has_program(gateway, "eth0")?);

    serving.agent.process().terminate(SOON)?;
    let gateway = serving.site.gateway();
    gateway.ip(&["addr", "add", "192.0.2.77/32", "dev", "eth0"])?;
    let detached = lb(gateway, &arguments, None)?;
    let said = String::from_utf8_lossy(&detached.stderr).into_owned();
    assert!(detached.status.success(), "{said}");
    assert!(!has_program(gateway, "eth0")? && !has_program(gateway, "eth1")?);
    assert!(!gateway.pins().exists(), "pins are left");
    for vip in serving.site.vips() {
        assert!(!has_address(&serving.site, *vip)?);
    }
    assert!(has_address(&serving.site, "192.0.2.77".parse()?)?);
    // Nothing is left to detach, which is no failure; and the next agent starts from nothing.
    assert!(lb(gateway, &arguments, None)?.status.success());
    serving.restart_agent(&serving.site.config().text())?;
    serving.all_are_up()?;
    let report = Load::http(serving.site.vip())
        .count(50)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    Ok(())
}

#[test]
fn an_interface_that_is_deleted_and_made_again_serves_again() -> Result<()> {
    let serving = Serving::start(Site::builder().nics(Nics::One))?;
    let (site, gateway) = (&serving.site, serving.site.gateway());
    for _ in 0..2 {
        gateway.ip(&["link", "delete", "eth0"])?;
        serving.is("logic-1", "down")?;
        let _polling = plug_in_again(site)?;
        serving.all_are_up()?;
        wait::until("the program is attached again", SOON, || {
            has_program(gateway, "eth0").unwrap_or(false)
        })
        .with_context(|| serving.explain())?;
        wait::until("the VIPs are back", SOON, || {
            site.vips()
                .iter()
                .all(|vip| has_address(site, *vip).unwrap_or(false))
        })
        .with_context(|| serving.explain())?;
        for vip in [site.vip(), site.vip_v6()] {
            let report = Load::http(vip).count(50).run(site.client());
            assert_unharmed(&report, &serving.agent);
        }
    }
    Ok(())
}

#[test]
fn an_agent_starts_on_a_site_without_a_running_backend() -> Result<()> {
    let site = Site::builder().primaries(2).build()?;
    let agent = site.gateway().start_agent(&site.config().text())?;
    wait::until("it attaches", SOON, || {
        has_program(site.gateway(), "eth0").unwrap_or(false)
    })?;
    let servers = site.backends().iter().map(Backend::serve);
    let servers: Result<Vec<_>> = servers.collect();
    wait::until("all are up", SOON, || {
        site.backends()
            .iter()
            .all(|it| backend(&agent, it.name()).is_ok_and(|it| it.state == "up"))
    })?;
    assert_unharmed(&Load::http(site.vip()).count(50).run(site.client()), &agent);
    drop(servers);
    Ok(())
}

#[test]
fn an_interface_made_again_while_no_agent_ran_serves_when_one_starts() -> Result<()> {
    let mut serving = Serving::start(Site::builder().nics(Nics::One))?;
    serving.agent.process().kill();
    serving.site.gateway().ip(&["link", "delete", "eth0"])?;
    let _polling = plug_in_again(&serving.site)?;
    serving.restart_agent(&serving.site.config().text())?;
    serving.all_are_up()?;
    for vip in [serving.site.vip(), serving.site.vip_v6()] {
        let report = Load::http(vip).count(50).run(serving.site.client());
        assert_unharmed(&report, &serving.agent);
    }
    Ok(())
}

#[test]
fn another_number_of_slots_counts_after_a_restart() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    serving.agent.process().kill();
    let small = serving.site.config().pool("slots", "251").text();
    serving.restart_agent(&small)?;
    serving.all_are_up()?;
    wait::until("the pool has its new size", SOON, || {
        status(&serving.agent).is_ok_and(|status| status.pools[0].slots == 251)
    })?;
    let report = Load::http(serving.site.vip())
        .count(100)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    assert_eq!(report.answered_by().len(), 3, "{report}");
    Ok(())
}

#[test]
fn an_agent_killed_at_any_moment_of_a_change_is_made_good_by_the_next() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let whole = serving.site.config();
    for round in 0..8_u64 {
        let config = if round % 2 == 0 {
            whole
                .clone()
                .without("logic-3")
                .backend("logic-1", "weight", "300")
        } else {
            whole.clone()
        };
        serving.configure(&config)?;
        serving.agent.process().signal(Signal::SIGHUP)?;
        // Another moment each time: reading, building, writing, swapping, settling.
        thread::sleep(Duration::from_millis(4 * round));
        serving.restart_agent(&config.text())?;
        serving.all_are_up()?;
        let shares = |serving: &Serving| -> Result<Vec<u32>> {
            let backends = status(&serving.agent)?.pools.remove(0).backends;
            let percent = |share: f64| (share * 100.0).round() as u32;
            Ok(backends
                .iter()
                .map(|backend| percent(backend.share))
                .collect())
        };
        let expected = if round % 2 == 0 {
            vec![75, 25, 0]
        } else {
            vec![33, 33, 33, 0]
        };
        wait::until("the configuration is in force", SOON, || {
            shares(&serving).is_ok_and(|shares| shares == expected)
        })
        .with_context(|| serving.explain())?;
        let report = Load::http(serving.site.vip())
            .count(60)
            .run(serving.site.client());
        assert_unharmed(&report, &serving.agent);
        assert_eq!(report.answered_by().len(), expected.len() - 1, "{report}");
    }
    Ok(())
}

/// Wires the gateway's `eth0` to the segment anew.
fn plug_in_again(site: &Site) -> Result<Polling> {
    let gateway = site.gateway();
    link::connect(
        &End::new(site.fabric(), "to-gateway")
            .bridge("br0")
            .mtu(1600),
        &End::new(gateway, "eth0")
            .addresses(["10.0.1.2/24".parse()?, "fd00:1::2/64".parse()?])
            .mtu(1600),
    )?;
    gateway.ip(&["route", "add", "default", "via", "10.0.1.1"])?;
    Polling::start(site.fabric(), "to-gateway")
}
