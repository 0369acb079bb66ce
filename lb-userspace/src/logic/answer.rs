//! Commands of operators: `lb status`, `lb cache status`, `lb reload`.

use super::{Daemon, PoisonError};
use crate::control::server::Call;
use crate::control::{Answer, LogicStatus, Reload, Request};

/// Answers one.
pub(super) async fn answer(daemon: &Daemon, call: Call) {
    let answer = match call.request {
        Request::Status => Answer::Logic(Box::new(status(daemon))),
        Request::Cache => match daemon.tiers.iter().find_map(|tier| tier.cache()) {
            Some(cache) => Answer::Cache(Box::new(cache)),
            None => Answer::Error("this daemon serves no cache: write [logic].resp".into()),
        },
        Request::Reload { dry_run: false } => match daemon.reload() {
            Ok(()) => Answer::Reload(Reload {
                applied: true,
                changes: vec!["the configuration was read again".into()],
                moved: Vec::new(),
            }),
            Err(error) => Answer::Error(format!("the configuration stays as it was: {error:#}")),
        },
        _ => Answer::Error(
            "lb logic has no such command; name the agent's socket with --socket".into(),
        ),
    };
    // Who asked may have gone meanwhile.
    let _ = call.answers.send(answer).await;
}

fn status(daemon: &Daemon) -> LogicStatus {
    let in_force = daemon.config.lock().unwrap_or_else(PoisonError::into_inner);
    LogicStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        since: daemon.started.to_string(),
        config: in_force.config.source.display().to_string(),
        config_since: in_force.since.to_string(),
        config_error: in_force.error.clone(),
        threads: daemon.threads,
        ready: daemon.ready().is_ok(),
        tiers: daemon.tiers.iter().map(|tier| tier.status()).collect(),
    }
}
