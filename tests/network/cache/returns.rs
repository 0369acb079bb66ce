//! Servers without a copy: who takes their keys, and what they are when they come back.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::redis::{Redis, Reply, Tier};
use lb_tests::wait;

use crate::scene::{SOON, Scene};

const KEYS: usize = 200;
/// Longer than all keys take to be written and read.
const SPARE_TTL: Duration = Duration::from_secs(10);

fn scene() -> Result<Scene> {
    let tier = Tier::builder()
        .primaries(3)
        .spares(1)
        .sentinels(3)
        .apart()
        .build()?;
    Scene::of(tier, "spare_ttl = \"10s\"\nmax_failover_share = 1.0")
}

/// How often a server was emptied, as it tells itself.
fn emptied(server: &Redis) -> Result<u64> {
    let text = server.command(&["INFO", "commandstats"])?.text();
    let calls = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("cmdstat_flush")?;
        let (_, rest) = rest.split_once("calls=")?;
        rest.split_once(',')?.0.parse::<u64>().ok()
    });
    Ok(calls.sum())
}

fn write_all(scene: &Scene, value: &str) -> Result<usize> {
    let mut connection = scene.logics[0].connect()?;
    let mut done = 0;
    for number in 0..KEYS {
        connection.queue(&["SET", &format!("key:{number}"), value]);
    }
    connection.flush()?;
    for _ in 0..KEYS {
        done += usize::from(connection.answer()? == Reply::Simple("OK".into()));
    }
    Ok(done)
}

/// What each logic server says of each key.
fn read_all(scene: &Scene) -> Result<Vec<Reply>> {
    let mut all = Vec::new();
    for logic in &scene.logics {
        let mut connection = logic.connect()?;
        for number in 0..KEYS {
            connection.queue(&["GET", &format!("key:{number}")]);
        }
        connection.flush()?;
        for _ in 0..KEYS {
            all.push(connection.answer()?);
        }
    }
    Ok(all)
}

fn has(replies: &[Reply], value: &str) -> usize {
    replies.iter().filter(|reply| reply.text() == value).count()
}

#[test]
fn a_server_that_returns_with_old_data_is_emptied_once_before_anybody_reads() -> Result<()> {
    let mut scene = scene()?;
    ensure!(write_all(&scene, "old")? == KEYS);
    let kept = scene.tier.server("cache-1")?.keep_data()?;
    let held = scene.tier.server("cache-1")?.command(&["DBSIZE"])?;
    scene.tier.server("cache-1")?.kill()?;
    wait::until("all keys to be written again", SOON, || {
        write_all(&scene, "new").is_ok_and(|done| done == KEYS)
    })?;
    scene.tier.server("cache-1")?.start_with(&kept)?;
    // Both logic servers find it at the same time; readers ask all the while.
    let server = scene.tier.server("cache-1")?;
    ensure!(
        server.command(&["DBSIZE"])? != Reply::Integer(0) || emptied(server)? > 0,
        "{held:?}"
    );
    let mut reads = 0;
    wait::until("the server to be emptied and used", SOON, || {
        let replies = read_all(&scene).unwrap_or_default();
        reads += replies.len();
        assert_eq!(has(&replies, "old"), 0, "an old value was read");
        scene.logics.iter().all(|logic| {
            let by = logic.metric(
                "lb_logic_cache_served_by",
                "server=\"cache-1\",by=\"primary\"",
            );
            by.is_ok_and(|by| by == Some(1.0))
        })
    })?;
    let replies = read_all(&scene)?;
    assert_eq!(has(&replies, "old"), 0);
    let server = scene.tier.server("cache-1")?;
    assert_eq!(emptied(server)?, 1, "emptied exactly once");
    println!("{reads} reads while it returned");
    Ok(())
}

#[test]
fn a_spare_is_empty_at_first_bounded_in_time_and_emptied_before_its_next_use() -> Result<()> {
    let mut scene = scene()?;
    ensure!(write_all(&scene, "first")? == KEYS);
    // The numbers of the keys that the server has which will be lost.
    let keys = scene.tier.server("cache-2")?.command(&["KEYS", "key:*"])?;
    let keys = keys.parts().iter().map(Reply::text);
    let own = keys.filter_map(|key| key.strip_prefix("key:")?.parse().ok());
    let own: HashSet<usize> = own.collect();
    ensure!(!own.is_empty(), "it has no keys");
    for round in 1..=2 {
        scene.tier.server("cache-2")?.kill()?;
        wait::until("the spare to take over", SOON, || {
            let by = scene.logics[0].metric(
                "lb_logic_cache_served_by",
                "server=\"cache-2\",by=\"spare\"",
            );
            by.is_ok_and(|by| by == Some(1.0))
        })?;
        // Nothing of before: misses only, for what the spare took.
        let replies = read_all(&scene)?;
        ensure!(
            !replies.iter().any(Reply::is_error),
            "round {round}: {replies:?}"
        );
        let value = format!("spare-{round}");
        let kept = (0..)
            .zip(&replies)
            .filter(|(at, _)| own.contains(&(at % KEYS)));
        let kept: Vec<_> = kept.filter(|(_, reply)| !reply.is_null()).collect();
        ensure!(kept.is_empty(), "round {round}: {kept:?}");
        ensure!(write_all(&scene, &value)? == KEYS, "round {round}");
        assert_eq!(has(&read_all(&scene)?, &value), 2 * KEYS);
        // lb looks at the spare's keys several times in their life.
        let mut outcome = Ok(());
        wait::until("their lives to be bounded", SPARE_TTL, || {
            outcome = bounded(&scene);
            outcome.is_ok()
        })
        .with_context(|| format!("{outcome:?}"))?;
        scene.tier.server("cache-2")?.start_empty()?;
        wait::until("the server to be used again", SOON, || {
            scene.logics.iter().all(|logic| {
                let by = logic.metric(
                    "lb_logic_cache_served_by",
                    "server=\"cache-2\",by=\"primary\"",
                );
                by.is_ok_and(|by| by == Some(1.0))
            })
        })?;
    }
    Ok(())
}

/// Whatever layer-one servers and spares keep of another's keys goes by itself.
fn bounded(scene: &Scene) -> Result<()> {
    let all = [
        &scene.tier.primaries[0],
        &scene.tier.primaries[2],
        &scene.tier.spares[0],
    ];
    let mut found = 0;
    for server in all {
        let mut connection = server.connect()?;
        // On a spare the only database; on a server of layer one the one for others' keys.
        let database = if server.name().starts_with("cache-s") {
            "0"
        } else {
            "15"
        };
        connection.command(&["SELECT", database])?;
        for key in connection.command(&["KEYS", "*"])?.parts() {
            // lb's own, which is bounded otherwise.
            if key.text().starts_with("lb:") {
                continue;
            }
            let Reply::Integer(ttl) = connection.command(&["PTTL", &key.text()])? else {
                continue;
            };
            ensure!(
                (-2..=SPARE_TTL.as_millis() as i64).contains(&ttl) && ttl != -1,
                "{}: {key:?} lives {ttl} ms",
                server.name()
            );
            found += 1;
        }
    }
    (found > 0)
        .then_some(())
        .context("nobody keeps the failed server's keys")?;
    Ok(())
}
