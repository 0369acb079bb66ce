//! From a client through the VIP and the gateway's XDP program to logic servers and caches.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::clients;
use lb_tests::history::{Rules, Target, Workload, check};
use lb_tests::logic::{Logic, Options};
use lb_tests::redis::{Connection, Place, Tier, client};
use lb_tests::run_directory::RunDirectory;
use lb_tests::site::{Families, Site};
use lb_tests::wait;

use crate::scene::SOON;

/// Longer than any program takes.
const PROGRAM_MAX: Duration = Duration::from_secs(60);
const CHECK: &str =
    "{ kind = \"tcp\", port = 6379, interval = \"50ms\", timeout = \"50ms\", rise = 2, fall = 2 }";

#[test]
fn clients_of_the_vip_see_one_cache_whoever_serves_them() -> Result<()> {
    let site = Site::builder()
        .families(Families::V4)
        .primaries(3)
        .standbys(1)
        .build()?;
    let tier = Tier::builder()
        .primaries(3)
        .copies()
        .build_on(site.segment())?;
    let mut logics = Vec::new();
    for backend in site.backends() {
        let options = Options {
            listen: Some(SocketAddr::from(([0, 0, 0, 0], 6379))),
            ..Options::default()
        };
        let tables = tier.config("");
        let place = backend.place();
        logics.push(Logic::start_with(
            tier.run(),
            &place,
            backend.name(),
            &tables,
            &options,
        )?);
    }
    let config = site.config().port("6379").pool("check", CHECK).text();
    let agent = site.gateway().start_agent(&config)?;
    let vip = SocketAddr::new(site.vip().ip(), 6379);
    let client = site.client().place();
    wait::until("the VIP to serve", SOON, || {
        Connection::open(&client, vip)
            .and_then(|mut connection| connection.command(&["SET", "a", "1"]))
            .is_ok_and(|reply| !reply.is_error())
    })?;
    for mut program in programs(vip)? {
        run(tier.run(), &client, &mut program)?;
    }
    let target = Target {
        place: client,
        address: vip,
    };
    let mut workload = Workload::new(vec![target.clone()], 1);
    workload.clients = 16;
    let running = workload.start()?;
    wait::until("operations", SOON, || running.done() > 5_000)?;
    // A logic server dies: its clients connect again, to another, and find what they wrote.
    logics[0].process().kill();
    let done = running.done();
    wait::until("operations after that", SOON, || {
        running.done() > done + 10_000
    })?;
    let operations = running.stop_and_settle(&target)?;
    let rules = Rules {
        may_fail: true,
        ..Rules::default()
    };
    let findings = check(&operations, &rules);
    ensure!(findings.is_clean(), "{findings:#?}\n{}", agent.log());
    let clients = |logic: &Logic| {
        let metric = logic.metric("lb_logic_resp_commands_total", "");
        metric.ok().flatten().unwrap_or(0.0)
    };
    let served: Vec<f64> = logics.iter().skip(1).map(clients).collect();
    println!(
        "commands by the others: {served:?}, {} operations",
        findings.operations
    );
    ensure!(served.iter().sum::<f64>() > 10_000.0, "{served:?}");
    Ok(())
}

/// What users have: drivers at their ordinary work, and Redis's own programs.
fn programs(vip: SocketAddr) -> Result<Vec<Command>> {
    let mut programs = Vec::new();
    for name in ["with_redis.py", "with_node_redis.js", "with_ioredis.js"] {
        let mut script = clients::script(name)?;
        script.args([vip.ip().to_string(), vip.port().to_string()]);
        programs.push(script);
    }
    let mut cli = client("redis-cli", vip)?;
    cli.args(["-e", "MSET", "x", "1", "y", "2", "z", "3"]);
    programs.push(cli);
    let mut benchmark = client("redis-benchmark", vip)?;
    benchmark.args(["-n", "2000", "-c", "20", "-P", "4", "-r", "100", "-q"]);
    benchmark.args(["-t", "set,get,incr,lpush,zadd,mset"]);
    programs.push(benchmark);
    Ok(programs)
}

fn run(logs: &RunDirectory, place: &Place, program: &mut Command) -> Result<()> {
    let name = format!("{:?}", program.get_args().next().unwrap_or_default());
    let mut process = place.spawn("program", program, &logs.logs())?;
    let status = process.wait(PROGRAM_MAX).context(name.clone())?;
    ensure!(status.success(), "{name}: {}", process.log());
    Ok(())
}
