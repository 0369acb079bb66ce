//! `lb logic`: the daemon on a logic server.

use std::path::PathBuf;

use clap::Args;

use crate::telemetry::{self, FILTER_DEFAULT, LogFilter, LogFormat};

/// What the daemon is started with.
#[derive(Debug, Args)]
pub struct LogicOptions {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What the lines of the log look like
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What is logged: a level, or TARGET=LEVEL[,…]
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = FILTER_DEFAULT)]
    pub log_level: LogFilter,
}

pub(super) fn run(options: &LogicOptions) -> anyhow::Result<()> {
    telemetry::start(options.log_format, &options.log_level)?;
    crate::logic::run(&options.config)
}
