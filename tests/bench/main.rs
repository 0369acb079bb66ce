//! `lbt-bench`: measures lb beside what it is compared with, in one run on one machine.

mod gateway;
mod postgres;
mod report;
mod resp;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "lbt-bench",
    about = "Measures lb beside what it is compared with"
)]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
    /// Also write the rows to this file, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Subject {
    /// The XDP program: nanoseconds per packet, beside the least that such a program can do
    Gateway(gateway::Arguments),
    /// The database proxy: pgbench through it, beside other proxies and none
    Postgres(postgres::Arguments),
    /// The cache tier: redis-benchmark through it, beside other proxies and none
    Resp(resp::Arguments),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rows = match &arguments.subject {
        Subject::Gateway(arguments) => gateway::measure(arguments)?,
        Subject::Postgres(arguments) => postgres::measure(arguments)?,
        Subject::Resp(arguments) => resp::measure(arguments)?,
    };
    print!("{}", report::table(&rows));
    if let Some(file) = &arguments.json {
        report::write_json(file, &rows)?;
    }
    report::expect_done(&rows)
}
