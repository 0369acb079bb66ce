//! Prometheus text at `[agent].metrics`: the same numbers as `lb status`, under Prometheus's own
//! conventions for names and units.

mod exposition;

use std::io;
use std::net::SocketAddr;

use tokio::sync::mpsc;

use crate::control::server::Call;
use crate::control::{self, Answer, Status};
use crate::telemetry::scrape::Listener;

/// Listens at `address` and asks the gateway for its status at each scrape.
pub(super) async fn listen(address: SocketAddr, calls: mpsc::Sender<Call>) -> io::Result<Listener> {
    let render = move || {
        let calls = calls.clone();
        async move { ask(&calls).await.map(|status| exposition::render(&status)) }
    };
    Listener::bind(address, "lb agent", render).await
}

async fn ask(calls: &mpsc::Sender<Call>) -> Option<Box<Status>> {
    let (answers, mut answered) = mpsc::channel(1);
    calls
        .send(Call {
            request: control::Request::Status,
            answers,
        })
        .await
        .ok()?;
    match answered.recv().await {
        Some(Answer::Status(status)) => Some(status),
        _ => None,
    }
}
