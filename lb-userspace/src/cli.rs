//! The command line: which subcommands there are, and how each ends.
//!
//! Called by `main` only. A command parses its words, asks the agent or does its one thing, and
//! prints; whatever it decides about packets is decided elsewhere.
//!
//! Exit codes: 0 done, 1 refused or failed (one line on stderr says why and what to do), 2 wrong
//! usage.

mod admin;
mod agent;
mod cache;
mod check;
mod completions;
mod db_proxy;
mod detach;
mod events;
mod logic;
mod output;
mod reload;
mod route;
mod socket;
mod status;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod units;
mod weight;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::control::Intent;

/// Disaster tolerance from the first packet to the database.
#[derive(Debug, Parser)]
#[command(
    name = "lb",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway's agent in the foreground
    Agent(agent::AgentOptions),
    /// Run the database proxy in the foreground
    DbProxy(db_proxy::DbProxyOptions),
    /// Run the daemon of a logic server in the foreground
    Logic(logic::LogicOptions),
    /// Show services, pools and backends
    Status(status::StatusOptions),
    /// Give a backend no new flows; its old ones finish
    Drain(admin::AdminOptions),
    /// Take back a drain
    Undrain(admin::AdminOptions),
    /// Send no packet to a backend any more
    Disable(admin::AdminOptions),
    /// Take back a disable; the backend gets flows when its check passes
    Enable(admin::AdminOptions),
    /// Give a backend another weight, or its configured one back
    Weight(weight::WeightOptions),
    /// Read the configuration file again
    Reload(reload::ReloadOptions),
    /// Say where a flow goes, and why
    Route(route::RouteOptions),
    /// Show what happened, oldest first
    Events(events::EventsOptions),
    /// Show and plan the cache tier
    Cache(cache::CacheOptions),
    /// Check a configuration file
    Check(check::CheckOptions),
    /// Print a shell's completion script
    Completions(completions::CompletionsOptions),
    /// Remove the program, its maps and its addresses from this host
    Detach(detach::DetachOptions),
}

/// Runs the command that this process was started with.
#[must_use]
pub fn run() -> ExitCode {
    // Prints help and usage errors itself, and ends the process: 0 and 2.
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match output::explain(&error) {
            // Whoever read our output has enough of it: `lb status | head`.
            None => ExitCode::SUCCESS,
            Some(text) => {
                anstream::eprintln!("{text}");
                ExitCode::from(if error.is::<output::Usage>() { 2 } else { 1 })
            }
        },
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Agent(options) => agent::run(&options),
        Command::DbProxy(options) => db_proxy::run(&options),
        Command::Logic(options) => logic::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Drain(options) => admin::run(options, Intent::Drain),
        Command::Undrain(options) => admin::run(options, Intent::Undrain),
        Command::Disable(options) => admin::run(options, Intent::Disable),
        Command::Enable(options) => admin::run(options, Intent::Enable),
        Command::Weight(options) => weight::run(options),
        Command::Reload(options) => reload::run(&options),
        Command::Route(options) => route::run(&options),
        Command::Events(options) => events::run(&options),
        Command::Cache(options) => cache::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Completions(options) => completions::run(&options),
        Command::Detach(options) => detach::run(&options),
    }
}
