//! `cargo xtask test`: every test there is, and nothing left behind.

mod leftovers;
mod suites;

use std::process::Command;

use anyhow::{Result, bail};

use crate::setup::{self, Consent};
use crate::{build, shell};
use suites::Suite;

/// Tells the tests of guarantees that want hours to take them.
const LONG_VARIABLE: &str = "LB_TEST_LONG";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    consent: Consent,
    /// Run the tests that take hours in full, instead of their versions of a minute
    #[arg(long)]
    long: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(arguments.consent)?;
    setup::clients::ensure(arguments.consent)?;
    build::build(build::Profile::Dev)?;
    // All of it before any of it: a mistake in the last suite shows in the first minute.
    shell::run(shell::cargo().args(["test", "--locked", "--no-run"]))?;
    let suites = suites::all()?;

    for left in leftovers::find() {
        eprintln!("removing what an earlier run left behind: {left}");
        left.remove();
    }
    // What could not be removed is not this run's fault.
    let before = leftovers::find();
    let failed = suites.iter().filter(|suite| !has_passed(suite, arguments));
    let mut failed: Vec<_> = failed.map(|suite| suite.name.as_str()).collect();

    for left in leftovers::find()
        .iter()
        .filter(|left| !before.contains(left))
    {
        eprintln!("left behind by the tests, removed now: {left}");
        left.remove();
        if failed.last() != Some(&LEFTOVERS) {
            failed.push(LEFTOVERS);
        }
    }
    // Nothing is said when all is well: the test runner has the last word.
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// A run that leaves something behind has failed, whatever its tests say.
const LEFTOVERS: &str = "leftovers";

fn has_passed(suite: &Suite, arguments: &Arguments) -> bool {
    let mut command = suite.command();
    if arguments.long {
        command.env(LONG_VARIABLE, "1");
    }
    if suite.needs_root && !shell::is_root() {
        run_as_root(&mut command);
    }
    command.args(&arguments.filter);
    command.arg("--");
    if suite.one_at_a_time {
        command.arg("--test-threads=1");
    }
    if arguments.long {
        // What the long versions found is a result of its own.
        command.arg("--show-output");
    }
    leftovers::mark(&mut command);
    eprintln!("\n=== {}", suite.name);
    shell::run(&mut command)
        .inspect_err(|error| eprintln!("{error:#}"))
        .is_ok()
}

/// Cargo stays the caller's, only the test itself gets root's rights.
fn run_as_root(command: &mut Command) {
    command.args(["--config", r#"target."cfg(unix)".runner=["sudo","-E"]"#]);
}
