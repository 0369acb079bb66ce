//! The packets that are timed.

use lb_tests::packet::{self, ACK, Frame, PSH, SYN};

/// What is timed while every slot is stable, in the order of the report.
pub const STABLE: [&str; 5] = ["tcp4-data", "tcp4-syn", "udp4", "tcp6-data", "not-ours"];
/// What is timed while every slot's owner changes, with records of [`RECORDED`] flows: packets of
/// these flows; SYNs of flows without a record; SYNs of so many flows that their records push each
/// other out.
pub const UNSTABLE: [&str; 3] = ["tcp4-recorded", "tcp4-new", "syn-flood"];
/// Flows that are recorded while every slot is unstable.
pub const RECORDED: u32 = 100_000;

/// The first of the VIPs; the others differ in the lowest bits.
pub const VIP_V4: &str = "198.51.100.16";
/// The same for IPv6.
pub const VIP_V6: &str = "2001:db8:100::10";
/// The TCP port of all services.
pub const TCP_PORT: u16 = 443;
/// The UDP port of all services.
pub const UDP_PORT: u16 = 53;

const NOT_A_VIP: &str = "203.0.113.16";
const CLIENT_V4: &str = "10.0.0.0:32768";
const CLIENT_V6: &str = "[2001:db8:1::]:32768";

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Data in a packet: with Ethernet, IPv4 and TCP headers a frame of 130 bytes.
const DATA: [u8; 76] = [0; 76];
/// The options that Linux puts into a SYN: MSS, SACK permitted, timestamps, window scale.
const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// A packet of flow 0, and what must become of it.
pub struct Template {
    pub name: &'static str,
    pub frame: Frame,
    pub is_ipv6: bool,
    pub verdict: u32,
}

/// The packet with this name.
pub fn template(name: &'static str) -> Template {
    let tcp4 = |vip: &str| packet::tcp(CLIENT_V4, format!("{vip}:{TCP_PORT}").as_str());
    let packet = match name {
        "tcp4-syn" | "tcp4-new" | "syn-flood" => tcp4(VIP_V4).flags(SYN).tcp_options(&SYN_OPTIONS),
        "udp4" => packet::udp(CLIENT_V4, format!("{VIP_V4}:{UDP_PORT}").as_str()).payload(&DATA),
        "tcp6-data" => packet::tcp(CLIENT_V6, format!("[{VIP_V6}]:{TCP_PORT}").as_str())
            .flags(ACK | PSH)
            .payload(&DATA),
        "not-ours" => tcp4(NOT_A_VIP).flags(ACK | PSH).payload(&DATA),
        _ => tcp4(VIP_V4).flags(ACK | PSH).payload(&DATA),
    };
    Template {
        name,
        frame: packet.build(),
        is_ipv6: name == "tcp6-data",
        verdict: if name == "not-ours" { XDP_PASS } else { XDP_TX },
    }
}
