//! From a frame to what the gateway needs to know of it.
//!
//! Everything is generic over a [`Cursor`], so that the code which the kernel runs is the code
//! that host tests run. It never writes. Whatever it does not understand, it does not claim:
//! `None` means "not ours, or too odd to be ours", and such a frame is passed on untouched.
//!
//! There are two readers. [`plain`] knows the packets that come by the million: TCP or UDP behind
//! an IP header of the usual length, no VLAN tag. Each field lies at an offset that the compiler
//! knows. [`odd`] knows all of them, and is asked for what the first does not know.

mod error;
mod extension;
pub mod mss;
pub mod odd;
pub mod plain;

use network_types::eth::EthHdr;
use network_types::ip::Ipv6Hdr;

use crate::address::Address;

/// Read access to a frame, checked against its end.
///
/// The verifier does not follow slices built from a pointer and a length; it follows a fixed
/// number of bytes at an offset, compared with the end just before.
pub trait Cursor {
    /// The `N` bytes at `offset` from the start of the frame; `None` if it ends before.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// How many bytes of the frame [`Cursor::bytes`] can give, Ethernet header included.
    fn len(&self) -> usize;

    /// Length of the whole frame in bytes. More than [`Cursor::len`] for a large frame that the
    /// driver left in several pieces, of which the program sees the first.
    #[inline(always)]
    fn whole_len(&self) -> usize {
        self.len()
    }

    /// `number`, as if it had come out of nowhere. The verifier follows every path on which it knows
    /// something else of a number; where paths multiply, this makes them one again ("BPF program is
    /// too large").
    #[inline(always)]
    fn forgotten(&self, number: usize) -> usize {
        number
    }

    /// Whether the frame has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Cursor for [u8] {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..)?.first_chunk()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// EtherType of IPv4, in network order.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of IPv6, in network order.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const ICMP: u8 = crate::service::ICMP;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = crate::service::ICMPV6;

/// Offset of the IP header in a frame without VLAN tags: right behind the Ethernet header.
pub const NETWORK_OFFSET: usize = EthHdr::LEN;
/// The same behind the most VLAN tags that are read.
pub const NETWORK_OFFSET_MAX: usize = NETWORK_OFFSET + 2 * TAG_LEN;
/// Length of a VLAN tag.
pub const TAG_LEN: usize = 4;
/// Behind the most VLAN tags and extension headers that are read; IPv4 options are fewer bytes.
pub const TRANSPORT_OFFSET_MAX: usize = NETWORK_OFFSET_MAX
    + Ipv6Hdr::LEN
    + extension::EXTENSION_HEADERS_MAX * extension::EXTENSION_HEADER_LEN_MAX;

/// "More fragments" and the fragment offset of an IPv4 header (RFC 791 §3.1).
const IPV4_FRAGMENT_MASK: u16 = 0x3fff;
const IPV4_FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

const TCP_HEADER_LEN: usize = 20;
const TCP_FLAGS: usize = 13;
const UDP_HEADER_LEN: usize = 8;

const TCP_FLAG_FIN: u8 = 0x01;
const TCP_FLAG_SYN: u8 = 0x02;
const TCP_FLAG_RST: u8 = 0x04;
const TCP_FLAG_ACK: u8 = 0x10;

/// Internet protocol version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a packet carries, as far as the gateway tells packets apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, with the flags byte of its header.
    Tcp(TcpFlags),
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    EchoRequest,
    /// An ICMP or ICMPv6 error about a packet that the VIP sent by TCP or UDP. Addresses, ports and
    /// protocol of the [`Packet`] are those of the flow, as its client's packets have them: the
    /// quoted ones turned round.
    Error,
    /// A fragment that is not the first: it has no ports.
    LaterFragment,
}

/// The flags byte of a TCP header (RFC 9293 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Whether the packet asks for a new connection: SYN and not ACK.
    #[inline(always)]
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (TCP_FLAG_SYN | TCP_FLAG_ACK) == TCP_FLAG_SYN
    }

    /// Whether it says that its sender is done: FIN or RST.
    #[inline(always)]
    #[must_use]
    pub const fn closes(self) -> bool {
        self.0 & (TCP_FLAG_FIN | TCP_FLAG_RST) != 0
    }

    /// Whether it is a reset.
    #[inline(always)]
    #[must_use]
    pub const fn resets(self) -> bool {
        self.0 & TCP_FLAG_RST != 0
    }

    /// Whether the acknowledgement number counts.
    #[inline(always)]
    #[must_use]
    pub const fn acknowledges(self) -> bool {
        self.0 & TCP_FLAG_ACK != 0
    }

    /// Sequence numbers that SYN and FIN take up.
    #[inline(always)]
    #[must_use]
    pub const fn sequence_length(self) -> u32 {
        (self.0 & TCP_FLAG_SYN != 0) as u32 + (self.0 & TCP_FLAG_FIN != 0) as u32
    }
}

/// What the gateway knows of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// IPv4 or IPv6.
    pub family: Family,
    /// IP source; of an error the destination of the packet that it quotes.
    pub source: Address,
    /// IP destination: the VIP, if the packet is ours.
    pub destination: Address,
    /// IP protocol number; in IPv6 the one behind all extension headers, of an error the one of the
    /// packet that it quotes.
    pub protocol: u8,
    /// Type of service of IPv4, traffic class of IPv6.
    pub traffic_class: u8,
    /// What it carries.
    pub transport: Transport,
    /// Whether it is one fragment of a larger packet, first or later. An IPv6 packet whose fragment
    /// header says that it is the only one is none (RFC 6946).
    pub is_fragment: bool,
    /// Source and destination port as on the wire; zeros where there are none.
    pub ports: [u8; 4],
    /// Sequence number of a TCP segment; 0 where there is none.
    pub sequence: u32,
    /// Offset of the IP header from the start of the frame: [`NETWORK_OFFSET`], and what VLAN tags
    /// add to it.
    pub network_offset: usize,
    /// Offset of the transport header from the start of the frame.
    pub transport_offset: usize,
    /// Length of the IP packet in bytes, header included, by its own account. The frame may be
    /// longer (Ethernet pads to 60 bytes), never shorter.
    pub length: u32,
}

impl Packet {
    /// The destination port as on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn destination_port(&self) -> [u8; 2] {
        [self.ports[2], self.ports[3]]
    }

    /// [`Packet::network_offset`], with its bound said again: the program's verifier does not know
    /// what it was in a packet that lay in a map.
    #[inline(always)]
    #[must_use]
    pub const fn network_at(&self) -> usize {
        bounded(self.network_offset, NETWORK_OFFSET_MAX)
    }

    /// [`Packet::transport_offset`], likewise.
    #[inline(always)]
    #[must_use]
    pub const fn transport_at(&self) -> usize {
        bounded(self.transport_offset, TRANSPORT_OFFSET_MAX)
    }

    /// Whether it asks for a new TCP connection.
    #[inline(always)]
    #[must_use]
    pub const fn opens_flow(&self) -> bool {
        matches!(self.transport, Transport::Tcp(flags) if flags.opens())
    }

    /// Whether it is TCP and has FIN or RST.
    #[inline(always)]
    #[must_use]
    pub const fn closes(&self) -> bool {
        matches!(self.transport, Transport::Tcp(flags) if flags.closes())
    }
}

/// The least that every IPv4 link carries (RFC 791 §3.2), and every IPv6 link (RFC 8200 §5).
const IPV4_MTU_MIN: u32 = 68;
const IPV6_MTU_MIN: u32 = 1280;

impl Packet {
    /// Whether an ICMP error may be sent about it: not about an error, not about a fragment but the
    /// first, not to a source that is no single host (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
    #[inline(always)]
    #[must_use]
    pub const fn is_answerable(&self) -> bool {
        let is_one_host = match self.family {
            Family::V4 => !matches!(self.source.v4_octets()[0], 0 | 127 | 224..),
            Family::V6 => {
                let [a, b, c, d] = self.source.words;
                let is_loopback_or_none = a == 0 && b == 0 && c == 0 && u32::from_be(d) <= 1;
                a.to_ne_bytes()[0] != 0xff && !is_loopback_or_none
            }
        };
        is_one_host && !matches!(self.transport, Transport::Error | Transport::LaterFragment)
    }

    /// What to tell its sender of a packet that is longer than the `room` bytes there are for it;
    /// `None` if nothing that could be told would help.
    ///
    /// No IPv6 sender goes below 1,280 bytes (RFC 8200 §5), so that is the least that it is told,
    /// and only about packets that are longer.
    #[inline(always)]
    #[must_use]
    pub const fn mtu_told(&self, room: u32) -> Option<u32> {
        if !self.is_answerable() {
            return None;
        }
        match self.family {
            Family::V4 if room < IPV4_MTU_MIN => None,
            Family::V4 => Some(room),
            Family::V6 if self.length <= IPV6_MTU_MIN => None,
            Family::V6 if room < IPV6_MTU_MIN => Some(IPV6_MTU_MIN),
            Family::V6 => Some(room),
        }
    }
}

/// What the Ethernet header says that a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// A VLAN tag, and behind it something else.
    Tagged,
    /// Nothing that is ever ours, or there is no whole Ethernet header.
    Other,
}

/// Reads a frame. `None`: not IP, not for a transport that we serve, cut short, or inconsistent.
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(frame: &C) -> Option<Packet> {
    let packet = match carried(frame) {
        Carried::Ipv4 => plain::ipv4(frame),
        Carried::Ipv6 => plain::ipv6(frame),
        Carried::Tagged => None,
        Carried::Other => return None,
    };
    packet.or_else(|| odd::parse(frame))
}

/// What a frame carries, by its Ethernet header.
#[inline(always)]
pub fn carried<C: Cursor + ?Sized>(frame: &C) -> Carried {
    match frame.bytes::<{ EthHdr::LEN }>(0) {
        Some(ethernet) => carried_by([ethernet[12], ethernet[13]]),
        None => Carried::Other,
    }
}

#[inline(always)]
const fn carried_by(ethertype: [u8; 2]) -> Carried {
    match ethertype {
        ETHERTYPE_IPV4 => Carried::Ipv4,
        ETHERTYPE_IPV6 => Carried::Ipv6,
        // IEEE 802.1Q and 802.1ad.
        [0x81, 0x00] | [0x88, 0xa8] => Carried::Tagged,
        _ => Carried::Other,
    }
}

#[inline(always)]
const fn bounded(offset: usize, most: usize) -> usize {
    if offset < most { offset } else { most }
}

#[inline(always)]
fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
