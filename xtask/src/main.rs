//! lb's project commands. `cargo xtask --help` lists them; each lives in the file of its name.

mod bench;
mod build;
mod check;
mod demo;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "lb's project commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need, and only what is missing
    Setup(setup::Arguments),
    /// Build everything
    Build(build::Arguments),
    /// Run every test: unit, daemons, datapath, network
    Test(test::Arguments),
    /// Format, lints (host and BPF), layering, licences, file sizes
    Check(check::Arguments),
    /// Make the whole system on this machine, break it, and show what happens
    Demo(demo::Arguments),
    /// Measure, side by side with others
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    // One line for people, whatever RUST_BACKTRACE says.
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}
