//! Programs and drivers that people use do their ordinary work through `lb logic`: redis-cli,
//! redis-benchmark, redis-py, node-redis, ioredis.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::clients;
use lb_tests::logic::Logic;
use lb_tests::redis::{Tier, client};

/// Longer than any script takes.
const SCRIPT_MAX: Duration = Duration::from_secs(60);

fn start() -> Result<(Tier, Logic)> {
    let tier = Tier::builder().primaries(3).build()?;
    let logic = tier.start_logic("logic-1", "")?;
    Ok((tier, logic))
}

fn script(name: &str) -> Result<()> {
    let (tier, logic) = start()?;
    let address = logic.resp();
    let mut command = clients::script(name)?;
    command.args([address.ip().to_string(), address.port().to_string()]);
    clients::run(tier.run(), &mut command, SCRIPT_MAX)?;
    // Every server had its part.
    for server in &tier.primaries {
        let commands = server.command(&["INFO", "commandstats"])?.text();
        ensure!(
            commands.contains("cmdstat_set:"),
            "{} had no SET",
            server.name()
        );
    }
    Ok(())
}

#[test]
fn redis_py_works() -> Result<()> {
    script("with_redis.py")
}

#[test]
fn node_redis_works() -> Result<()> {
    script("with_node_redis.js")
}

#[test]
fn ioredis_works() -> Result<()> {
    script("with_ioredis.js")
}

#[test]
fn redis_cli_works() -> Result<()> {
    let (_tier, logic) = start()?;
    let cli = |words: &[&str]| -> Result<String> {
        let output = client("redis-cli", logic.resp())?.args(words).output()?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    };
    assert_eq!(cli(&["SET", "a", "1"])?, "OK");
    assert_eq!(cli(&["-3", "GET", "a"])?, "1");
    assert_eq!(cli(&["INCR", "a"])?, "2");
    assert_eq!(
        cli(&["MSET", "b", "1", "c", "2", "d", "3", "e", "4"])?,
        "OK"
    );
    assert_eq!(cli(&["MGET", "e", "nothing", "b"])?, "4\n\n1");
    assert_eq!(cli(&["DBSIZE"])?, "5");
    let mut found: Vec<_> = cli(&["--scan"])?.lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    assert_eq!(cli(&["EVAL", "return KEYS[1]", "1", "k"])?, "k");
    Ok(())
}

#[test]
fn redis_benchmark_works() -> Result<()> {
    let (_tier, logic) = start()?;
    let mut benchmark = client("redis-benchmark", logic.resp())?;
    benchmark.args(["-n", "5000", "-c", "20", "-P", "8", "-r", "1000", "--csv"]);
    benchmark.args([
        "-t",
        "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset",
    ]);
    let output = benchmark.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("rror"),
        "{output:?}"
    );
    assert!(text.lines().count() >= 17, "{text}");
    Ok(())
}
