//! Clients are together on one thread while that is enough, and spread when it is not: nobody notices.

use anyhow::{Result, ensure};
use lb_tests::history::{Rules, Target, Workload, check};
use lb_tests::logic::{Logic, Options};
use lb_tests::redis::{Place, Reply, Tier, client};
use lb_tests::wait;

use crate::scene::SOON;

/// What makes a thread busy, until clients have moved.
const FLOODS: usize = 2;

fn moved(logic: &Logic) -> f64 {
    let moved = logic.metric("lb_logic_resp_clients_moved_total", "");
    moved.ok().flatten().unwrap_or(0.0)
}

#[test]
fn clients_change_their_thread_between_two_commands_and_see_one_cache() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let options = Options {
        settings: "threads = 3".into(),
        ..Options::default()
    };
    let tables = tier.config("");
    let logic = Logic::start_with(tier.run(), &Place::here(), "logic-1", &tables, &options)?;
    // Whom nothing else connects to its thread: told once, asked for later.
    let mut named = logic.connect()?;
    named.command(&["CLIENT", "SETNAME", "somebody"])?;
    let target = Target {
        place: Place::here(),
        address: logic.resp(),
    };
    let running = Workload::new(vec![target.clone()], 1).start()?;
    let mut floods = Vec::new();
    for _ in 0..FLOODS {
        let mut flood = client("redis-benchmark", logic.resp())?;
        flood.args(["-t", "set,get", "-c", "20", "-P", "8", "-l", "-q"]);
        flood.args(["-r", "1000"]);
        floods.push(Place::here().spawn("flood", &mut flood, &tier.run().logs())?);
    }
    let spread = wait::until("clients to be spread", SOON, || moved(&logic) >= 10.0);
    drop(floods);
    spread?;
    let done = running.done();
    wait::until("more operations", SOON, || running.done() > done + 1_000)?;
    let operations = running.stop_and_settle(&target)?;
    let findings = check(&operations, &Rules::default());
    ensure!(findings.is_clean(), "{findings:#?}");
    assert_eq!(named.command(&["CLIENT", "GETNAME"])?.text(), "somebody");
    // All threads tell of their clients.
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = logic.connect()?;
        assert_eq!(client.command(&["PING"])?, Reply::Simple("PONG".into()));
        clients.push(client);
    }
    let listed = named.command(&["CLIENT", "LIST"])?.text();
    ensure!(listed.lines().count() > clients.len(), "{listed}");
    Ok(())
}
