//! The daemon as its own authority: for one logic server, or where only one writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{PATIENCE, Resp, Serving};
use crate::upstream::redis::{Connection, RedisError};

/// How long an answer of a server vouches for it.
const VOUCHED: Duration = Duration::from_millis(800);

/// It has answered: it may be read for a while, and nobody else may be promoted meanwhile.
pub(super) fn vouch(resp: &Arc<Resp>, server: usize) {
    let until = resp.milliseconds(Instant::now() + VOUCHED);
    let view = resp.view();
    view.servers[server]
        .vouched_until_ms
        .store(until, Ordering::Relaxed);
}

/// Makes the copy of a failed server the one that takes writes.
pub(super) async fn promote(resp: &Arc<Resp>, server: usize) {
    let view = resp.view();
    let Some(copy) = view.servers[server].copy else {
        let known = &resp.knowledge.servers[server];
        known.show(
            "failed",
            "its copy was not seen caught up, and is not promoted",
        );
        return;
    };
    if !resp.may_fail_over(server) {
        let known = &resp.knowledge.servers[server];
        known.show(
            "failed",
            "max_failover_share has been reached: nobody takes its keys",
        );
        return;
    }
    let outcome: Result<Vec<u8>, RedisError> = async {
        let mut connection = Connection::open(copy, &resp.access(), PATIENCE).await?;
        connection.ask(&["REPLICAOF", "NO", "ONE"]).await
    }
    .await;
    if let Err(error) = outcome {
        tracing::warn!(server, %error, "a copy cannot be promoted");
        return;
    }
    resp.knowledge.promotions.fetch_add(1, Ordering::Relaxed);
    let old = view.servers[server].writer;
    resp.decide(server, |decided| {
        // It is read as the copy until it has been looked at.
        decided.writer = copy;
        decided.epoch += 1;
        decided.run_id = None;
        decided.serving = Serving::Writer;
        true
    });
    resp.knowledge.servers[server].promoted();
    tracing::warn!(server, %copy, "a cache server has failed: its copy takes its place");
    tokio::task::spawn_local(bring_back(Arc::clone(resp), server, old, copy));
}

/// When the one that failed answers again, it becomes the copy of its copy.
async fn bring_back(
    resp: Arc<Resp>,
    server: usize,
    old: std::net::SocketAddr,
    writer: std::net::SocketAddr,
) {
    loop {
        if resp.view().servers[server].writer != writer {
            return;
        }
        let outcome: Result<Vec<u8>, RedisError> = async {
            let mut connection = Connection::open(old, &resp.access(), PATIENCE).await?;
            let (ip, port) = (writer.ip().to_string(), writer.port().to_string());
            connection.ask(&["REPLICAOF", &ip, &port]).await
        }
        .await;
        if outcome.is_ok() {
            return;
        }
        tokio::time::sleep(PATIENCE).await;
    }
}
