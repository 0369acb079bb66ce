//! `lb detach`: the gateway's program, maps and addresses off this host. Works without an agent.

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::output::{print, print_json};
use super::socket::SOCKET_DEFAULT;
use crate::agent::datapath::{Pins, remove_pins};
use crate::agent::detach::DetachReport;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct DetachOptions {
    /// The agent's configuration file: removes program, maps and the VIPs that the agent added
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "pin",
        conflicts_with = "pin"
    )]
    config: Option<PathBuf>,
    /// [agent].pin, where the configuration is lost: removes program and maps
    #[arg(long, value_name = "PATH")]
    pin: Option<PathBuf>,
    /// Detach under an agent that cannot be stopped
    #[arg(long)]
    force: bool,
    /// The agent's socket, if not the configuration's
    #[arg(long, value_name = "PATH", env = "LB_SOCKET")]
    socket: Option<PathBuf>,
    /// Print JSON, one object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &DetachOptions) -> anyhow::Result<()> {
    let report = match (&options.config, &options.pin) {
        (Some(config), _) => {
            let control = Config::load(config)?.agent.control;
            refuse_under_an_agent(options, &control)?;
            crate::agent::detach(config)?
        }
        (None, Some(pin)) => {
            refuse_under_an_agent(options, Path::new(SOCKET_DEFAULT))?;
            detach_pins(pin)?
        }
        (None, None) => bail!("nothing to detach; name it with --config FILE or --pin PATH"),
    };
    if options.json {
        return print_json(&report);
    }
    print(&render(&report))
}

/// An agent that runs would lose its program under it.
fn refuse_under_an_agent(options: &DetachOptions, control: &Path) -> anyhow::Result<()> {
    let socket = options.socket.as_deref().unwrap_or(control);
    if !options.force && UnixStream::connect(socket).is_ok() {
        bail!(
            "an agent answers at {}; stop it first, or detach under it with --force",
            socket.display()
        );
    }
    Ok(())
}

/// Program and maps only: which addresses the agent added is written where its configuration says.
fn detach_pins(pin: &Path) -> anyhow::Result<DetachReport> {
    let pins = Pins::at(pin);
    let mut interfaces = pins.linked_interfaces();
    interfaces.sort();
    let maps = pins.exist();
    remove_pins(pin)
        .with_context(|| format!("cannot detach what is pinned at {}", pin.display()))?;
    Ok(DetachReport {
        interfaces,
        maps,
        vips: Vec::new(),
    })
}

fn render(report: &DetachReport) -> String {
    let mut text = String::new();
    for interface in &report.interfaces {
        let _ = writeln!(text, "detached from {interface}");
    }
    if report.maps {
        text.push_str("removed the maps\n");
    }
    for vip in &report.vips {
        let _ = writeln!(text, "removed VIP {vip}");
    }
    if text.is_empty() {
        text.push_str("nothing to remove\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_listed() {
        let report = DetachReport {
            interfaces: vec!["eth0".into()],
            maps: true,
            vips: vec!["198.51.100.10".parse().expect("an address")],
        };
        assert_eq!(
            render(&report),
            "detached from eth0\nremoved the maps\nremoved VIP 198.51.100.10\n"
        );
        assert_eq!(render(&DetachReport::default()), "nothing to remove\n");
    }
}
