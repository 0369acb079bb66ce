//! Whole frames, sent and received at a device.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

use crate::namespace::Namespace;
use crate::packet::Frame;

/// The largest frame received: GRO may have joined several.
const FRAME_MAX: usize = 128 << 10;
/// `sll_pkttype` of what this host sent itself.
const PACKET_OUTGOING: u8 = 4;

/// A packet socket at one device.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens one at `device` in `namespace`; frames that arrive from now on can be received.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Wire> {
        namespace
            .run(|| Wire::open_here(device))
            .with_context(|| format!("packet socket at {device} in {}", namespace.name()))
    }

    fn open_here(device: &str) -> Result<Wire> {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        let address: LinkAddr = getifaddrs()?
            .filter(|interface| interface.interface_name == device)
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .context("no such device")?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Wire { socket })
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// If the device is down or the frame is too long for it.
    pub fn send(&self, frame: &Frame) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .with_context(|| format!("send {frame:?}"))?;
        Ok(())
    }

    /// The next arriving frame for which `wanted` holds; others are dropped.
    ///
    /// # Errors
    /// After `deadline`, naming `what` was wanted.
    pub fn receive(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Frame> {
        let until = Instant::now() + deadline;
        let mut buffer = vec![0; FRAME_MAX];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("waited {deadline:?} in vain for a frame: {what}");
            }
            // Rounded up: zero would mean "for ever".
            let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
            let timeout = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
            setsockopt(&self.socket, ReceiveTimeout, &timeout)?;
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                received => received?,
            };
            let frame = Frame(buffer[..length].to_vec());
            let is_own = from.is_some_and(|from| from.pkttype() == PACKET_OUTGOING);
            if !is_own && wanted(&frame) {
                return Ok(frame);
            }
        }
    }
}
