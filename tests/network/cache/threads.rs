//! Clients are together on one thread while that is enough, and spread when it is not: nobody notices.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::history::{Rules, Target, Workload, check};
use lb_tests::logic::{Logic, Options};
use lb_tests::process::Process;
use lb_tests::redis::{Place, Reply, Tier, client};
use lb_tests::wait;

use crate::scene::SOON;

/// So many that some of them always ask while others read their answers.
const FLOODS: usize = 3;
/// How long they last before it is looked what became of them.
const FLOOD: Duration = Duration::from_millis(500);

fn moved(logic: &Logic) -> f64 {
    let moved = logic.metric("lb_logic_resp_clients_moved_total", "");
    moved.ok().flatten().unwrap_or(0.0)
}

/// Clients that ask for what lb answers itself, so that nobody else has more to do than one of its
/// threads; and that thread gets a processor whenever it wants one.
fn flood(tier: &Tier, logic: &Logic) -> Result<Vec<Process>> {
    let one = |_| {
        let benchmark = client("redis-benchmark", logic.resp())?;
        let mut flood = Command::new("nice");
        flood.args(["-n", "19"]).arg(benchmark.get_program());
        flood.args(benchmark.get_args());
        flood.args(["-t", "ping_mbulk", "-c", "10", "-P", "64", "-l", "-q"]);
        Place::here().spawn("flood", &mut flood, &tier.run().logs())
    };
    (0..FLOODS).map(one).collect()
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
    // So few that their thread still takes who comes next: who connects while it is busy is spread
    // without a change.
    let mut workload = Workload::new(vec![target.clone()], 1);
    workload.clients = 2;
    let running = workload.start()?;
    // Again, if it was spread as it connected.
    wait::until("clients to be spread", SOON, || {
        let floods = flood(&tier, &logic);
        thread::sleep(FLOOD);
        floods.is_ok() && moved(&logic) >= 10.0
    })?;
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
