//! `lb completions`: a script for the shell that completes subcommands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::print;

#[derive(Debug, Args)]
pub(super) struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

pub(super) fn run(options: &CompletionsOptions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut super::Cli::command(), "lb", &mut script);
    print(&String::from_utf8(script)?)
}
