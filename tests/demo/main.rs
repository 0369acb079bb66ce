//! `lbt-demo`: a small site in network namespaces, real traffic, one fault after another.
//!
//! A client, a router, a gateway with the real `lb agent` and real XDP, three primary web servers
//! and a standby; four clients at a time open a new connection for every request while servers
//! are killed, silenced, drained and returned, and the agent itself is killed. Then the tiers
//! behind: clients of Redis and of PostgreSQL at the same VIP, through `lb logic`, while caches and
//! databases are killed, frozen, promoted and returned. At the end tables tell what each fault
//! cost. Everything made is removed, also after Ctrl-C and after a panic.

mod act;
mod console;
mod data;
mod interrupt;
mod keep;
mod measure;
mod news;
mod picture;
mod report;
mod stage;
mod story;
mod web;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use act::Act;
use data::Data;
use interrupt::{Interrupt, Interrupted};
use stage::Stage;

/// What shells expect of a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Shows a gateway at work while one thing after another fails.
#[derive(Parser)]
#[command(name = "lbt-demo")]
struct Options {
    /// Write what each fault cost to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Draw requests per second by server over time to this file, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Play only one tier's part
    #[arg(long, value_name = "TIER")]
    only: Option<Part>,
    /// Leave everything running after the last fault, to play with, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// A part of the demo.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Logic,
    Cache,
    Database,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                eprintln!("lbt-demo: {complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("lbt-demo: interrupted; everything it made is removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("lbt-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays, tells, and returns what went wrong.
fn run(options: &Options) -> Result<Vec<String>> {
    let interrupt = Interrupt::watch()?;
    let mut stage = Stage::build(interrupt.clone())?;
    let mut acts = Vec::new();
    let played = play(&mut stage, options.only, &mut acts);
    // A child that the terminal's Ctrl-C reached first may be what went wrong.
    interrupt.check()?;
    tell(options, &mut stage, &acts)?;
    let data = played?;
    if options.keep {
        keep::until_interrupted(&mut stage, &data)?;
    }
    Ok(acts.iter().flat_map(Act::complaints).collect())
}

/// Plays every tier's part, or only one; `acts` tells what came of those that were begun.
fn play(stage: &mut Stage, only: Option<Part>, acts: &mut Vec<Act>) -> Result<Data> {
    let is_wanted = |part| only.is_none_or(|only| only == part);
    if is_wanted(Part::Logic) {
        web::play(stage, acts)?;
    }
    let mut data = Data::build(stage)?;
    if is_wanted(Part::Cache) {
        data::cache::play(stage, &mut data, acts)?;
    }
    if is_wanted(Part::Database) {
        data::database::play(stage, &mut data, acts)?;
    }
    Ok(data)
}

fn tell(options: &Options, stage: &mut Stage, acts: &[Act]) -> Result<()> {
    for act in acts {
        stage.console.line(&format!("\n{}", act.table()));
    }
    if let Some(file) = &options.report {
        report::Report::new(acts.iter().flat_map(Act::costs)).write(file)?;
    }
    if let Some(file) = &options.picture {
        let charts: Vec<_> = acts.iter().map(|act| &act.chart).collect();
        fs::write(file, picture::draw(&charts))
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
