//! Spares are emptied before they take another's keys, and what they take has a bounded life.

use std::sync::Arc;

use super::{PATIENCE, Resp, Serving};
use crate::upstream::redis::{Connection, RedisError};
use crate::wire::resp::reply;

/// Empties the database once for each failure, whoever comes first.
const BEGIN: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end \
     redis.call('FLUSHDB') redis.call('SET', KEYS[1], ARGV[1], 'EX', 86400) return 1";
/// Keys that are looked at in one step.
const STEP: &str = "500";

/// Makes the spare of a failed server ready for its keys; `false`: it cannot be now.
pub(super) async fn prepare(resp: &Arc<Resp>, server: usize, episode: Option<&str>) -> bool {
    let Some(spare) = spare_of(resp, server) else {
        return false;
    };
    let outcome = async {
        let mut connection = open(resp, spare).await?;
        let name = resp.settings().cache.primaries[server].name.clone();
        let key = format!("lb:gutter:{name}");
        let episode = episode.unwrap_or("unknown");
        connection.ask(&["EVAL", BEGIN, "1", &key, episode]).await
    };
    let outcome: Result<Vec<u8>, RedisError> = outcome.await;
    if let Err(error) = &outcome {
        tracing::warn!(server, %error, "a spare cannot be emptied");
        return false;
    }
    tokio::task::spawn_local(bound_lives(Arc::clone(resp), server, spare));
    true
}

/// Who takes the keys of a failed server.
fn spare_of(resp: &Arc<Resp>, server: usize) -> Option<usize> {
    let settings = resp.settings();
    let name = settings.cache.primaries.get(server)?.name.as_bytes();
    let view = resp.view();
    let mut others = settings.placement.alternates(name, server);
    others.find(|other| view.servers[*other].serving == Serving::Writer)
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
        if !matches!(resp.view().servers[server].serving, Serving::Spare(_)) {
            // Prepared a moment ago, or over.
            tokio::time::sleep(life / 8).await;
            if !matches!(resp.view().servers[server].serving, Serving::Spare(_)) {
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
