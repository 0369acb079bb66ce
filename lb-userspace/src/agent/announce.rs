//! Tells the link that a VIP lives here now: gratuitous ARP, unsolicited neighbour advertisements.
//!
//! The agent announces VIPs after it has added them to an interface. Sending goes through an
//! `AF_PACKET` socket of nix (the interface's own link address from `getifaddrs` serves as the
//! destination), so neither `unsafe` nor another crate is needed. Nothing is ever received here.

mod frame;

use std::{io, net::IpAddr, os::fd::AsRawFd, time::Duration};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
    },
};
use tokio::{task::JoinHandle, time};

use super::interface::Interface;

/// How often a VIP is announced: a single frame may be lost, or come while the switch still learns.
pub const ANNOUNCE_TIMES: u32 = 3;

/// Pause between announcements of one VIP. RFC 5227 §2.3 and RFC 4861 §7.2.6 give one to two seconds
/// for whole hosts; a failover should not wait so long for its second try.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(250);

/// Why VIPs were not announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The device has no Ethernet address to announce.
    #[error("cannot announce VIPs on {interface}: it has no Ethernet address")]
    NoLinkLayer {
        /// The interface's name.
        interface: String,
    },
    /// The interface is gone.
    #[error("cannot announce VIPs on {interface}: there is no such interface any more")]
    Gone {
        /// The interface's name.
        interface: String,
    },
    /// The socket could not be opened, which takes `CAP_NET_RAW`, or not be written to.
    #[error("cannot announce {vip} on {interface}: {source}")]
    Send {
        /// The VIP.
        vip: IpAddr,
        /// The interface's name.
        interface: String,
        /// The kernel's errno.
        source: io::Error,
    },
}

/// A running announcement; stops when dropped.
#[derive(Debug)]
pub struct Announcement(JoinHandle<Result<(), AnnounceError>>);

impl Announcement {
    /// Waits until the last frame has been handed to the kernel.
    pub async fn finished(mut self) -> Result<(), AnnounceError> {
        match (&mut self.0).await {
            Ok(result) => result,
            // Aborted with the runtime: nobody is left to hear of it.
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Announces `vips` on `interface`, [`ANNOUNCE_TIMES`] times, the first time at once. A round that
/// fails (no carrier yet) does not stop the later ones; the last round decides the result.
pub fn announce(interface: Interface, vips: Vec<IpAddr>) -> Announcement {
    Announcement(tokio::spawn(async move {
        let mut result = Ok(());
        for round in 0..ANNOUNCE_TIMES {
            if round > 0 {
                time::sleep(ANNOUNCE_INTERVAL).await;
            }
            result = announce_once(&interface, &vips);
        }
        result
    }))
}

/// One round: two ARP frames for each IPv4 address, one advertisement for each IPv6 address. A VIP
/// that cannot be announced does not keep the others from it; the last failure is returned.
pub fn announce_once(interface: &Interface, vips: &[IpAddr]) -> Result<(), AnnounceError> {
    let mac = interface.mac.ok_or_else(|| AnnounceError::NoLinkLayer {
        interface: interface.name.clone(),
    })?;
    let link = link_address(interface)?;
    let mut result = Ok(());
    for vip in vips {
        let frames = match vip {
            // Some hosts update their cache from requests only, some from replies only.
            IpAddr::V4(vip) => vec![
                frame::gratuitous_arp(mac, *vip, frame::ArpForm::Request).to_vec(),
                frame::gratuitous_arp(mac, *vip, frame::ArpForm::Reply).to_vec(),
            ],
            IpAddr::V6(vip) => vec![frame::unsolicited_advertisement(mac, *vip).to_vec()],
        };
        for frame in frames {
            if let Err(source) = send(&frame, &link) {
                let interface = interface.name.clone();
                result = Err(AnnounceError::Send {
                    vip: *vip,
                    interface,
                    source,
                });
            }
        }
    }
    result
}

/// The interface's `AF_PACKET` address, with its index in it.
fn link_address(interface: &Interface) -> Result<LinkAddr, AnnounceError> {
    let gone = || AnnounceError::Gone {
        interface: interface.name.clone(),
    };
    getifaddrs()
        .map_err(|_| gone())?
        .filter(|entry| entry.interface_name == interface.name)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(gone)
}

fn send(frame: &[u8], link: &LinkAddr) -> io::Result<()> {
    debug_assert_eq!(link.family(), Some(AddressFamily::Packet));
    // Protocol 0: the socket receives nothing, so nothing piles up in it.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    sendto(socket.as_raw_fd(), frame, link, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}
