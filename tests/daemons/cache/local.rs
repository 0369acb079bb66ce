//! `authority = "local"`: one daemon that decides by itself, without Sentinels.

use anyhow::{Result, ensure};
use lb_tests::logic::Logic;
use lb_tests::redis::{Connection, Redis, Reply, Tier};
use lb_tests::wait;

use crate::SOON;

const KEYS: usize = 100;

/// Writes all keys, and waits until the copies have them, and the daemon has seen that.
fn write_all(tier: &Tier, logic: &Logic, value: &str) -> Result<()> {
    for server in &tier.primaries {
        wait::until("the copies to be known", SOON, || {
            let label = format!("server=\"{}\"", server.name());
            let lag = logic.metric("lb_logic_cache_lag_seconds", &label);
            lag.is_ok_and(|lag| lag.is_some())
        })?;
    }
    let mut client = logic.connect()?;
    for number in 0..KEYS {
        let reply = client.command(&["SET", &format!("key:{number}"), value])?;
        ensure!(reply == Reply::Simple("OK".into()), "{reply:?}");
    }
    wait::until("the copies to have everything", SOON, || {
        let sizes = |servers: &[Redis]| -> Vec<_> {
            let sizes = servers
                .iter()
                .map(|server| server.command(&["DBSIZE"]).ok());
            sizes.collect()
        };
        sizes(&tier.primaries) == sizes(&tier.copies)
    })
}

/// How many keys have that value; errors count for none.
fn with_value(client: &mut Connection, value: &str) -> Result<usize> {
    let mut found = 0;
    for number in 0..KEYS {
        let reply = client.command(&["GET", &format!("key:{number}")])?;
        found += usize::from(reply.text() == value);
    }
    Ok(found)
}

fn is_served(logic: &Logic, server: &str, by: &str) -> bool {
    let label = format!("server=\"{server}\",by=\"{by}\"");
    let found = logic.metric("lb_logic_cache_served_by", &label);
    found.is_ok_and(|value| value == Some(1.0))
}

#[test]
fn a_copy_takes_its_servers_place_and_who_returns_becomes_its_copy() -> Result<()> {
    let mut tier = Tier::builder().primaries(2).copies().build()?;
    let logic = tier.start_logic("logic-1", "")?;
    write_all(&tier, &logic, "first")?;
    tier.server("cache-1")?.kill()?;
    let mut client = logic.connect()?;
    // Before any verdict.
    assert_eq!(with_value(&mut client, "first")?, KEYS);
    wait::until("the promotion", SOON, || {
        is_served(&logic, "cache-1", "promoted")
    })?;
    assert_eq!(tier.copies[0].info("role")?, "master");
    for number in 0..KEYS {
        let reply = client.command(&["SET", &format!("key:{number}"), "second"])?;
        assert_eq!(reply, Reply::Simple("OK".into()));
    }
    // Its file still says that it is a primary.
    tier.server("cache-1")?.start_as_first()?;
    let returned = tier.server("cache-1")?;
    wait::until("the old server to follow", SOON, || {
        returned.info("role").is_ok_and(|role| role == "slave")
            && returned
                .info("master_link_status")
                .is_ok_and(|is| is == "up")
    })?;
    assert_eq!(with_value(&mut client, "second")?, KEYS);
    let status = logic.cli(&["cache", "status"])?;
    ensure!(
        status.contains("cache-1") && status.contains("up"),
        "{status}"
    );
    Ok(())
}

#[test]
fn a_storm_takes_no_more_than_its_share_of_layer_one() -> Result<()> {
    let mut tier = Tier::builder().primaries(2).copies().build()?;
    let settings = "max_failover_share = 0.6\nfailover_timeout = \"500ms\"";
    let logic = tier.start_logic("logic-1", settings)?;
    write_all(&tier, &logic, "first")?;
    tier.server("cache-1")?.kill()?;
    wait::until("the first promotion", SOON, || {
        is_served(&logic, "cache-1", "promoted")
    })?;
    tier.server("cache-2")?.kill()?;
    wait::until("the second to be refused", SOON, || {
        let status = logic.cli(&["cache", "status"]);
        status.is_ok_and(|status| status.contains("max_failover_share"))
    })?;
    assert_eq!(tier.copies[1].info("role")?, "slave");
    // Its keys are read still; nobody writes them.
    let mut client = logic.connect()?;
    assert_eq!(with_value(&mut client, "first")?, KEYS);
    let mut refused = 0;
    for number in 0..KEYS {
        client.queue(&["SET", &format!("key:{number}"), "second"]);
    }
    client.flush()?;
    for _ in 0..KEYS {
        let reply = client.answer()?;
        refused += usize::from(reply.text().starts_with("ERR lb: no server took"));
    }
    let own = tier.copies[1].command(&["DBSIZE"])?;
    assert_eq!(Reply::Integer(refused as i64), own);
    Ok(())
}
