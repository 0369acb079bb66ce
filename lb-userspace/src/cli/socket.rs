//! How every client command reaches the agent, and how it prints.

use std::path::PathBuf;

use clap::Args;

use crate::control::client::{Client, ClientError};
use crate::control::{Answer, Request};

/// Where an agent listens unless its configuration says otherwise.
pub(super) const SOCKET_DEFAULT: &str = "/run/lb/agent.sock";

/// What all client commands take.
#[derive(Debug, Args)]
pub(super) struct ClientOptions {
    /// The agent's socket: [agent].control in its configuration
    #[arg(long, value_name = "PATH", env = "LB_SOCKET", default_value = SOCKET_DEFAULT)]
    pub(super) socket: PathBuf,
    /// Print JSON, one object a line (docs/json.md)
    #[arg(long)]
    pub(super) json: bool,
}

impl ClientOptions {
    pub(super) fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket)
    }

    /// Asks the agent and takes from its answer what was asked for.
    pub(super) fn ask<T>(
        &self,
        request: &Request,
        expected: impl FnOnce(Answer) -> Result<T, Box<Answer>>,
    ) -> Result<T, ClientError> {
        let mut client = self.connect()?;
        let answer = client.ask(request)?;
        expected(answer).map_err(|other| client.unexpected(&other))
    }
}
