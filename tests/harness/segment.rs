//! Hosts on one network segment, any two of which can be cut off from each other in silence, as by
//! a broken switch: nobody gets a reset, nobody an error.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};

use crate::link::{self, End, MTU};
use crate::mac::Mac;
use crate::namespace::Namespace;
use crate::place::Place;

const BRIDGE: &str = "br0";
/// The hosts of a [`crate::site::Site`] have numbers below, on the same segment.
const FIRST: u8 = 200;
/// Nobody's address.
const NOWHERE: Mac = Mac([0x02, 0xff, 0xff, 0xff, 0xff, 0xff]);

/// A bridge in a namespace of its own, and the hosts at it.
#[derive(Debug)]
pub struct Segment {
    fabric: Arc<Namespace>,
    next: AtomicU8,
}

impl Segment {
    /// A new one.
    ///
    /// # Errors
    /// If the machine refuses a namespace (root is needed).
    pub fn new() -> Result<Self> {
        let fabric = Namespace::new("fabric")?;
        fabric.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
        fabric.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        link::bridge(&fabric, BRIDGE, MTU)?;
        Ok(Self::of(Arc::new(fabric)))
    }

    /// One that exists: the fabric of a site.
    pub fn of(fabric: Arc<Namespace>) -> Self {
        Self {
            fabric,
            next: AtomicU8::new(FIRST),
        }
    }

    /// Joins a new host.
    ///
    /// # Errors
    /// If the machine refuses, or all addresses are taken.
    pub fn host(&self, name: &str) -> Result<Place> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::new(10, 0, 1, number);
        let host = Namespace::new(name)?;
        host.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        link::connect(
            &End::new(&self.fabric, &port(address)).bridge(BRIDGE),
            &End::new(&host, "eth0").addresses([IpNet::V4(Ipv4Net::new(address, 24)?)]),
        )?;
        Ok(Place::host(Arc::new(host), address))
    }

    /// Nothing passes between two hosts any more, in either direction.
    ///
    /// # Errors
    /// If one of them is no host of a segment.
    pub fn cut(&self, one: &Place, other: &Place) -> Result<()> {
        neighbour(one, other, NOWHERE)?;
        neighbour(other, one, NOWHERE)
    }

    /// Ends [`Segment::cut`].
    ///
    /// # Errors
    /// If one of them is no host of a segment.
    pub fn mend(&self, one: &Place, other: &Place) -> Result<()> {
        neighbour(one, other, Mac::of(other.address()))?;
        neighbour(other, one, Mac::of(one.address()))
    }

    /// A host is alone: nothing passes between it and anybody.
    ///
    /// # Errors
    /// If the switch refuses.
    pub fn isolate(&self, place: &Place) -> Result<()> {
        self.set_port(place, &["nomaster"])
    }

    /// Ends [`Segment::isolate`].
    ///
    /// # Errors
    /// If the switch refuses.
    pub fn join(&self, place: &Place) -> Result<()> {
        self.set_port(place, &["master", BRIDGE])
    }

    fn set_port(&self, place: &Place, what: &[&str]) -> Result<()> {
        let port = port(place.address());
        let command = [&["link", "set", "dev", &port], what].concat();
        self.fabric.ip(&command).map(drop)
    }
}

/// The name of a host's port at the switch.
fn port(address: Ipv4Addr) -> String {
    let [.., number] = address.octets();
    format!("to-{number}")
}

/// Tells a host where frames for another one go.
fn neighbour(at: &Place, of: &Place, mac: Mac) -> Result<()> {
    let namespace = at.namespace().context("loopback cannot be cut")?;
    let (address, mac) = (of.address().to_string(), mac.to_string());
    let command = [
        "neigh",
        "replace",
        &address,
        "lladdr",
        &mac,
        "dev",
        "eth0",
        "nud",
        "permanent",
    ];
    namespace.ip(&command).map(drop)
}
