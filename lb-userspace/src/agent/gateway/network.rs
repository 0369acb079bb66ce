//! What the gateway hears of and does to the host's network: next hops, interfaces, VIPs.

use std::net::IpAddr;

use anyhow::Context;
use lb_common::backend::NextHop;
use tokio::sync::mpsc;

use super::{Gateway, Happening};
use crate::agent::announce::{Announcement, announce};
use crate::agent::datapath::Attachment;
use crate::agent::effective::Path;
use crate::agent::events::event;
use crate::agent::interface::{Interface, LinkChange, LinkWatch};
use crate::agent::neighbour::{self, NextHopChange, NextHops, Target, Unresolved};
use crate::agent::netlink::Netlink;
use crate::agent::plan::MapWrite;
use crate::agent::ports::{Egress, TAGS_MAX};
use crate::agent::vip::{VipReport, Vips};

/// The running watches, and what they found last.
pub(super) struct Network {
    pub netlink: Netlink,
    hops: NextHops,
    hop_changes: mpsc::Receiver<NextHopChange>,
    _links: LinkWatch,
    link_changes: mpsc::Receiver<LinkChange>,
    vips: Vips,
    /// The VIPs as they stand on the host.
    pub vip_report: VipReport,
    /// The announcement under way; a new one ends it.
    announcement: Option<Announcement>,
    /// The interfaces of this host, as last seen.
    pub interfaces: Vec<Interface>,
}

impl Network {
    /// Starts watching. `vips` are those that earlier agents remember to have added.
    pub fn start(vips: Vec<IpAddr>) -> anyhow::Result<Self> {
        let netlink = Netlink::open().context("cannot talk to the kernel about the network")?;
        let (hops, hop_changes) = NextHops::start(netlink.clone())?;
        let (links, link_changes) = LinkWatch::start(netlink.clone())?;
        Ok(Self {
            vips: Vips::new(netlink.clone(), vips),
            netlink,
            hops,
            hop_changes,
            _links: links,
            link_changes,
            vip_report: VipReport::default(),
            announcement: None,
            interfaces: Vec::new(),
        })
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> Happening {
        tokio::select! {
            Some(change) = self.hop_changes.recv() => Happening::NextHop(change),
            Some(change) = self.link_changes.recv() => Happening::Link(change),
            // Both watches run for as long as this struct holds them.
            else => std::future::pending().await,
        }
    }

    /// The interface of this name, as last seen.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
    }

    /// Remembers an interface; whether there was none of its number.
    fn see(&mut self, interface: Interface) -> bool {
        let before = self.interfaces.len();
        self.interfaces
            .retain(|there| there.index != interface.index);
        let is_new = before == self.interfaces.len();
        self.interfaces.push(interface);
        is_new
    }
}

impl Gateway {
    /// Asks for the next hop of every backend.
    pub(super) fn watch_next_hops(&self) {
        let target = |record: &super::Record| Target {
            id: record.token,
            address: record.config.address,
            on_link_required: record.is_on_link,
        };
        self.network
            .hops
            .set_targets(self.backends.iter().map(target).collect());
    }

    /// A backend's next hop is known, is another one, or is lost.
    pub(super) async fn next_hop(&mut self, change: NextHopChange) {
        let Some(id) = self.backends.by_token(change.id) else {
            return;
        };
        let Some(address) = self.backends.get(id).map(|record| record.config.address) else {
            return;
        };
        let path = match change.result {
            Err(unresolved) => Path::None(unresolved),
            Ok(hop) => match self.port_of(&hop).await {
                Ok(port) => {
                    if self
                        .backends
                        .get(id)
                        .is_some_and(|record| record.is_published)
                    {
                        self.states.set_next_hop(id, NextHop::new(hop.mac.0, port));
                    }
                    Path::Known(hop)
                }
                Err(error) => Path::None(Unresolved::LookupFailed {
                    address,
                    reason: format!("{error:#}"),
                }),
            },
        };
        self.update(id, None, |record| record.path = path);
    }

    /// The port of the data plane that a next hop leaves by; made if it is the first there.
    async fn port_of(&mut self, hop: &neighbour::NextHop) -> anyhow::Result<u16> {
        if let Some(index) = self.ports.index_of(hop.interface_index) {
            return Ok(index);
        }
        let interface = Interface::by_index(&self.network.netlink, hop.interface_index).await?;
        self.place_port(&interface).await
    }

    async fn place_port(&mut self, interface: &Interface) -> anyhow::Result<u16> {
        let egress = self.egress_of(interface).await?;
        let (index, port, is_news) = self.ports.place(interface, egress)?;
        if is_news {
            let written = self.datapath().apply(&MapWrite::Port { index, port });
            // Not to be taken for written the next time.
            written.inspect_err(|_| self.ports.forget(interface.index))?;
        }
        Ok(index)
    }

    /// Where the frames of an interface really leave: a VLAN's on the interface below it.
    async fn egress_of(&self, interface: &Interface) -> anyhow::Result<Egress> {
        let mut chain = vec![interface.clone()];
        while let Some(vlan) = chain.last().and_then(|interface| interface.vlan)
            && chain.len() <= TAGS_MAX
        {
            chain.push(Interface::by_index(&self.network.netlink, vlan.parent).await?);
        }
        Ok(Egress::of(&chain)?)
    }

    /// An interface changed: its port follows, and the program returns to one that was made anew.
    pub(super) async fn link(&mut self, change: LinkChange) {
        let interface = match change {
            LinkChange::Removed(interface) => {
                self.network
                    .interfaces
                    .retain(|there| there.index != interface.index);
                self.ports.forget(interface.index);
                if self.config.agent.interfaces.contains(&interface.name) {
                    let text = format!("interface {} is gone, the program with it", interface.name);
                    self.events.record(event("attach", text));
                }
                return;
            }
            LinkChange::Changed(interface) => interface,
        };
        if self.ports.index_of(interface.index).is_some()
            && let Err(error) = self.place_port(&interface).await
        {
            tracing::error!("{error:#}");
        }
        let is_ours = self.config.agent.interfaces.contains(&interface.name);
        let is_bare = interface.xdp.is_none();
        let is_new = self.network.see(interface.clone());
        if is_ours && is_bare && self.is_serving() {
            self.attach_again(&interface);
        }
        if self.config.agent.interfaces.first() == Some(&interface.name) {
            self.keep_vips(is_new).await;
        }
    }

    /// VIPs go with their interface, and belong on the one that was made in its place.
    async fn keep_vips(&mut self, is_new: bool) {
        let is_settled = self.is_serving() && matches!(self.progress, super::Progress::Idle);
        if is_new
            && is_settled
            && let Err(error) = self.place_vips().await
        {
            let text = format!("cannot put the VIPs back: {error:#}");
            self.events.record(event("vip", text));
        }
    }

    /// The interface was removed and made again, or somebody took the program off it.
    fn attach_again(&mut self, interface: &Interface) {
        let mode = super::write::attach_mode(self.config.agent.xdp_mode);
        let attached = self
            .datapath()
            .attach(&interface.name, interface.index, mode);
        let text = match attached {
            // It was there all along: the report is older than our own attaching.
            Ok(Attachment::Updated) => return,
            Ok(_) => format!("attached to {} again", interface.name),
            Err(error) => format!("cannot attach again: {error}"),
        };
        self.events.record(event("attach", text));
    }

    /// Looks at the interfaces anew: what changed by our own doing is not always reported in time.
    pub(super) async fn refresh_interfaces(&mut self) {
        match Interface::all(&self.network.netlink).await {
            Ok(interfaces) => self.network.interfaces = interfaces,
            Err(error) => tracing::warn!(%error, "cannot list the interfaces"),
        }
    }

    /// Puts the VIPs of the configuration on this host, takes away those that are no longer wanted,
    /// and announces what is new.
    pub(super) async fn place_vips(&mut self) -> anyhow::Result<()> {
        let mut wanted: Vec<IpAddr> = if self.config.agent.manage_vips {
            self.config
                .services
                .iter()
                .map(|service| service.vip)
                .collect()
        } else {
            Vec::new()
        };
        wanted.sort_unstable();
        wanted.dedup();
        let Some(interface) = self.config.agent.interfaces.first() else {
            return Ok(());
        };
        let interface = Interface::by_name(&self.network.netlink, interface).await?;
        let report = self.network.vips.ensure(&wanted, &interface).await?;
        for (vips, done) in [
            (&report.added, "added to"),
            (&report.removed, "removed from"),
        ] {
            for vip in vips {
                let text = format!("VIP {vip} {done} {}", interface.name);
                self.events.record(event("vip", text));
            }
        }
        for vip in &report.foreign {
            let text = format!("VIP {vip} is on this host already and not ours: left alone");
            self.events.record(event("vip", text));
        }
        if !report.added.is_empty() {
            self.network.announcement = Some(announce(interface, report.added.clone()));
        }
        self.intents.vips = self.network.vips.ours().to_vec();
        self.network.vip_report = report;
        self.intents.save(&self.config.agent.state)?;
        Ok(())
    }
}
