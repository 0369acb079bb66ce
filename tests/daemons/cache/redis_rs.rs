//! redis-rs at its ordinary work through `lb logic`, in both versions of the protocol.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use lb_tests::logic::Logic;
use lb_tests::redis::Tier;
use redis_rs::{
    Client, Commands, Connection, ErrorKind, Script, ServerErrorKind, pipe, transaction,
};

fn start() -> Result<(Tier, Logic)> {
    let tier = Tier::builder().primaries(3).build()?;
    let logic = tier.start_logic("logic-1", "")?;
    Ok((tier, logic))
}

fn connect(logic: &Logic, protocol: &str) -> Result<Connection> {
    let url = format!("redis://{}/?protocol={protocol}", logic.resp());
    Client::open(url)?.get_connection().context("connect")
}

fn both(work: fn(&mut Connection) -> Result<()>) -> Result<()> {
    let (_tier, logic) = start()?;
    for protocol in ["resp2", "resp3"] {
        let mut connection = connect(&logic, protocol)?;
        connection.flushall::<()>()?;
        work(&mut connection).context(protocol)?;
    }
    Ok(())
}

#[test]
fn values_of_every_type_go_and_come_back() -> Result<()> {
    both(|it| {
        it.set::<_, _, ()>("a", "1")?;
        assert_eq!(it.incr::<_, _, i64>("a", 41)?, 42);
        let pairs: Vec<(String, u32)> = (0..200).map(|n| (format!("m:{n}"), n)).collect();
        it.mset::<_, _, ()>(&pairs)?;
        let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
        let values: Vec<u32> = it.mget(&keys)?;
        assert_eq!(values, (0..200).collect::<Vec<_>>());
        let found = it.scan_match::<_, String>("m:*")?;
        assert_eq!(found.collect::<Result<Vec<_>, _>>()?.len(), 200);
        assert_eq!(it.del::<_, u32>(&keys)?, 200);
        it.hset_multiple::<_, _, _, ()>("h", &[("x", 1), ("y", 2)])?;
        let hash: HashMap<String, i64> = it.hgetall("h")?;
        assert_eq!((hash["x"], hash["y"], hash.len()), (1, 2, 2));
        it.zadd::<_, _, _, ()>("z", "member", 1.5)?;
        assert_eq!(it.zscore::<_, _, Option<f64>>("z", "member")?, Some(1.5));
        assert_eq!(it.get::<_, Option<String>>("nothing")?, None);
        let id: Option<String> = it.xadd("stream", "*", &[("field", "value")])?;
        let id = id.context("no id")?;
        ensure!(id.contains('-'), "{id}");
        let wrong = it
            .incr::<_, _, i64>("h", 1)
            .err()
            .context("a hash was counted")?;
        ensure!(wrong.code() == Some("WRONGTYPE"), "{wrong}");
        Ok(())
    })
}

#[test]
fn pipelines_keep_their_order_and_transactions_their_keys() -> Result<()> {
    both(|it| {
        let mut commands = pipe();
        for number in 0..500 {
            commands.set(format!("p:{number}"), number).ignore();
            commands.get(format!("p:{number}"));
        }
        let answers: Vec<u32> = commands.query(it)?;
        assert_eq!(answers, (0..500).collect::<Vec<_>>());
        let (count,): (u32,) = transaction(it, &["{t}count"], |it, pipe| {
            let old: Option<u32> = it.get("{t}count")?;
            pipe.set("{t}count", old.unwrap_or_default() + 1)
                .ignore()
                .get("{t}count")
                .query(it)
        })?;
        assert_eq!(count, 1);
        let across: Result<(), _> = pipe()
            .atomic()
            .set("one", 1)
            .set("two", 1)
            .set("three", 1)
            .query(it);
        let text = across
            .err()
            .context("keys of three servers in a transaction")?
            .to_string()
            .to_uppercase();
        ensure!(
            text.contains("CROSSSLOT") || text.contains("EXECABORT"),
            "{text}"
        );
        Ok(())
    })
}

#[test]
fn scripts_are_loaded_where_their_keys_are() -> Result<()> {
    both(|it| {
        let double = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1]) * 2");
        for number in 0..20 {
            let answer: i64 = double.key(format!("s:{number}")).arg(4).invoke(it)?;
            assert_eq!(answer, 8);
        }
        let unknown = redis_rs::cmd("EVALSHA")
            .arg("0".repeat(40))
            .arg(1)
            .arg("k")
            .exec(it);
        let error = unknown.err().context("a script that nobody loaded")?;
        ensure!(
            error.kind() == ErrorKind::Server(ServerErrorKind::NoScript),
            "{error}"
        );
        Ok(())
    })
}

#[test]
fn what_is_published_arrives() -> Result<()> {
    let (_tier, logic) = start()?;
    let mut listener = connect(&logic, "resp2")?;
    let mut listening = listener.as_pubsub();
    listening.subscribe("news")?;
    listening.psubscribe("new*")?;
    let mut publisher = connect(&logic, "resp3")?;
    ensure!(publisher.publish::<_, _, u32>("news", "today")? >= 1);
    let messages = [listening.get_message()?, listening.get_message()?];
    for message in messages {
        assert_eq!(message.get_payload::<String>()?, "today");
    }
    Ok(())
}
