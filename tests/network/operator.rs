//! What the operator wants of a backend outranks everything, and survives the agent.

use anyhow::Result;
use lb_tests::load::Load;
use lb_tests::site::Site;
use lb_tests::wait;
use lb_userspace::control::Intent;

use crate::support::{SOON, Serving, admin, assert_unharmed, reload, weigh};

/// Who answers new connections now; none may fail.
fn answered_by(serving: &Serving) -> Vec<String> {
    let load = Load::http(serving.site.vip()).clients(4).count(200);
    let report = load.run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    report.answered_by().into_keys().collect()
}

#[test]
fn a_drained_backend_gets_no_new_connection_until_it_is_undrained() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let drained = admin(&serving.agent, "logic-2", Intent::Drain)?;
    assert_eq!(
        (drained.state.as_str(), drained.admin.as_str()),
        ("draining", "drained")
    );
    assert!(
        drained.admin_since.is_some() && drained.reason.contains("operator"),
        "{drained:?}"
    );
    assert_eq!(answered_by(&serving), ["logic-1", "logic-3", "logic-s1"]);
    let again = admin(&serving.agent, "logic-2", Intent::Drain)?;
    assert_eq!(again.admin_since, drained.admin_since);
    let undrained = admin(&serving.agent, "logic-2", Intent::Undrain)?;
    assert_eq!(
        (undrained.state.as_str(), undrained.admin.as_str()),
        ("up", "none")
    );
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn a_disabled_backend_is_down_and_health_cannot_bring_it_back() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    let disabled = admin(&serving.agent, "logic-1", Intent::Disable)?;
    assert_eq!(
        (disabled.state.as_str(), disabled.admin.as_str()),
        ("down", "disabled")
    );
    serving.kill("logic-1");
    let health_is = |serving: &Serving, word: &str| {
        wait::until(&format!("its health is {word}"), SOON, || {
            serving
                .backend("logic-1")
                .is_ok_and(|backend| backend.health == word)
        })
    };
    health_is(&serving, "down")?;
    serving.revive("logic-1")?;
    health_is(&serving, "up")?;
    let disabled = serving.backend("logic-1")?;
    assert_eq!(disabled.state, "down", "{}", disabled.reason);
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3", "logic-s1"]);
    let enabled = admin(&serving.agent, "logic-1", Intent::Enable)?;
    assert_eq!(enabled.state, "up", "{}", enabled.reason);
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn drains_disables_and_weights_survive_restart_and_reload() -> Result<()> {
    let mut serving = Serving::start(Site::builder())?;
    admin(&serving.agent, "logic-1", Intent::Drain)?;
    admin(&serving.agent, "logic-2", Intent::Disable)?;
    weigh(&serving.agent, "logic-3", Some(42))?;
    let seen = |serving: &Serving| -> Result<Vec<(String, String, u32)>> {
        let names = ["logic-1", "logic-2", "logic-3"].map(|name| serving.backend(name));
        names
            .into_iter()
            .map(|backend| backend.map(|it| (it.admin, it.state, it.weight)))
            .collect()
    };
    let expected = [
        ("drained", "draining", 100),
        ("disabled", "down", 100),
        ("none", "up", 42),
    ]
    .map(|(admin, state, weight)| (admin.to_owned(), state.to_owned(), weight));
    assert_eq!(seen(&serving)?, expected);
    serving.restart_agent(&serving.site.config().text())?;
    wait::until("the new agent has it all", SOON, || {
        seen(&serving).is_ok_and(|seen| seen == expected)
    })?;
    reload(&serving.agent, false)?;
    assert_eq!(seen(&serving)?, expected);
    assert_eq!(answered_by(&serving), ["logic-3", "logic-s1"]);
    Ok(())
}

#[test]
fn a_weight_moves_the_share_and_default_moves_it_back() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let third = serving.backend("logic-1")?.share;
    assert!((third - 1.0 / 3.0).abs() < 0.01, "{third}");
    let heavy = weigh(&serving.agent, "logic-1", Some(400))?;
    assert_eq!((heavy.weight, heavy.weight_configured), (400, 100));
    assert!((heavy.share - 4.0 / 6.0).abs() < 0.01, "{}", heavy.share);
    let nothing = weigh(&serving.agent, "logic-1", Some(0))?;
    assert_eq!(nothing.share, 0.0);
    assert_eq!(answered_by(&serving), ["logic-2", "logic-3"]);
    let back = weigh(&serving.agent, "logic-1", None)?;
    assert_eq!((back.weight, back.share), (100, third));
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}

#[test]
fn a_backend_that_is_not_there_is_refused_and_the_answer_names_those_there_are() -> Result<()> {
    let serving = Serving::start(Site::builder().primaries(1))?;
    let refusal = admin(&serving.agent, "logic-9", Intent::Drain).map(|it| it.name);
    let refusal = refusal.expect_err("there is no logic-9").to_string();
    assert!(
        refusal.contains("logic-9") && refusal.contains("logic-1"),
        "{refusal}"
    );
    let refusal = weigh(&serving.agent, "logic-1", Some(1_000_000)).map(|it| it.weight);
    let refusal = refusal.expect_err("beyond the largest weight").to_string();
    assert!(refusal.contains("65535"), "{refusal}");
    Ok(())
}

#[test]
fn the_command_line_says_and_does_all_of_it() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let agent = &serving.agent;
    let table = agent.cli(&["status"])?;
    for name in ["web-tcp-1", "logic-1", "logic-s1", "native"] {
        assert!(table.contains(name), "{name} is missing in\n{table}");
    }
    agent.cli(&["drain", "logic-2"])?;
    assert_eq!(serving.backend("logic-2")?.state, "draining");
    agent.cli(&["undrain", "logic-2"])?;
    agent.cli(&["disable", "logic-2"])?;
    assert_eq!(serving.backend("logic-2")?.state, "down");
    agent.cli(&["enable", "logic-2"])?;
    assert_eq!(serving.backend("logic-2")?.state, "up");
    agent.cli(&["weight", "logic-1", "400"])?;
    assert_eq!(serving.backend("logic-1")?.weight, 400);
    agent.cli(&["weight", "logic-1", "default"])?;
    assert_eq!(serving.backend("logic-1")?.weight, 100);
    agent.cli(&["reload", "--dry-run"])?;
    agent.cli(&["reload"])?;
    let vip = format!("{}/tcp", serving.site.vip());
    let from = format!("{}:40000", serving.site.client().v4());
    let route = agent.json(&["route", "--vip", &vip, "--from", &from])?;
    let chosen = route["backend"].as_str().map(str::to_owned);
    assert!(
        chosen.is_some_and(|name| name.starts_with("logic-")),
        "{route}"
    );
    let events = agent.cli(&["events"])?;
    for text in ["drained", "disabled", "weight set to 400", "reloaded"] {
        assert!(events.contains(text), "{text:?} is missing in\n{events}");
    }
    let refused = agent.cli_output(&["drain", "logic-9"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert_eq!(answered_by(&serving), ["logic-1", "logic-2", "logic-3"]);
    Ok(())
}
