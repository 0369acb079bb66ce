//! Who takes the keys of a failed server is emptied before and after, and what it takes has a bounded
//! life.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PATIENCE, Resp, Serving};
use crate::upstream::redis::{Connection, RedisError};
use crate::wire::resp::reply;

/// Empties the database once for each failure, whoever comes first.
const BEGIN: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end \
     redis.call('FLUSHDB') redis.call('SET', KEYS[1], ARGV[1], 'EX', 86400) return 1";
/// Empties it when it is not needed any more, whoever comes first.
const END: &str = "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end \
     redis.call('FLUSHDB') return 1";
/// Keys that are looked at in one step.
const STEP: &str = "500";

/// Makes a server ready for the keys of one that has failed; `None`: there is none now.
pub(super) async fn prepare(resp: &Arc<Resp>, server: usize, episode: &str) -> Option<usize> {
    let by = spare_of(resp, server)?;
    if let Err(error) = run(resp, by, server, BEGIN, episode).await {
        tracing::warn!(server, by, %error, "a spare cannot be emptied");
        return None;
    }
    tokio::task::spawn_local(bound_lives(Arc::clone(resp), server, by));
    Some(by)
}

/// The server is back: what others kept for it is old from now on.
pub(super) async fn end(resp: &Arc<Resp>, server: usize, by: usize) {
    if let Err(error) = run(resp, by, server, END, "").await {
        // It is emptied before its next use in any case.
        tracing::info!(server, by, %error, "a spare cannot be emptied after its use");
    }
}

async fn run(
    resp: &Arc<Resp>,
    by: usize,
    server: usize,
    script: &str,
    episode: &str,
) -> Result<(), RedisError> {
    let mut connection = open(resp, by).await?;
    let key = format!("lb:gutter:{}", resp.settings().cache.primaries[server].name);
    connection
        .ask(&["EVAL", script, "1", &key, episode])
        .await?;
    Ok(())
}

/// Who takes the keys of a failed server: the first of its alternates that answers.
fn spare_of(resp: &Arc<Resp>, server: usize) -> Option<usize> {
    let settings = resp.settings();
    let name = settings.cache.primaries.get(server)?.name.as_bytes();
    let view = resp.view();
    let mut others = settings.placement.alternates(name, server);
    others.find(|other| {
        let is_lost = resp.knowledge.servers[*other]
            .is_lost
            .load(Ordering::Relaxed);
        let other = &view.servers[*other];
        other.serving == Serving::Writer && other.run_id.is_some() && !is_lost
    })
}

async fn open(resp: &Arc<Resp>, spare: usize) -> Result<Connection, RedisError> {
    let address = resp.view().servers[spare].writer;
    let mut connection = Connection::open(address, &resp.access(), PATIENCE).await?;
    let settings = resp.settings();
    if spare < settings.cache.primaries.len() {
        let database = settings.cache.spare_database.to_string();
        connection.ask(&["SELECT", &database]).await?;
    }
    Ok(connection)
}

/// Goes through the spare's keys for as long as it stands in: none lives longer than `spare_ttl` from
/// when it was seen first.
async fn bound_lives(resp: Arc<Resp>, server: usize, spare: usize) {
    loop {
        let life = resp.settings().cache.spare_ttl;
        let is_in_use = || resp.view().servers[server].serving == Serving::Spare(spare);
        if !is_in_use() {
            // Prepared a moment ago, or over.
            tokio::time::sleep(life / 8).await;
            if !is_in_use() {
                return;
            }
        }
        if let Err(error) = bound(&resp, spare, life.as_secs().max(1)).await {
            tracing::warn!(%error, "the lives of a spare's keys cannot be bounded");
        }
        tokio::time::sleep(life / 8).await;
    }
}

async fn bound(resp: &Arc<Resp>, spare: usize, seconds: u64) -> Result<(), RedisError> {
    let mut connection = open(resp, spare).await?;
    let mut cursor = b"0".to_vec();
    loop {
        let answer = connection
            .ask(&[&b"SCAN"[..], &cursor, b"COUNT", STEP.as_bytes()])
            .await?;
        let parts = reply::elements(&answer).unwrap_or_default();
        let [next, keys] = parts[..] else {
            return Ok(());
        };
        cursor = reply::text(next).unwrap_or(b"0").to_vec();
        for key in reply::elements(keys).unwrap_or_default() {
            let key = reply::text(key).unwrap_or_default();
            if key.starts_with(b"lb:") {
                continue;
            }
            let life = seconds.to_string();
            connection
                .ask(&[&b"EXPIRE"[..], key, life.as_bytes(), b"LT"])
                .await?;
        }
        if cursor == b"0" {
            return Ok(());
        }
    }
}
