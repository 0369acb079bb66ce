//! `cargo xtask check`: what a reviewer should not have to look for.

mod bpf;
mod file_size;
mod layering;
mod licences;
mod source;

use anyhow::{Result, bail};

use crate::setup::{self, Consent};
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    consent: Consent,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let toolchain = setup::ensure(arguments.consent)?;
    // The quick ones first; each is run whatever the others found.
    let checks: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("format", &format),
        ("file sizes", &file_size::check),
        ("layering", &layering::check),
        ("licences", &licences::check),
        ("lints", &lints),
        ("lints of the eBPF program", &|| bpf::check(toolchain)),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        match check() {
            Ok(()) => eprintln!("{name}: ok"),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn format() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny=warnings",
    ];
    shell::run(shell::cargo().args(clippy))
}
