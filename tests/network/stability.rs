//! What the agent does and says while flows are kept: windows, records, what was removed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::load::{Load, Outcome, Running};
use lb_tests::site::{Site, SiteBuilder};
use lb_tests::wait;
use lb_userspace::control::{Answer, Intent, Request, Route, Status};

use crate::support::{SOON, Serving, admin, ask, assert_unharmed, reload, status};

/// Times short enough to see the end of them.
const FLOWS: &str = "{ window = \"1s\", udp_window = \"500ms\", idle = \"5s\", lost_for = \"1s\", \
                     embryo = \"1s\" }";

fn serving(site: SiteBuilder) -> Result<Serving> {
    Serving::configured(site, |site| site.config().pool("flows", FLOWS).text())
}

/// Connections that stay, and are used several times in every window.
fn connections(serving: &Serving) -> Running {
    Load::http(serving.site.vip())
        .clients(48)
        .keep_alive()
        .pause(Duration::from_millis(50))
        .start(serving.site.client())
}

fn until(serving: &Serving, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Status> {
    wait::until(what, SOON, || {
        status(&serving.agent).is_ok_and(|status| is_so(&status))
    })
    .with_context(|| serving.explain())?;
    status(&serving.agent)
}

fn is_settled(status: &Status) -> bool {
    status.pools.iter().all(|pool| pool.unstable.is_none())
}

/// A connection on `backend`, by the client's address.
fn one_on(load: &Running, backend: &str) -> Result<SocketAddr> {
    let answered = load.so_far().requests.into_iter().rev().find_map(|it| {
        matches!(&it.outcome, Outcome::Answered { by } if by.to_string() == backend)
            .then_some(it.from)?
    });
    answered.with_context(|| format!("no connection on {backend}"))
}

fn route(serving: &Serving, from: SocketAddr) -> Result<Route> {
    let request = Request::Route {
        vip: serving.site.vip(),
        protocol: "tcp".into(),
        from,
    };
    match ask(&serving.agent, &request)? {
        Answer::Route(route) => Ok(*route),
        other => bail!("not a route: {other:?}"),
    }
}

#[test]
fn a_drain_makes_a_pool_unstable_until_some_time_after_it_is_taken_back() -> Result<()> {
    let serving = serving(Site::builder())?;
    assert!(is_settled(&status(&serving.agent)?));
    let load = connections(&serving);
    wait::until("every client was answered", SOON, || load.count() > 200)?;
    admin(&serving.agent, "logic-2", Intent::Drain)?;
    let unstable = until(&serving, "flows are recorded", |status| {
        let unstable = status.pools[0].unstable.as_ref();
        unstable.is_some_and(|it| it.recorded > 0)
    })?;
    let told = unstable.pools[0].unstable.clone().context("unstable")?;
    assert_eq!(told.causes, ["logic-2 is draining"]);
    assert!(
        told.since.is_some() && told.until.is_none() && told.slots > 0,
        "{told:?}"
    );
    assert_eq!(serving.backend("logic-2")?.flows, "draining");
    let from = one_on(&load, "logic-2")?;
    let route = route(&serving, from)?;
    assert_eq!(route.backend.as_deref(), Some("logic-2"), "{route:?}");
    assert!(!route.stable && route.record.is_some_and(|it| it.live));
    assert_ne!(route.e_new.as_deref(), Some("logic-2"));
    assert_eq!(route.e_old.as_deref(), Some("logic-2"));
    admin(&serving.agent, "logic-2", Intent::Undrain)?;
    until(&serving, "everything is settled", is_settled)?;
    assert_eq!(serving.backend("logic-2")?.flows, "settled");
    assert_unharmed(&load.stop(), &serving.agent);
    Ok(())
}

#[test]
fn a_removed_backend_keeps_its_connections_through_a_restart_and_goes_when_they_end() -> Result<()>
{
    let mut serving = serving(Site::builder())?;
    let load = connections(&serving);
    wait::until("every client was answered", SOON, || load.count() > 200)?;
    let config = serving.site.config().pool("flows", FLOWS);
    let without = config.clone().without("logic-3");
    serving.configure(&without)?;
    reload(&serving.agent, false)?;
    let removed = status(&serving.agent)?.removed;
    assert_eq!(removed.len(), 1);
    let it = &removed[0];
    assert_eq!(
        (it.name.as_str(), it.flows.as_str()),
        ("logic-3", "removed")
    );
    assert!(is_removed_reason(&it.reason), "{it:?}");
    let from = one_on(&load, "logic-3")?;
    // The next agent knows it by its address.
    serving.restart_agent(&without.text())?;
    let after = until(&serving, "it is known again", |status| {
        status.removed.len() == 1
    })?;
    assert_eq!(after.removed[0].id, it.id);
    assert_eq!(after.removed[0].flows, "removed");
    assert_eq!(route(&serving, from)?.record.map(|it| it.live), Some(true));
    let later = until(&serving, "every window is over", |status| {
        status.agent.flows.sweeps > 8
    })?;
    assert_eq!(later.removed.len(), 1, "its connections outlive them");
    assert_unharmed(&load.stop(), &serving.agent);
    let end = until(&serving, "nothing names it", |status| {
        status.removed.is_empty()
    })?;
    assert!(end.pools[0].backends.iter().all(|it| it.name != "logic-3"));
    until(&serving, "everything is settled", is_settled)?;
    // And it may come back.
    serving.configure(&config)?;
    reload(&serving.agent, false)?;
    serving.is("logic-3", "up")?;
    until(&serving, "everything is settled again", is_settled)?;
    Ok(())
}

fn is_removed_reason(reason: &str) -> bool {
    reason == "removed from the configuration"
}

#[test]
fn connections_stay_where_they_are_when_a_service_points_at_another_pool() -> Result<()> {
    let serving = serving(Site::builder())?;
    let load = connections(&serving);
    wait::until("every client was answered", SOON, || load.count() > 200)?;
    let from = one_on(&load, "logic-3")?;
    let moved = serving.site.config().pool("flows", FLOWS);
    let moved = moved.without("logic-3").text();
    let moved = moved
        .replace("name = \"logic\"", "name = \"other\"")
        .replace("pool = \"logic\"", "pool = \"other\"");
    serving.site.gateway().write_config(&moved)?;
    reload(&serving.agent, false)?;
    let causes = status(&serving.agent)?.pools[0].unstable.clone();
    let causes = causes.context("unstable")?.causes;
    assert!(
        causes.contains(&"a service pointed at pool logic before".to_owned()),
        "{causes:?}"
    );
    until(&serving, "the window is over", |status| {
        let unstable = status.pools[0].unstable.as_ref();
        unstable.is_none_or(|it| it.causes.iter().all(|it| !it.contains("pointed")))
    })?;
    let route = route(&serving, from)?;
    assert!(route.record.is_some_and(|it| it.live), "it is recorded");
    // Of the old pool those stay that have connections; the standby, which has none, may go at once.
    let removed = status(&serving.agent)?.removed;
    for name in ["logic-1", "logic-2", "logic-3"] {
        assert!(removed.iter().any(|it| it.name == name), "{name}");
    }
    let report = load.stop();
    assert_unharmed(&report, &serving.agent);
    until(&serving, "nothing names the old pool", |status| {
        status.removed.is_empty() && is_settled(status)
    })?;
    Ok(())
}
