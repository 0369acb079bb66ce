//! One server of a site.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::Host;
use super::addresses::{BRIDGE, TALK_PORT, WEB_PORT, fabric, host_net};
use crate::mac::Mac;
use crate::namespace::Namespace;
use crate::process::{Process, built};
use crate::web::{self, Web};

/// A helper process is ready within this time.
const READY_MAX: Duration = Duration::from_secs(5);

/// A backend's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes flows as long as it is up.
    Primary,
    /// Takes flows of failed primaries.
    Standby,
}

impl Role {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Standby => "standby",
        }
    }
}

/// Where a backend is plugged in.
#[derive(Debug)]
pub(super) struct Attached {
    pub fabric: Arc<Namespace>,
    pub port: String,
}

/// A server host with the VIPs on its loopback device. Whatever a [`Host`] can do, it can.
#[derive(Debug)]
pub struct Backend {
    decapsulator: Option<Process>,
    name: String,
    role: Role,
    host: Host,
    attached: Attached,
    vips: Vec<IpAddr>,
    logs: PathBuf,
}

impl Backend {
    pub(super) fn new(
        name: String,
        role: Role,
        host: Host,
        attached: Attached,
        vips: &[IpAddr],
        logs: PathBuf,
    ) -> Result<Backend> {
        // The VIP belongs to the gateway on this segment: never answer ARP for an address of
        // another device (lo), never give it as the source of a question. IPv6 does so by itself.
        host.sysctl("ipv4/conf/all/arp_ignore", "1")?;
        host.sysctl("ipv4/conf/all/arp_announce", "2")?;
        let mut commands = String::new();
        for vip in vips {
            let nodad = if vip.is_ipv6() { " nodad" } else { "" };
            let _ = writeln!(commands, "address add {} dev lo{nodad}", host_net(*vip));
        }
        host.ip_batch(&commands)?;
        let vips = vips.to_vec();
        Ok(Backend {
            decapsulator: None,
            name,
            role,
            host,
            attached,
            vips,
            logs,
        })
    }

    pub(super) fn start_decapsulating(&mut self) -> Result<()> {
        let mut command = Command::new(built("lbt-decap", "lb-tests")?);
        let name = format!("decap-{}", self.name);
        let mut process = Process::spawn(&self.host, &name, &mut command, &self.logs)?;
        process.wait_for_line("decapsulating", READY_MAX)?;
        self.decapsulator = Some(process);
        Ok(())
    }

    /// Its name in the configuration and in answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its role in the configuration.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The MAC address of its `eth0`.
    pub fn mac(&self) -> Mac {
        self.host.v4.map_or_else(
            // The address plan gives the MAC also where IPv4 itself is left out.
            || Mac::of(fabric(self.host.v6().octets()[15]).v4.addr()),
            Mac::of,
        )
    }

    /// Starts its web server ([`Web`]) at [`WEB_PORT`], UDP echo included.
    ///
    /// # Errors
    /// If the port is taken or the program is not built.
    pub fn serve(&self) -> Result<Web> {
        self.serve_on(WEB_PORT)
    }

    /// The same at another port.
    ///
    /// # Errors
    /// If the port is taken or the program is not built.
    pub fn serve_on(&self, port: u16) -> Result<Web> {
        self.start_server(port, None)
    }

    /// As [`Backend::serve`], and plain TCP connections at [`TALK_PORT`]
    /// ([`crate::connections`]).
    ///
    /// # Errors
    /// If a port is taken or the program is not built.
    pub fn serve_talks(&self) -> Result<Web> {
        self.start_server(WEB_PORT, Some(TALK_PORT))
    }

    fn start_server(&self, port: u16, talk: Option<u16>) -> Result<Web> {
        let v4 = self.host.v4.map(IpAddr::V4);
        let v6 = self.host.v6.map(IpAddr::V6);
        let udp: Vec<IpAddr> = v4
            .into_iter()
            .chain(v6)
            .chain(self.vips.iter().copied())
            .collect();
        Web::start(&self.host, &self.name, port, &udp, talk, &self.logs)
    }

    /// Sets what `/readyz` of its web server at [`WEB_PORT`] says.
    ///
    /// # Errors
    /// If no server answers.
    pub fn set_ready(&self, ready: bool) -> Result<()> {
        web::set_ready(
            &self.host,
            SocketAddr::new(self.host.address(), WEB_PORT),
            ready,
        )
    }

    /// Makes the network lose everything from and to it: a silent host, whose link stays up.
    ///
    /// # Errors
    /// If the switch refuses.
    pub fn silence(&self) -> Result<()> {
        // Out of the bridge, not a port in state "disabled": any other port's change undoes that.
        self.set_port(&["nomaster"])
    }

    /// Ends [`Backend::silence`].
    ///
    /// # Errors
    /// If the switch refuses.
    pub fn unsilence(&self) -> Result<()> {
        self.set_port(&["master", BRIDGE])
    }

    /// Pulls its cable: the link goes down at both ends.
    ///
    /// # Errors
    /// If the switch refuses.
    pub fn unplug(&self) -> Result<()> {
        self.set_port(&["down"])
    }

    /// Ends [`Backend::unplug`].
    ///
    /// # Errors
    /// If the switch refuses.
    pub fn plug(&self) -> Result<()> {
        self.set_port(&["up"])
    }

    fn set_port(&self, what: &[&str]) -> Result<()> {
        let command = [&["link", "set", "dev", &self.attached.port], what].concat();
        self.attached.fabric.ip(&command).map(|_| ())
    }
}

impl Deref for Backend {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}
