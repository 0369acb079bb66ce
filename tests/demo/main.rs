//! `lbt-demo`: a small site in network namespaces, real traffic, one fault after another.
//!
//! A client, a router, a gateway with the real `lb agent` and real XDP, three primary web servers
//! and a standby; four clients at a time open a new connection for every request while servers
//! are killed, silenced, drained and returned, and the agent itself is killed. At the end a table
//! tells what each fault cost. Everything made is removed, also after Ctrl-C and after a panic.

mod console;
mod interrupt;
mod keep;
mod measure;
mod news;
mod picture;
mod report;
mod stage;
mod story;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use lb_tests::load::Record;
use lb_userspace::control::{Answer, Request};

use interrupt::{Interrupt, Interrupted};
use measure::{Cost, Fault};
use picture::Chart;
use stage::Stage;
use story::Story;

/// What shells expect of a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
const TITLE: &str = "Requests per second by server, each on a new connection";

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
    /// Leave everything running after the last fault, to play with, until Ctrl-C
    #[arg(long)]
    keep: bool,
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
    let mut story = Story::begin(&mut stage);
    let played = story.play(&mut stage);
    story.end = Instant::now();
    let requests = stage.stop_load().requests;
    stage.console.finish_rates();
    // A child that the terminal's Ctrl-C reached first may be what went wrong.
    interrupt.check()?;
    let costs = costs(&stage, &story, &requests);
    tell(options, &mut stage, &story, &requests, &costs)?;
    played?;
    if options.keep {
        keep::until_interrupted(&mut stage)?;
    }
    let faults = story.faults.iter().zip(&costs);
    Ok(faults
        .filter_map(|(fault, cost)| cost.complaint(fault))
        .collect())
}

/// When the next fault came, for each fault.
fn ends(story: &Story) -> impl Iterator<Item = Instant> {
    let nexts = story.faults.iter().skip(1).map(|fault| fault.at);
    nexts.chain([story.end])
}

fn costs(stage: &Stage, story: &Story, requests: &[Record]) -> Vec<Cost> {
    let mut owner = |from| owner(stage, from);
    let faults = story.faults.iter().zip(ends(story));
    faults
        .map(|(fault, until)| measure::cost(fault, until, requests, &mut owner))
        .collect()
}

/// Whose flow it is while all are up: the first rung of its ladder. Faults do not change ladders,
/// so that it can be asked afterwards.
fn owner(stage: &Stage, from: SocketAddr) -> Option<String> {
    let request = Request::Route {
        vip: stage.site().vip(),
        protocol: "tcp".into(),
        from,
    };
    match stage.ask(&request) {
        Ok(Answer::Route(route)) => route.ladder.into_iter().next().map(|rung| rung.backend),
        _ => None,
    }
}

fn tell(
    options: &Options,
    stage: &mut Stage,
    story: &Story,
    requests: &[Record],
    costs: &[Cost],
) -> Result<()> {
    let servers = stage.backends();
    let rows = story.faults.iter().zip(costs).zip(ends(story));
    let lasted = |fault: &Fault, until: Instant| until.saturating_duration_since(fault.at);
    let report =
        report::Report::new(rows.map(|((fault, cost), until)| (fault, cost, lasted(fault, until))));
    stage
        .console
        .line(&format!("\n{}\n{}", report.table(&servers), notes()));
    if let Some(file) = &options.report {
        report.write(file)?;
    }
    if let Some(file) = &options.picture {
        let span = (story.start, story.end);
        let chart = Chart::of(TITLE, requests, &servers, span, story.marks.clone());
        fs::write(file, picture::draw(&chart))
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Below the table.
fn notes() -> String {
    format!(
        "detection: until the new state is stored in the data plane; recovery: until the first \
         request\nthat succeeds on a flow of the server concerned, after the last that failed. A \
         client gives up\nafter {:?}. For the agent: until a new one serves, the {:?} that nobody \
         started it included;\npackets do not need it.",
        stage::TIMEOUT,
        story::WITHOUT_AGENT
    )
}
