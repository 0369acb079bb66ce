//! `lb status`: services, pools and backends at a glance; one of them in detail.

mod agent;
mod backend;
mod db_proxy;
mod logic;
mod overview;
mod select;

use anstyle::{AnsiColor, Style};
use clap::Args;
use jiff::Timestamp;

use super::output::{print, print_json};
use super::socket::ClientOptions;
use crate::control::{Answer, DbProxyStatus, LogicStatus, Request, Status};

#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// A service, a pool, or a backend (NAME or POOL/NAME); everything without
    name: Option<String>,
    #[command(flatten)]
    client: ClientOptions,
}

pub(super) fn run(options: &StatusOptions) -> anyhow::Result<()> {
    let told = options
        .client
        .ask(&Request::Status, |answer| match answer {
            Answer::Status(status) => Ok(Told::Agent(status)),
            Answer::Logic(status) => Ok(Told::Logic(status)),
            Answer::DbProxy(status) => Ok(Told::DbProxy(status)),
            other => Err(Box::new(other)),
        })?;
    let now = Timestamp::now();
    let status = match told {
        Told::Agent(status) => *status,
        Told::DbProxy(status) if options.client.json => return print_json(&status),
        Told::DbProxy(status) => return print(&db_proxy::everything(&status, now)),
        Told::Logic(status) if options.client.json => return print_json(&status),
        Told::Logic(status) => return print(&logic::everything(&status, now)),
    };
    match &options.name {
        None if options.client.json => print_json(&status),
        None => print(&everything(&status, now)),
        Some(name) if options.client.json => print_json(&select::by_name(&status, name)?.status),
        Some(name) => print(&selected_by_name(&status, name, now)?),
    }
}

/// Who answered.
enum Told {
    Agent(Box<Status>),
    Logic(Box<LogicStatus>),
    DbProxy(Box<DbProxyStatus>),
}

/// The whole of it.
pub(super) fn everything(status: &Status, now: Timestamp) -> String {
    paragraphs([
        agent::head(status, now),
        agent::interfaces(&status.agent),
        overview::services(status),
        overview::pools(status, now),
        overview::removed(status, now),
        agent::drops(&status.agent),
    ])
}

/// What has that name.
pub(super) fn selected_by_name(
    status: &Status,
    name: &str,
    now: Timestamp,
) -> anyhow::Result<String> {
    let selection = select::by_name(status, name)?;
    let status = &selection.status;
    if selection.is_backend {
        let backends = status.pools.iter().flat_map(|pool| &pool.backends);
        let backends = backends.chain(&status.removed);
        let parts: Vec<_> = backends
            .map(|backend| backend::detail(backend, now))
            .collect();
        return Ok(parts.join("\n"));
    }
    Ok(paragraphs([
        overview::services(status),
        overview::pools(status, now),
        overview::removed(status, now),
    ]))
}

/// The parts that are there, an empty line between them.
fn paragraphs<const N: usize>(parts: [String; N]) -> String {
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n")
}

/// Up is green, draining yellow, down red.
pub(super) fn state_style(state: &str) -> Style {
    match state {
        "up" => AnsiColor::Green.on_default(),
        "draining" => AnsiColor::Yellow.on_default(),
        "down" => AnsiColor::Red.on_default(),
        _ => Style::new(),
    }
}

/// For what somebody should look at.
const ALARM: Style = AnsiColor::Red.on_default();
/// For what passes by itself.
const UNSETTLED: Style = AnsiColor::Yellow.on_default();
/// For headings.
const HEADING: Style = Style::new().bold();
