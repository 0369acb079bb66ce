//! Commands of operators at the control socket: `lb status` and `lb reload`. Everything else that can be
//! asked of the proxy is asked at its console.

use std::rc::Rc;

use tokio::sync::mpsc;

use super::Proxy;
use super::pool::Pool;
use crate::control::server::Call;
use crate::control::{
    Answer, DbPoolStatus, DbProxyStatus, FenceStatus, Reload, Request, WatchStatus,
};
use crate::wire::postgres::link::{Answering, Role};

/// Requests of commands that wait to be answered.
pub(super) const CALLS_MAX: usize = 64;

/// Answers until the proxy ends.
pub(super) async fn run(proxy: Rc<Proxy>, mut calls: mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        let answer = match call.request {
            Request::Status => Answer::DbProxy(Box::new(status(&proxy))),
            Request::Reload { dry_run: false } => match proxy.reload() {
                Ok(()) => Answer::Reload(Reload {
                    applied: true,
                    changes: vec!["configuration and users were read again".into()],
                    moved: Vec::new(),
                }),
                Err(error) => {
                    Answer::Error(format!("the configuration stays as it was: {error:#}"))
                }
            },
            _ => Answer::Error(
                "lb db-proxy has no such command; name the agent's socket with --socket".into(),
            ),
        };
        // Who asked may have gone meanwhile.
        let _ = call.answers.send(answer).await;
    }
}

fn status(proxy: &Proxy) -> DbProxyStatus {
    let config = proxy.config.borrow();
    let in_force = proxy.in_force.borrow();
    DbProxyStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        since: proxy.started.to_string(),
        config: proxy.source.display().to_string(),
        config_since: in_force.since.to_string(),
        config_error: in_force.error.clone(),
        listen: config.listen.to_string(),
        server: proxy.connector.borrow().to_string(),
        mode: config.pool.mode.as_str().to_owned(),
        paused: proxy.pauses.all_are_paused(),
        clients: proxy.clients.len() as u64,
        connections: proxy.connections.get() as u64,
        clients_max: config.pool.max_clients as u64,
        watch: watch(proxy),
        fence: FenceStatus {
            closed: proxy.fence.is_closed(),
            reason: Some(proxy.fence.reason()).filter(|reason| !reason.is_empty()),
            refused: proxy.fence.refused.get(),
        },
        open_addresses: proxy.open_addresses(),
        pools: proxy
            .all_pools()
            .iter()
            .map(|each| pool(each, config.pool.size))
            .collect(),
    }
}

fn watch(proxy: &Proxy) -> WatchStatus {
    let heartbeat = proxy.watch.heartbeat();
    let epoch = &heartbeat.epoch;
    WatchStatus {
        state: match heartbeat.answering {
            Answering::Yes => "answers",
            Answering::Silent => "silent",
            Answering::Unreachable => "unreachable",
        }
        .to_owned(),
        reason: Some(heartbeat.reason.clone()).filter(|reason| !reason.is_empty()),
        role: match heartbeat.role {
            Role::Unknown => "unknown",
            Role::Primary { .. } => "primary",
            Role::Standby { .. } => "standby",
        }
        .to_owned(),
        epoch: (!epoch.is_unknown()).then(|| epoch.to_string()),
        age_seconds: (heartbeat.age_ms != u32::MAX).then(|| f64::from(heartbeat.age_ms) / 1e3),
        links: proxy.watch.watchers() as u64,
    }
}

fn pool(pool: &Pool, size: usize) -> DbPoolStatus {
    let transactions = &pool.stats.transactions;
    DbPoolStatus {
        database: pool.key.database.clone(),
        user: pool.key.user.clone(),
        active: pool.active() as u64,
        idle: pool.idle() as u64,
        size: size as u64,
        waiting: pool.waiting() as u64,
        waits_seconds: pool.longest_wait().as_secs_f64(),
        queries: pool.stats.queries.get(),
        transactions: transactions.count(),
        transaction_p50_seconds: transactions.percentile_us(0.5) / 1e6,
        transaction_p99_seconds: transactions.percentile_us(0.99) / 1e6,
        error: pool.last_error(),
    }
}
