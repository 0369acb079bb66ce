//! The agent's own lines: version, configuration, interfaces, what was dropped.

use anstyle::AnsiColor;
use jiff::Timestamp;

use super::super::table::{Cell, Side, Table};
use super::super::units::{ago, bytes, si_count};
use super::{ALARM, HEADING};
use crate::control::{AgentStatus, Status};

/// Who answers, since when, by which configuration.
pub(super) fn head(status: &Status, now: Timestamp) -> String {
    let agent = &status.agent;
    let mut lines = format!(
        "{HEADING}lb {}{HEADING:#}  pid {}  up {}  maps {}\nconfiguration {}, read {} ago\n",
        status.version,
        agent.pid,
        ago(&agent.since, now),
        bytes(agent.map_bytes),
        agent.config,
        ago(&agent.config_since, now),
    );
    if let Some(error) = &agent.config_error {
        lines += &format!("{ALARM}last reload refused:{ALARM:#} {error}\n");
    }
    if agent.probes.deferred > 0 {
        lines += &format!(
            "{ALARM}{} health probes waited{ALARM:#} for their budget of {} a second \
             ([agent].probes_per_second)\n",
            si_count(agent.probes.deferred),
            agent.probes.per_second_max,
        );
    }
    lines
}

pub(super) fn interfaces(agent: &AgentStatus) -> String {
    let mut table = Table::new([
        ("INTERFACE", Side::Left),
        ("XDP", Side::Left),
        ("MTU", Side::Right),
        ("LINK", Side::Left),
    ]);
    for interface in &agent.interfaces {
        let xdp_style = match interface.xdp.as_str() {
            "none" => ALARM,
            "generic" => AnsiColor::Yellow.on_default(),
            _ => AnsiColor::Green.on_default(),
        };
        let link = if interface.up {
            Cell::from("up")
        } else {
            Cell::styled("down", ALARM)
        };
        table.row([
            interface.name.as_str().into(),
            Cell::styled(interface.xdp.as_str(), xdp_style),
            interface.mtu.to_string().into(),
            link,
        ]);
    }
    table.render()
}

/// The reasons for which packets were dropped, if any were.
pub(super) fn drops(agent: &AgentStatus) -> String {
    let mut table = Table::new([("DROPPED", Side::Left), ("PACKETS", Side::Right)]);
    for (reason, &packets) in agent.drops.iter().filter(|&(_, &packets)| packets > 0) {
        table.row([reason.as_str().into(), si_count(packets).into()]);
    }
    table.render()
}
