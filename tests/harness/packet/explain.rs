//! Explains a frame: every layer, every field, and whether the checksums are right.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use crate::mac::Mac;

/// Layers read before giving up: tunnels in tunnels, extension headers without end.
const LAYERS_MAX: usize = 32;
/// Bytes of payload that are printed.
const PAYLOAD_SHOWN_MAX: usize = 64;

/// One layer of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is: `Ethernet`, `VLAN`, `IPv4`, `TCP`, `payload`, ….
    pub name: &'static str,
    /// Its fields, in their order on the wire.
    pub fields: Vec<(&'static str, String)>,
}

/// A frame in words.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Explanation {
    /// Its layers, outermost first.
    pub layers: Vec<Layer>,
}

impl Explanation {
    /// A field of the first layer of that name: `field("TCP", "flags")`.
    pub fn field(&self, layer: &str, field: &str) -> Option<&str> {
        self.fields(layer, field).into_iter().next()
    }

    /// A field of all layers of that name, outermost first: in a tunnel there are two IP layers.
    pub fn fields(&self, layer: &str, field: &str) -> Vec<&str> {
        let layers = self.layers.iter().filter(|it| it.name == layer);
        let fields = layers.flat_map(|layer| &layer.fields);
        fields
            .filter(|(name, _)| *name == field)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn push(&mut self, name: &'static str, fields: Vec<(&'static str, String)>) {
        self.layers.push(Layer { name, fields });
    }

    fn cut_off(&mut self, name: &'static str, bytes: &[u8]) {
        self.push(
            "cut off",
            vec![("in", name.to_owned()), ("bytes", hex(bytes))],
        );
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            write!(f, "  {:<9}", layer.name)?;
            for (name, value) in &layer.fields {
                write!(f, " {name} {value};")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Explains an Ethernet frame, whole or cut off anywhere.
pub fn explain(frame: &[u8]) -> Explanation {
    let mut it = Explanation::default();
    let Some((header, mut rest)) = frame.split_at_checked(14) else {
        it.cut_off("Ethernet", frame);
        return it;
    };
    let mut ether_type = word(header, 12);
    it.push(
        "Ethernet",
        vec![
            ("destination", mac(&header[..6])),
            ("source", mac(&header[6..12])),
            ("type", format!("{ether_type:#06x}")),
        ],
    );
    while matches!(ether_type, 0x8100 | 0x88a8) && it.layers.len() < LAYERS_MAX {
        let Some((tag, behind)) = rest.split_at_checked(4) else {
            it.cut_off("VLAN", rest);
            return it;
        };
        ether_type = word(tag, 2);
        it.push(
            "VLAN",
            vec![
                ("id", (word(tag, 0) & 0x0fff).to_string()),
                ("priority", (word(tag, 0) >> 12).to_string()),
                ("type", format!("{ether_type:#06x}")),
            ],
        );
        rest = behind;
    }
    match ether_type {
        0x0800 => ipv4(&mut it, rest),
        0x86dd => ipv6(&mut it, rest),
        _ => payload(&mut it, rest),
    }
    it
}

/// What the transport layer must know of the layer around it.
struct Around {
    source: IpAddr,
    destination: IpAddr,
    /// All bytes that the IP header promises are there, and it is no fragment.
    is_whole: bool,
    /// Nothing but a payload can be read in a fragment behind the first.
    is_later_fragment: bool,
}

fn ipv4(it: &mut Explanation, bytes: &[u8]) {
    let header_length = bytes
        .first()
        .map_or(20, |byte| usize::from(byte & 0x0f) * 4)
        .max(20);
    let Some((header, rest)) = bytes.split_at_checked(header_length) else {
        return it.cut_off("IPv4", bytes);
    };
    let source = Ipv4Addr::from(*header[12..].first_chunk::<4>().expect("20 bytes or more"));
    let destination = Ipv4Addr::from(*header[16..].first_chunk::<4>().expect("20 bytes or more"));
    let (length, fragment) = (usize::from(word(header, 2)), word(header, 6));
    it.push(
        "IPv4",
        vec![
            ("version", (header[0] >> 4).to_string()),
            (
                "header length",
                (usize::from(header[0] & 0x0f) * 4).to_string(),
            ),
            ("class", format!("{:#04x}", header[1])),
            ("length", length.to_string()),
            ("id", word(header, 4).to_string()),
            ("don't fragment", (fragment & 0x4000 != 0).to_string()),
            ("more fragments", (fragment & 0x2000 != 0).to_string()),
            ("offset", (u32::from(fragment & 0x1fff) * 8).to_string()),
            ("hop limit", header[8].to_string()),
            ("protocol", header[9].to_string()),
            (
                "checksum",
                judged(word(header, 10), Some(checksum::internet(header) == 0)),
            ),
            ("source", source.to_string()),
            ("destination", destination.to_string()),
            ("options", hex(&header[20..])),
        ],
    );
    let around = Around {
        source: source.into(),
        destination: destination.into(),
        is_whole: bytes.len() >= length && fragment & 0x3fff == 0,
        is_later_fragment: fragment & 0x1fff != 0,
    };
    within(
        it,
        header[9],
        rest,
        length.saturating_sub(header_length),
        &around,
    );
}

fn ipv6(it: &mut Explanation, bytes: &[u8]) {
    let Some((header, mut rest)) = bytes.split_at_checked(40) else {
        return it.cut_off("IPv6", bytes);
    };
    let source = Ipv6Addr::from(*header[8..].first_chunk::<16>().expect("40 bytes"));
    let destination = Ipv6Addr::from(*header[24..].first_chunk::<16>().expect("40 bytes"));
    let first = u32::from(word(header, 0)) << 16 | u32::from(word(header, 2));
    let mut length = usize::from(word(header, 4));
    it.push(
        "IPv6",
        vec![
            ("version", (first >> 28).to_string()),
            ("class", format!("{:#04x}", first >> 20 & 0xff)),
            ("flow label", format!("{:#07x}", first & 0x000f_ffff)),
            ("length", length.to_string()),
            ("protocol", header[6].to_string()),
            ("hop limit", header[7].to_string()),
            ("source", source.to_string()),
            ("destination", destination.to_string()),
        ],
    );
    let mut around = Around {
        source: source.into(),
        destination: destination.into(),
        is_whole: rest.len() >= length,
        is_later_fragment: false,
    };
    let mut protocol = header[6];
    while matches!(protocol, 0 | 43 | 44 | 51 | 60)
        && !around.is_later_fragment
        && it.layers.len() < LAYERS_MAX
    {
        let size = match (protocol, rest.get(1)) {
            (44, _) => 8,
            (51, Some(units)) => (usize::from(*units) + 2) * 4,
            (_, Some(units)) => (usize::from(*units) + 1) * 8,
            (_, None) => 8,
        };
        let Some((extension, behind)) = rest.split_at_checked(size) else {
            return it.cut_off("extension", rest);
        };
        if protocol == 44 {
            let position = word(extension, 2);
            around.is_later_fragment = position & 0xfff8 != 0;
            around.is_whole &= position & 0xfff9 == 0;
        }
        it.push(
            "extension",
            vec![
                ("kind", protocol.to_string()),
                ("protocol", extension[0].to_string()),
                ("body", hex(&extension[2..])),
            ],
        );
        protocol = extension[0];
        length = length.saturating_sub(size);
        rest = behind;
    }
    within(it, protocol, rest, length, &around);
}

/// What an IP header contains: `length` bytes; what follows them is padding of the frame.
fn within(it: &mut Explanation, protocol: u8, rest: &[u8], length: usize, around: &Around) {
    let (inside, padding) = rest.split_at(length.min(rest.len()));
    match protocol {
        _ if around.is_later_fragment || it.layers.len() >= LAYERS_MAX => payload(it, inside),
        4 => ipv4(it, inside),
        41 => ipv6(it, inside),
        6 => tcp(it, inside, around),
        17 => udp(it, inside, around),
        1 => icmp(it, inside, around),
        58 => icmp(it, inside, around),
        _ => payload(it, inside),
    }
    if !padding.is_empty() {
        it.push("padding", vec![("bytes", hex(padding))]);
    }
}

fn tcp(it: &mut Explanation, bytes: &[u8], around: &Around) {
    let header_length = bytes
        .get(12)
        .map_or(20, |byte| usize::from(byte >> 4) * 4)
        .max(20);
    let Some((header, rest)) = bytes.split_at_checked(header_length) else {
        return it.cut_off("TCP", bytes);
    };
    it.push(
        "TCP",
        vec![
            ("source", word(header, 0).to_string()),
            ("destination", word(header, 2).to_string()),
            ("sequence", long(header, 4).to_string()),
            ("acknowledgement", long(header, 8).to_string()),
            (
                "header length",
                (usize::from(header[12] >> 4) * 4).to_string(),
            ),
            ("flags", flags(header[13])),
            ("window", word(header, 14).to_string()),
            (
                "checksum",
                judged(word(header, 16), around.finds_right(6, bytes)),
            ),
            ("urgent", word(header, 18).to_string()),
            ("options", hex(&header[20..])),
        ],
    );
    payload(it, rest);
}

fn udp(it: &mut Explanation, bytes: &[u8], around: &Around) {
    let Some((header, rest)) = bytes.split_at_checked(8) else {
        return it.cut_off("UDP", bytes);
    };
    let sum = word(header, 6);
    let is_right = if sum == 0 {
        None
    } else {
        around.finds_right(17, bytes)
    };
    it.push(
        "UDP",
        vec![
            ("source", word(header, 0).to_string()),
            ("destination", word(header, 2).to_string()),
            ("length", word(header, 4).to_string()),
            ("checksum", judged(sum, is_right)),
        ],
    );
    payload(it, rest);
}

fn icmp(it: &mut Explanation, bytes: &[u8], around: &Around) {
    let is_v4 = around.destination.is_ipv4();
    let (name, protocol) = if is_v4 { ("ICMP", 1) } else { ("ICMPv6", 58) };
    let Some((header, rest)) = bytes.split_at_checked(8) else {
        return it.cut_off(name, bytes);
    };
    it.push(
        name,
        vec![
            ("type", header[0].to_string()),
            ("code", header[1].to_string()),
            (
                "checksum",
                judged(word(header, 2), around.finds_right(protocol, bytes)),
            ),
            ("rest", hex(&header[4..])),
        ],
    );
    // Errors quote the packet that they are about.
    match (is_v4, header[0]) {
        (true, 3 | 4 | 5 | 11 | 12) => ipv4(it, rest),
        (false, 1..=4) => ipv6(it, rest),
        _ => payload(it, rest),
    }
}

fn payload(it: &mut Explanation, bytes: &[u8]) {
    if !bytes.is_empty() {
        it.push("payload", vec![("bytes", hex(bytes))]);
    }
}

impl Around {
    /// Whether a segment's checksum is right; `None` if part of it is missing.
    fn finds_right(&self, protocol: u8, segment: &[u8]) -> Option<bool> {
        let sum = match protocol {
            1 => checksum::internet(segment),
            _ => checksum::transport(self.source, self.destination, protocol, segment),
        };
        self.is_whole.then_some(sum == 0)
    }
}

fn judged(sum: u16, is_right: Option<bool>) -> String {
    let judgement = match is_right {
        Some(true) => "right",
        Some(false) => "wrong",
        None if sum == 0 => "absent",
        None => "not checked",
    };
    format!("{sum:#06x} ({judgement})")
}

fn flags(byte: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = names
        .iter()
        .enumerate()
        .filter(|(bit, _)| byte >> bit & 1 == 1);
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set.join("+")
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

fn mac(bytes: &[u8]) -> String {
    bytes
        .first_chunk()
        .map_or_else(|| hex(bytes), |bytes| Mac(*bytes).to_string())
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = bytes
        .iter()
        .take(PAYLOAD_SHOWN_MAX)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if bytes.len() > PAYLOAD_SHOWN_MAX {
        " …"
    } else {
        ""
    };
    format!("[{}] {}{more}", bytes.len(), shown.join(" "))
}
