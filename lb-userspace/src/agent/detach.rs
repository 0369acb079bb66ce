//! Taking the data plane away: only by its own explicit command.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;

use super::datapath::{Pins, remove_pins};
use super::intent::Intents;
use super::netlink::Netlink;
use super::vip::Vips;
use crate::config::Config;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DetachReport {
    /// Interfaces that the program was taken off.
    pub interfaces: Vec<String>,
    /// Whether maps were pinned, and are no more.
    pub maps: bool,
    /// VIPs that an agent had added to this host.
    pub vips: Vec<IpAddr>,
}

/// Removes program, maps and the VIPs that an agent added, as the configuration at `config` names
/// their places. Operator intent stays for the next agent. Packets are no longer forwarded. An agent
/// that still runs loses its program under it: whoever calls this has made sure that none does.
///
/// # Errors
/// If something could not be removed.
pub fn detach(config: &Path) -> anyhow::Result<DetachReport> {
    let config = Config::load(config)?;
    crate::runtime::block_on(async {
        let pins = Pins::at(&config.agent.pin);
        let interfaces = pins.linked_interfaces();
        let maps = pins.exist();
        // Addresses last would leave the host answering for VIPs that nobody serves.
        let vips = remove_vips(&config).await?;
        remove_pins(&config.agent.pin)?;
        Ok(DetachReport {
            interfaces,
            maps,
            vips,
        })
    })?
}

async fn remove_vips(config: &Config) -> anyhow::Result<Vec<IpAddr>> {
    let mut intents = Intents::load(&config.agent.state)?;
    let netlink = Netlink::open().context("cannot talk to the kernel about the network")?;
    let vips = Vips::new(netlink, intents.vips.clone())
        .remove_all()
        .await?;
    if !intents.vips.is_empty() {
        intents.vips.clear();
        intents.save(&config.agent.state)?;
    }
    Ok(vips)
}
