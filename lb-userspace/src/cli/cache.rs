//! `lb cache`: where the keys of the cache tier are, and where they are to be.

pub(super) mod plan;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{Config, ConfigError};

/// Where `lb logic` listens unless its configuration says otherwise.
const SOCKET_DEFAULT: &str = "/run/lb/logic.sock";

/// Shows and plans the cache tier
#[derive(Debug, Args)]
pub(super) struct CacheOptions {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Print which host of layer two carries which copy, and what to tell Redis and Sentinel
    Plan(PlanOptions),
    /// Show the servers of both layers
    Status(StatusOptions),
}

#[derive(Debug, Args)]
struct PlanOptions {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A host of layer two, for copies that the configuration does not place; may be repeated
    #[arg(long = "host", value_name = "IP")]
    hosts: Vec<std::net::IpAddr>,
    /// Print JSON, one object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatusOptions {
    /// The daemon's socket: [logic].control in its configuration
    #[arg(long, value_name = "PATH", env = "LB_LOGIC_SOCKET", default_value = SOCKET_DEFAULT)]
    socket: PathBuf,
    /// Print JSON, one object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &CacheOptions) -> anyhow::Result<()> {
    match &options.command {
        CacheCommand::Plan(options) => {
            let cache = Config::check(&options.config).and_then(|parts| cache_of(&parts))?;
            plan::run(&cache, &options.hosts, options.json)
        }
        CacheCommand::Status(options) => status::run(&options.socket, options.json),
    }
}

fn cache_of(parts: &crate::config::Parts) -> Result<crate::config::Cache, ConfigError> {
    let cache = parts.cache.clone();
    cache.ok_or_else(|| ConfigError::Refused(vec![parts.missing("cache", "write [cache]")]))
}
