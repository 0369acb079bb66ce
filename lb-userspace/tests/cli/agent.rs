//! An agent that only answers.

use std::path::{Path, PathBuf};

use lb_userspace::control::server::{Call, Server};
use lb_userspace::control::{Answer, Intent, Request};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::answers;

/// Listens until it is dropped.
pub struct Agent {
    // Fields are dropped in this order: nobody answers on a socket whose directory is gone.
    _server: Server,
    _runtime: Runtime,
    directory: TempDir,
}

impl Agent {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("lbt-")
            .tempdir()
            .expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (sender, calls) = mpsc::channel(16);
        let server = {
            let _inside = runtime.enter();
            Server::listen(&directory.path().join("agent.sock"), sender).expect("nobody listens")
        };
        runtime.spawn(answer_all(calls));
        Self {
            _server: server,
            _runtime: runtime,
            directory,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

async fn answer_all(mut calls: mpsc::Receiver<Call>) {
    while let Some(Call { request, answers }) = calls.recv().await {
        if request == (Request::Events { follow: true }) {
            tokio::spawn(send_events(answers));
            continue;
        }
        for answer in answers_to(&request) {
            if answers.send(answer).await.is_err() {
                break;
            }
        }
    }
}

/// As fast as they are read.
async fn send_events(answers: mpsc::Sender<Answer>) {
    for number in 1.. {
        if answers.send(answers::event(number)).await.is_err() {
            return;
        }
    }
}

fn answers_to(request: &Request) -> Vec<Answer> {
    let backend = |change: &dyn Fn(&mut lb_userspace::control::BackendStatus)| {
        let mut backend = answers::backend();
        change(&mut backend);
        Answer::Backend(Box::new(backend))
    };
    let answer = match request {
        Request::Admin { backend, .. } | Request::Weight { backend, .. }
            if backend != "logic-1" =>
        {
            Answer::Error(format!(
                "there is no backend {backend}; lb status shows them all"
            ))
        }
        Request::Status => Answer::Status(Box::new(answers::status())),
        Request::Admin { intent, .. } => backend(&|backend| {
            let (state, reason) = match intent {
                Intent::Drain => ("draining", "drained by the operator"),
                Intent::Disable => ("down", "disabled by the operator"),
                Intent::Undrain | Intent::Enable => ("up", "check passes"),
            };
            (backend.state, backend.reason) = (state.into(), reason.into());
        }),
        Request::Weight { weight, .. } => backend(&|backend| {
            backend.weight = weight.unwrap_or(backend.weight_configured);
        }),
        Request::Reload { dry_run } => Answer::Reload(answers::reload(*dry_run)),
        Request::Route { .. } => Answer::Route(Box::new(answers::route())),
        Request::Cache => Answer::Error("no cache".into()),
        Request::Events { .. } => return vec![answers::event(1), answers::event(2), Answer::End],
    };
    vec![answer]
}
