//! `lb drain`, `undrain`, `disable`, `enable`: what the operator wants of a backend.

use clap::Args;

use super::output::{print, print_json};
use super::socket::ClientOptions;
use super::status::state_style;
use super::target::Target;
use crate::control::{Answer, BackendStatus, Intent, Request};

#[derive(Debug, Args)]
pub(super) struct AdminOptions {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    client: ClientOptions,
}

pub(super) fn run(options: AdminOptions, intent: Intent) -> anyhow::Result<()> {
    let (backend, pool) = options.target.split();
    let request = Request::Admin {
        backend,
        pool,
        intent,
    };
    let backend = options.client.ask(&request, backend_of)?;
    if options.client.json {
        return print_json(&backend);
    }
    print(&state_line(&backend))
}

pub(super) fn backend_of(answer: Answer) -> Result<BackendStatus, Box<Answer>> {
    match answer {
        Answer::Backend(backend) => Ok(*backend),
        other => Err(Box::new(other)),
    }
}

/// `logic/logic-1: draining: drained by the operator`.
pub(super) fn state_line(backend: &BackendStatus) -> String {
    let BackendStatus {
        pool,
        name,
        state,
        reason,
        ..
    } = backend;
    let style = state_style(state);
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    format!("{pool}/{name}: {style}{state}{style:#}{reason}\n")
}
