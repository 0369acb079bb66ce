//! `cargo xtask build`: every program of the workspace, the eBPF object inside `lb`.

use anyhow::Result;

use crate::setup::{self, Consent};
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// With optimization, as for use
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    consent: Consent,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(arguments.consent)?;
    build(if arguments.release {
        Profile::Release
    } else {
        Profile::Dev
    })
}

/// How the host's programs are compiled.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds the default members; what is built already stays.
pub(crate) fn build(profile: Profile) -> Result<()> {
    let mut build = shell::cargo();
    build.args(["build", "--locked"]);
    if let Profile::Release = profile {
        build.arg("--release");
    }
    shell::run(&mut build)
}
