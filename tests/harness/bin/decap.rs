//! `lbt-decap`: what a backend needs for `forward = "ipip"` where the kernel has no tunnel device.
//!
//! It receives protocols 4 (IPv4 inside) and 41 (IPv6 inside) over IPv4 and IPv6 on raw sockets
//! and hands the inner packet, whose destination is a VIP on this host's loopback device, back
//! to the kernel. A raw socket for a protocol also keeps the kernel from answering
//! "protocol unreachable". Prints `decapsulating` when it does; ends when its standard input is
//! closed.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Protocol number of IPv4 in IP.
const IPIP: i32 = 4;
/// Protocol number of IPv6 in IP.
const IPV6: i32 = 41;
/// Protocol number of a raw socket that takes packets with their IP header.
const RAW: i32 = 255;
/// Room for bursts, in bytes.
const RECEIVE_BUFFER: usize = 8 << 20;

fn main() -> Result<()> {
    let local = Arc::new(Local {
        v4: raw(Domain::IPV4, RAW)?,
        v6: raw(Domain::IPV6, RAW)?,
    });
    for (domain, protocol) in [
        (Domain::IPV4, IPIP),
        (Domain::IPV4, IPV6),
        (Domain::IPV6, IPIP),
        (Domain::IPV6, IPV6),
    ] {
        let outer = raw(domain, protocol)?;
        let local = Arc::clone(&local);
        thread::spawn(move || decapsulate(outer, domain, &local));
    }
    println!("decapsulating");
    // The owner holds the other end and never writes: the end of input means that it is gone.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn raw(domain: Domain, protocol: i32) -> Result<Socket> {
    let socket =
        Socket::new(domain, Type::RAW, Some(Protocol::from(protocol))).with_context(|| {
            format!("cannot open a raw socket for protocol {protocol} (run as root)")
        })?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

fn decapsulate(mut outer: Socket, domain: Domain, local: &Local) {
    let mut packet = vec![0; 65_536];
    loop {
        let Ok(length) = outer.read(&mut packet) else {
            continue;
        };
        // A raw socket delivers IPv4 with its header and IPv6 without.
        let header = if domain == Domain::IPV4 {
            usize::from(packet[0] & 0x0f) * 4
        } else {
            0
        };
        if let Some(inner) = packet.get(header..length) {
            local.deliver(inner);
        }
    }
}

/// Sockets that give whole packets to this host's own stack.
struct Local {
    v4: Socket,
    v6: Socket,
}

impl Local {
    /// Packets that are not IP, and what the kernel refuses, are lost as on any wire.
    fn deliver(&self, inner: &[u8]) {
        match inner.first().map(|byte| byte >> 4) {
            Some(4) => {
                if let Some(destination) = octets::<4>(inner, 16) {
                    let to = SocketAddrV4::new(Ipv4Addr::from(destination), 0);
                    let _ = self.v4.send_to(inner, &SockAddr::from(SocketAddr::V4(to)));
                }
            }
            Some(6) => {
                if let Some(destination) = octets::<16>(inner, 24) {
                    let to = SocketAddrV6::new(Ipv6Addr::from(destination), 0, 0, 0);
                    let _ = self.v6.send_to(inner, &SockAddr::from(SocketAddr::V6(to)));
                }
            }
            _ => {}
        }
    }
}

fn octets<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}
