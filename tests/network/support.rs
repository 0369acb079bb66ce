//! What these tests share.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::agent::Agent;
use lb_tests::wait;
use lb_userspace::control::client::Client;
use lb_userspace::control::{Answer, BackendStatus, Intent, Request, Status};

/// How long anything may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks the agent over its control socket.
pub fn ask(agent: &Agent, request: &Request) -> Result<Answer> {
    Ok(Client::connect(agent.control_socket())?.ask(request)?)
}

/// The agent's status.
pub fn status(agent: &Agent) -> Result<Status> {
    match ask(agent, &Request::Status)? {
        Answer::Status(status) => Ok(*status),
        other => bail!("not a status: {other:?}"),
    }
}

/// The status of one backend.
pub fn backend(agent: &Agent, name: &str) -> Result<BackendStatus> {
    let status = status(agent)?;
    let found = status
        .pools
        .into_iter()
        .flat_map(|pool| pool.backends)
        .find(|it| it.name == name);
    found.with_context(|| format!("no backend {name} in the status"))
}

/// Waits until the agent has the backend in this state.
pub fn backend_is(agent: &Agent, name: &str, state: &str) -> Result<()> {
    wait::until(&format!("{name} is {state}"), SOON, || {
        backend(agent, name).is_ok_and(|backend| backend.state == state)
    })
    .with_context(|| format!("it is {:?}\n{}", backend(agent, name), agent.log()))
}

/// Tells the agent what the operator wants of a backend.
pub fn admin(agent: &Agent, backend: &str, intent: Intent) -> Result<()> {
    let request = Request::Admin {
        backend: backend.into(),
        pool: None,
        intent,
    };
    ask(agent, &request).map(drop)
}
