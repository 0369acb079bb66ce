//! The standard site: clients, a router, a gateway and backends, each a network namespace.
//!
//! ```text
//!  client  client-2                        clients have a subnet each
//!      \    /
//!      router ──────── gateway eth0        the front segment (two NICs), or
//!         │               │ eth1
//!      ───┴── fabric ─────┴──┬───┬───      one L2 segment, a bridge in a namespace of its own;
//!                         logic-1 … logic-s1   with one NIC, the gateway's eth0 is here
//! ```
//!
//! The router sends VIPs to the gateway. Backends have the VIPs on loopback, do not answer ARP for
//! them, and answer clients through the router, past the gateway (direct server return).

mod addresses;
mod backend;
mod builder;
mod config;
mod gateway;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::namespace::Namespace;
use crate::redis::{Place, Segment};
use crate::run_directory::RunDirectory;

pub use addresses::{BACKENDS_MAX, TALK_PORT, VIPS_MAX, WEB_PORT};
pub use backend::{Backend, Role};
pub use builder::{Families, Nics, SiteBuilder};
pub use config::ConfigText;
pub use gateway::Gateway;

/// A host: a namespace with addresses. Whatever a [`Namespace`] can do, it can.
#[derive(Debug)]
pub struct Host {
    namespace: Arc<Namespace>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Host {
    /// Its IPv4 address.
    ///
    /// # Panics
    /// If the site was built without IPv4.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
            .expect("the site has IPv4: see SiteBuilder::families")
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// If the site was built without IPv6.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
            .expect("the site has IPv6: see SiteBuilder::families")
    }

    /// Its address, IPv4 if there is one.
    pub fn address(&self) -> IpAddr {
        self.v4.map_or_else(|| IpAddr::V6(self.v6()), IpAddr::V4)
    }
}

impl Host {
    /// Where processes of the cache tier run on it.
    ///
    /// # Panics
    /// If the site was built without IPv4.
    pub fn place(&self) -> Place {
        Place::host(Arc::clone(&self.namespace), self.v4())
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// The whole site; everything in it goes when it is dropped.
#[derive(Debug)]
pub struct Site {
    clients: Vec<Host>,
    backends: Vec<Backend>,
    gateway: Gateway,
    router: Host,
    fabric: Arc<Namespace>,
    vips: Vec<IpAddr>,
    // Declared last: sockets, pins and logs of all of the above lie in it.
    run: RunDirectory,
}

impl Site {
    /// Begins with three primaries, one standby, one client, both address families, two NICs.
    pub fn builder() -> SiteBuilder {
        SiteBuilder::default()
    }

    /// The first client.
    pub fn client(&self) -> &Host {
        &self.clients[0]
    }

    /// All clients, at least one.
    pub fn clients(&self) -> &[Host] {
        &self.clients
    }

    /// The host that stands for the network between clients and site.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// The host that `lb agent` runs on.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The namespace of the switch that joins the backends.
    pub fn fabric(&self) -> &Namespace {
        &self.fabric
    }

    /// The segment of the backends, for further hosts on it.
    pub fn segment(&self) -> Segment {
        Segment::of(Arc::clone(&self.fabric))
    }

    /// A backend by name: primaries are `logic-1` …, standbys `logic-s1` ….
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn backend(&self, name: &str) -> &Backend {
        self.backends
            .iter()
            .find(|backend| backend.name() == name)
            .unwrap_or_else(|| {
                let names: Vec<&str> = self.backends.iter().map(Backend::name).collect();
                panic!(
                    "no backend {name:?} in this site, only {}",
                    names.join(", ")
                )
            })
    }

    /// All backends, primaries first.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// All VIPs, IPv4 first.
    pub fn vips(&self) -> &[IpAddr] {
        &self.vips
    }

    /// The first VIP (IPv4 if the site has it) with the port of the web service.
    pub fn vip(&self) -> SocketAddr {
        SocketAddr::new(self.vips[0], WEB_PORT)
    }

    /// The first IPv6 VIP with the port of the web service.
    ///
    /// # Panics
    /// If the site was built without IPv6.
    pub fn vip_v6(&self) -> SocketAddr {
        let v6 = self.vips.iter().find(|vip| vip.is_ipv6());
        SocketAddr::new(
            *v6.expect("the site has IPv6: see SiteBuilder::families"),
            WEB_PORT,
        )
    }

    /// A configuration for this site: one pool `logic` of all backends, TCP and UDP services at
    /// every VIP.
    pub fn config(&self) -> ConfigText {
        ConfigText::new(self)
    }

    /// Where this site's sockets, configurations and logs lie.
    pub fn run_directory(&self) -> &Path {
        self.run.path()
    }
}
