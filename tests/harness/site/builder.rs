//! Builds a site.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Once};

use anyhow::{Result, ensure};
use ipnet::IpNet;

use super::addresses::{self as plan, BACKENDS_MAX, BRIDGE, CLIENTS_MAX, Pair, VIPS_MAX};
use super::backend::{Attached, Backend, Role};
use super::{Gateway, Host, Site};
use crate::bpffs::BpfFs;
use crate::link::{self, End, MTU};
use crate::namespace::Namespace;
use crate::poll::Polling;
use crate::run_directory::RunDirectory;
use crate::sweep::sweep_leftovers;

/// MTU between gateway and backends: room for a client's 1,500 bytes in an IPv6 tunnel.
const FABRIC_MTU: u32 = 1600;

/// Address families of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

impl Families {
    fn has_v4(self) -> bool {
        self != Families::V6
    }

    fn has_v6(self) -> bool {
        self != Families::V4
    }

    fn of(self, pair: Pair) -> impl Iterator<Item = IpNet> + Clone {
        let v4 = self.has_v4().then_some(IpNet::V4(pair.v4));
        let v6 = self.has_v6().then_some(IpNet::V6(pair.v6));
        v4.into_iter().chain(v6)
    }
}

/// How the gateway is cabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nics {
    /// `eth0` on the backends' segment: packets leave where they came (XDP_TX).
    One,
    /// `eth0` towards clients, `eth1` towards backends: packets are redirected.
    Two,
}

/// What site to build.
#[derive(Clone, Debug)]
pub struct SiteBuilder {
    primaries: u8,
    standbys: u8,
    clients: u8,
    vips: u8,
    families: Families,
    nics: Nics,
    decapsulates: bool,
    vips_on_link: bool,
    client_mtu: u32,
    fabric_mtu: u32,
}

impl Default for SiteBuilder {
    fn default() -> SiteBuilder {
        SiteBuilder {
            primaries: 3,
            standbys: 1,
            clients: 1,
            vips: 1,
            families: Families::Both,
            nics: Nics::Two,
            decapsulates: false,
            vips_on_link: false,
            client_mtu: MTU,
            fabric_mtu: FABRIC_MTU,
        }
    }
}

impl SiteBuilder {
    /// So many primaries, `logic-1` … (up to [`BACKENDS_MAX`]).
    #[must_use]
    pub fn primaries(mut self, count: u8) -> SiteBuilder {
        self.primaries = count;
        self
    }

    /// So many standbys, `logic-s1` … (up to [`BACKENDS_MAX`]).
    #[must_use]
    pub fn standbys(mut self, count: u8) -> SiteBuilder {
        self.standbys = count;
        self
    }

    /// So many clients, each on a segment of its own.
    #[must_use]
    pub fn clients(mut self, count: u8) -> SiteBuilder {
        self.clients = count;
        self
    }

    /// So many VIPs of each family (up to [`VIPS_MAX`]).
    #[must_use]
    pub fn vips(mut self, count: u8) -> SiteBuilder {
        self.vips = count;
        self
    }

    /// Which address families all hosts have.
    #[must_use]
    pub fn families(mut self, families: Families) -> SiteBuilder {
        self.families = families;
        self
    }

    /// How the gateway is cabled.
    #[must_use]
    pub fn nics(mut self, nics: Nics) -> SiteBuilder {
        self.nics = nics;
        self
    }

    /// Backends unwrap what comes in tunnels (for `forward = "ipip"`), by `lbt-decap`.
    #[must_use]
    pub fn decapsulating(mut self) -> SiteBuilder {
        self.decapsulates = true;
        self
    }

    /// The router looks for VIPs by ARP and neighbour discovery on the gateway's segment instead
    /// of having a route: whoever announces a VIP gets its packets.
    #[must_use]
    pub fn vips_on_link(mut self) -> SiteBuilder {
        self.vips_on_link = true;
        self
    }

    /// MTU between clients and gateway, in bytes.
    #[must_use]
    pub fn client_mtu(mut self, mtu: u32) -> SiteBuilder {
        self.client_mtu = mtu;
        self
    }

    /// MTU on the backends' segment, in bytes.
    #[must_use]
    pub fn fabric_mtu(mut self, mtu: u32) -> SiteBuilder {
        self.fabric_mtu = mtu;
        self
    }

    /// Builds it. The first build in a process also sweeps up what dead tests left behind.
    ///
    /// # Errors
    /// If the plan has no room for so many, or the machine refuses a namespace or link.
    pub fn build(self) -> Result<Site> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| drop(sweep_leftovers()));
        ensure!(
            (1..=CLIENTS_MAX).contains(&self.clients),
            "1 ..= {CLIENTS_MAX} clients"
        );
        ensure!((1..=VIPS_MAX).contains(&self.vips), "1 ..= {VIPS_MAX} VIPs");
        ensure!(
            self.primaries <= BACKENDS_MAX && self.standbys <= BACKENDS_MAX,
            "at most {BACKENDS_MAX} primaries and {BACKENDS_MAX} standbys"
        );
        let run = RunDirectory::new()?;
        let vips = self.vip_addresses();
        let fabric = Arc::new(Namespace::new("fabric")?);
        // A switch has no addresses of its own to chatter about.
        fabric.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
        fabric.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        link::bridge(&fabric, BRIDGE, self.fabric_mtu)?;
        let router = self.build_router(&fabric)?;
        let clients = self.build_clients(&router)?;
        let gateway = self.build_gateway(&router, &fabric, &vips, &run)?;
        let backends = self.build_backends(&fabric, &vips, &run)?;
        Ok(Site {
            clients,
            backends,
            gateway,
            router,
            fabric,
            vips,
            run,
        })
    }

    fn vip_addresses(&self) -> Vec<IpAddr> {
        let v4 = (0..self.vips)
            .filter(|_| self.families.has_v4())
            .map(plan::vip_v4);
        let v6 = (0..self.vips)
            .filter(|_| self.families.has_v6())
            .map(plan::vip_v6);
        v4.chain(v6).collect()
    }

    fn host(&self, role: &str, pair: Pair) -> Result<Host> {
        Ok(Host {
            namespace: Arc::new(Namespace::new(role)?),
            v4: self.families.has_v4().then(|| pair.v4.addr()),
            v6: self.families.has_v6().then(|| pair.v6.addr()),
        })
    }

    fn build_router(&self, fabric: &Namespace) -> Result<Host> {
        let address = plan::fabric(plan::ROUTER);
        let router = self.host("router", address)?;
        router.sysctl("ipv4/ip_forward", "1")?;
        router.sysctl("ipv6/conf/all/forwarding", "1")?;
        self.join_fabric(&router, "fabric", address, fabric, "to-router")?;
        Ok(router)
    }

    fn build_clients(&self, router: &Host) -> Result<Vec<Host>> {
        (1..=self.clients)
            .map(|number| {
                let role = if number == 1 {
                    "client".into()
                } else {
                    format!("client-{number}")
                };
                let own = plan::client_segment(number, plan::CLIENT);
                let routers = plan::client_segment(number, plan::ROUTER);
                let client = self.host(&role, own)?;
                link::connect(
                    &End::new(router, &role)
                        .addresses(self.families.of(routers))
                        .mtu(self.client_mtu),
                    &End::new(&client, "eth0")
                        .addresses(self.families.of(own))
                        .mtu(self.client_mtu),
                )?;
                self.set_default_route(&client, routers)?;
                Ok(client)
            })
            .collect()
    }

    fn build_gateway(
        &self,
        router: &Host,
        fabric: &Namespace,
        vips: &[IpAddr],
        run: &RunDirectory,
    ) -> Result<Gateway> {
        let inside = plan::fabric(plan::GATEWAY);
        let host = self.host("gateway", inside)?;
        let mut polling = vec![];
        let (towards_clients, device, interfaces) = match self.nics {
            Nics::One => {
                self.join_fabric(&host, "eth0", inside, fabric, "to-gateway")?;
                self.set_default_route(&host, plan::fabric(plan::ROUTER))?;
                (inside, "fabric", vec!["eth0".to_owned()])
            }
            Nics::Two => {
                let outside = plan::front(plan::GATEWAY);
                let routers = plan::front(plan::ROUTER);
                link::connect(
                    &End::new(router, "front")
                        .addresses(self.families.of(routers))
                        .mtu(self.client_mtu),
                    &End::new(&host, "eth0")
                        .addresses(self.families.of(outside))
                        .mtu(self.client_mtu),
                )?;
                self.join_fabric(&host, "eth1", inside, fabric, "to-gateway")?;
                polling.push(Polling::start(router, "front")?);
                self.set_default_route(&host, routers)?;
                (outside, "front", vec!["eth0".to_owned(), "eth1".to_owned()])
            }
        };
        let mut routes = String::new();
        for vip in vips {
            let gateway = if vip.is_ipv4() {
                IpAddr::V4(towards_clients.v4.addr())
            } else {
                IpAddr::V6(towards_clients.v6.addr())
            };
            let via = if self.vips_on_link {
                String::new()
            } else {
                format!("via {gateway} ")
            };
            let _ = writeln!(
                routes,
                "route add {} {via}dev {device}",
                plan::host_net(*vip)
            );
        }
        router.ip_batch(&routes)?;
        polling.push(Polling::start(fabric, "to-gateway")?);
        let bpffs = BpfFs::mounted_in(run)?;
        Ok(Gateway::new(host, interfaces, bpffs, polling, run.path()))
    }

    fn build_backends(
        &self,
        fabric: &Arc<Namespace>,
        vips: &[IpAddr],
        run: &RunDirectory,
    ) -> Result<Vec<Backend>> {
        let primaries = (1..=self.primaries)
            .map(|n| (format!("logic-{n}"), Role::Primary, plan::PRIMARIES + n - 1));
        let standbys = (1..=self.standbys)
            .map(|n| (format!("logic-s{n}"), Role::Standby, plan::STANDBYS + n - 1));
        primaries
            .chain(standbys)
            .map(|(name, role, number)| {
                let address = plan::fabric(number);
                let host = self.host(&name, address)?;
                let port = format!("to-{name}");
                self.join_fabric(&host, "eth0", address, fabric, &port)?;
                self.set_default_route(&host, plan::fabric(plan::ROUTER))?;
                let attached = Attached {
                    fabric: Arc::clone(fabric),
                    port,
                };
                let mut backend = Backend::new(name, role, host, attached, vips, run.logs())?;
                if self.decapsulates {
                    backend.start_decapsulating()?;
                }
                Ok(backend)
            })
            .collect()
    }

    fn join_fabric(
        &self,
        host: &Host,
        device: &str,
        address: Pair,
        fabric: &Namespace,
        port: &str,
    ) -> Result<()> {
        link::connect(
            &End::new(fabric, port).bridge(BRIDGE).mtu(self.fabric_mtu),
            &End::new(host, device)
                .addresses(self.families.of(address))
                .mac(crate::mac::Mac::of(address.v4.addr()))
                .mtu(self.fabric_mtu),
        )
    }

    fn set_default_route(&self, host: &Host, router: Pair) -> Result<()> {
        let mut routes = String::new();
        for net in self.families.of(router) {
            let _ = writeln!(routes, "route add default via {}", net.addr());
        }
        host.ip_batch(&routes)
    }
}
