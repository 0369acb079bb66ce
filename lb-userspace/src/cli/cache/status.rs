//! `lb cache status`: the servers of both layers as `lb logic` sees them.

use std::path::Path;

use anstyle::AnsiColor;
use jiff::Timestamp;

use super::super::output::{print, print_json};
use super::super::table::{Cell, Side, Table};
use super::super::units::{ago, percent};
use crate::control::client::Client;
use crate::control::{Answer, CacheStatus, Request};

pub(super) fn run(socket: &Path, json: bool) -> anyhow::Result<()> {
    let mut client = Client::connect(socket)?;
    let status = match client.ask(&Request::Cache)? {
        Answer::Cache(status) => *status,
        other => return Err(client.unexpected(&other).into()),
    };
    if json {
        return print_json(&status);
    }
    print(&render(&status, Timestamp::now()))
}

fn render(status: &CacheStatus, now: Timestamp) -> String {
    let mut text = format!(
        "authority {}, hash {}, writes {}, during failover {}, layer two has {} of at most {}\n\n",
        status.authority,
        status.hash,
        status.writes,
        status.during_failover,
        percent(status.failover_share),
        percent(status.max_failover_share),
    );
    text += &servers(status, now);
    if !status.sentinels.is_empty() {
        text += &format!("\n{}", sentinels(status));
    }
    text
}

fn servers(status: &CacheStatus, now: Timestamp) -> String {
    let mut table = Table::new([
        ("SERVER", Side::Left),
        ("LAYER", Side::Right),
        ("AT", Side::Left),
        ("COPY", Side::Left),
        ("SHARE", Side::Right),
        ("STATE", Side::Left),
        ("SINCE", Side::Left),
        ("WHY", Side::Left),
    ]);
    for server in &status.servers {
        let style = match server.state.as_str() {
            "up" => AnsiColor::Green,
            "failed" => AnsiColor::Red,
            _ => AnsiColor::Yellow,
        };
        table.row([
            server.name.as_str().into(),
            server.layer.to_string().into(),
            server.address.as_str().into(),
            server.copy.clone().unwrap_or_else(|| "-".into()).into(),
            percent(server.share).into(),
            Cell::styled(server.state.as_str(), style.on_default()),
            format!("{} ago", ago(&server.since, now)).into(),
            server.reason.as_str().into(),
        ]);
    }
    table.render()
}

fn sentinels(status: &CacheStatus) -> String {
    let mut table = Table::new([
        ("SENTINEL", Side::Left),
        ("STATE", Side::Left),
        ("NEWS", Side::Left),
    ]);
    for sentinel in &status.sentinels {
        let (state, style) = if sentinel.connected {
            ("up", AnsiColor::Green)
        } else {
            ("down", AnsiColor::Red)
        };
        table.row([
            sentinel.address.as_str().into(),
            Cell::styled(state, style.on_default()),
            sentinel.news.clone().unwrap_or_default().into(),
        ]);
    }
    table.render()
}
