//! The servers by themselves, and the workload against them: what later tests rely on.

use anyhow::Result;
use lb_tests::history::{Rules, Target, Workload, check};
use lb_tests::redis::{Reply, Tier};
use lb_tests::wait;

#[test]
fn a_copy_has_what_its_primary_has() -> Result<()> {
    let tier = Tier::builder().primaries(1).copies().build()?;
    let mut primary = tier.primaries[0].connect()?;
    primary.queue(&["SET", "a", "1"]);
    primary.queue(&["WAIT", "1", "5000"]);
    primary.flush()?;
    assert_eq!(primary.answer()?, Reply::Simple("OK".into()));
    assert_eq!(primary.answer()?, Reply::Integer(1));
    assert_eq!(tier.copies[0].command(&["GET", "a"])?.text(), "1");
    Ok(())
}

#[test]
fn a_server_comes_back_empty_or_with_old_data() -> Result<()> {
    let mut tier = Tier::builder().primaries(1).build()?;
    let server = tier.server("cache-1")?;
    server.command(&["SET", "a", "old"])?;
    let kept = server.keep_data()?;
    server.command(&["SET", "a", "new"])?;
    server.kill()?;
    server.start_empty()?;
    assert!(server.command(&["GET", "a"])?.is_null());
    server.kill()?;
    server.start_with(&kept)?;
    assert_eq!(server.command(&["GET", "a"])?.text(), "old");
    Ok(())
}

/// Without any proxy: whoever finds something here finds it everywhere.
fn direct(tier: &Tier) -> Target {
    Target {
        place: tier.primaries[0].place().clone(),
        address: tier.primaries[0].address(),
    }
}

#[test]
fn a_single_server_has_a_clean_history() -> Result<()> {
    let tier = Tier::builder().primaries(1).build()?;
    let target = direct(&tier);
    let running = Workload::new(vec![target.clone()], 1).start()?;
    wait::until("operations", crate::SOON, || running.done() > 20_000)?;
    let operations = running.stop_and_settle(&target)?;
    let findings = check(&operations, &Rules::default());
    assert!(findings.is_clean(), "{findings:#?}");
    assert!(findings.operations > 20_000 && findings.reads > 10_000);
    Ok(())
}

#[test]
fn a_server_that_returns_with_old_data_is_found_out() -> Result<()> {
    let mut tier = Tier::builder().primaries(1).build()?;
    let target = direct(&tier);
    let running = Workload::new(vec![target.clone()], 1).start()?;
    wait::until("operations", crate::SOON, || running.done() > 5_000)?;
    let server = tier.server("cache-1")?;
    let kept = server.keep_data()?;
    let then = running.done();
    wait::until("more of them", crate::SOON, || {
        running.done() > then + 5_000
    })?;
    server.kill()?;
    server.start_with(&kept)?;
    let then = running.done();
    wait::until("more of them", crate::SOON, || {
        running.done() > then + 5_000
    })?;
    let findings = check(&running.stop_and_settle(&target)?, &Rules::default());
    assert!(findings.counts["stale read"] > 0, "{findings:#?}");
    assert!(
        findings.counts["lost acknowledged write"] > 0,
        "{findings:#?}"
    );
    assert!(findings.failed > 0, "the kill was noticed");
    Ok(())
}
