//! What `lb logic` says of itself.

use jiff::Timestamp;

use super::super::table::{Cell, Side, Table};
use super::super::units::{ago, si_count};
use super::{ALARM, HEADING, state_style};
use crate::control::LogicStatus;

/// The whole of it.
pub(super) fn everything(status: &LogicStatus, now: Timestamp) -> String {
    let mut text = format!(
        "{HEADING}lb logic {}{HEADING:#}  pid {}  up {}  {} threads\nconfiguration {}, read {} ago\n",
        status.version,
        status.pid,
        ago(&status.since, now),
        status.threads,
        status.config,
        ago(&status.config_since, now),
    );
    if let Some(error) = &status.config_error {
        text += &format!("{ALARM}last reload refused:{ALARM:#} {error}\n");
    }
    let mut table = Table::new([
        ("LISTENER", Side::Left),
        ("AT", Side::Left),
        ("STATE", Side::Left),
        ("CLIENTS", Side::Right),
        ("WHY", Side::Left),
    ]);
    for tier in &status.tiers {
        let state = if tier.ready { "up" } else { "down" };
        table.row([
            tier.name.as_str().into(),
            tier.listen.join(" ").into(),
            Cell::styled(state, state_style(state)),
            si_count(tier.clients).into(),
            tier.reason.clone().unwrap_or_default().into(),
        ]);
    }
    format!("{text}\n{}", table.render())
}
