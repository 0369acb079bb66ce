//! The gateway's agent: keeps the data plane as the configuration, the operator, the health checks
//! and the network say.
//!
//! One task, [`gateway::Gateway`], takes every decision and is the only writer of the data plane.
//! Health checks, netlink and the control socket send it messages through bounded channels. What
//! can be decided without I/O is decided in pure modules: `plan`, `maglev`, `identity`, `desired`,
//! `effective`, `changes`, `flows`.

pub mod announce;
pub mod changes;
pub mod datapath;
pub mod desired;
pub mod detach;
pub mod effective;
pub mod events;
pub mod flows;
mod gateway;
pub mod identity;
pub mod intent;
pub mod interface;
mod metrics;
pub mod neighbour;
pub mod netlink;
pub mod plan;
pub mod ports;
pub mod stats;
pub mod vip;

use std::io;
use std::path::Path;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::control::server::{Call, Server};
use crate::runtime::{Asked, Signals};

pub use self::detach::detach;

/// Requests from control connections and the metrics listener that may wait for the gateway.
const CALLS_WAITING_MAX: usize = 64;

/// Runs the agent until it is told to stop. The data plane goes on without it.
///
/// # Errors
/// What kept it from starting: one line for people, in the order of its causes.
pub fn run(config: &Path, log_packets: bool) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    crate::runtime::block_on(serve(config, log_packets))?
}

async fn serve(config: Config, log_packets: bool) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let (calls, mut called) = mpsc::channel::<Call>(CALLS_WAITING_MAX);
    let control = &config.agent.control;
    // First of all: whoever holds the socket is the one agent of this data plane.
    let _server = Server::listen(control, calls.clone())
        .map_err(|error| cannot_listen(&control.display().to_string(), error))?;
    let _metrics = match config.agent.metrics {
        Some(address) => Some(
            metrics::listen(address, calls)
                .await
                .with_context(|| format!("cannot serve metrics at {address}"))?,
        ),
        None => None,
    };
    let mut gateway = gateway::Gateway::open(config, log_packets)?;
    gateway.start().await?;
    loop {
        tokio::select! {
            event = gateway.next() => gateway.handle(event).await?,
            Some(call) = called.recv(), if gateway.is_listening() => gateway.answer(call),
            asked = signals.next() => match asked {
                Asked::Reload => gateway.reload_by_signal(),
                Asked::Stop => break,
            },
        }
    }
    crate::runtime::notify_stopping();
    tracing::info!("stopped; packets keep flowing (lb detach removes the data plane)");
    Ok(())
}

fn cannot_listen(control: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "an agent already runs at {control}; stop it first (packets keep flowing), or reload it"
        ),
        // The first thing that the agent asks of the kernel is refused here to whoever is not root.
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("may not listen on the control socket {control}: run lb agent as root")
        }
        _ => anyhow::Error::new(error)
            .context(format!("cannot listen on the control socket {control}")),
    }
}
