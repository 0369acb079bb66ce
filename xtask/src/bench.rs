//! `cargo xtask bench`: measurements side by side with others, by the program `lbt-bench`.

use std::ffi::OsString;

use anyhow::Result;

use crate::setup::{self, Consent};
use crate::{build, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    consent: Consent,
    /// What to measure, and --json FILE
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// What the database proxy is compared with.
const DATABASE_PROXIES: [setup::Wanted; 3] = [
    ("pgbouncer", "pgbouncer"),
    ("haproxy", "haproxy"),
    ("pgpool", "pgpool2"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (consent, rest) = arguments.consent.or_among(&arguments.rest);
    setup::ensure(consent)?;
    if rest.first().is_some_and(|subject| subject == "postgres") {
        setup::ensure_programs(consent, &DATABASE_PROXIES)?;
    }
    build::build(build::Profile::Release)?;
    Err(shell::become_program("lbt-bench", &rest))
}
