//! `[agent]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use lb_common::maps::FLOWS_DEFAULT;

use super::range;
use crate::config::{
    Agent, INTERFACES_MAX, XdpMode, error::Diagnostics, field::Field, file, keys::Section,
    suggest::shown,
};

/// The longest name that Linux gives an interface (`IFNAMSIZ`, with its zero byte).
const INTERFACE_BYTES_MAX: usize = 15;
/// The longest path of a Unix socket (`sun_path`, with its zero byte).
const SOCKET_BYTES_MAX: usize = 107;

pub(super) fn agent(file: &file::Agent, out: &mut Diagnostics<'_>) -> Option<Agent> {
    let interfaces = interfaces(&file.interfaces, out);
    let agent = Agent {
        interfaces: Vec::new(),
        xdp_mode: file.xdp_mode.or(XdpMode::Auto),
        manage_vips: file.manage_vips.or(true),
        pin: range::directory(&file.pin, "/sys/fs/bpf/lb", out),
        state: range::directory(&file.state, "/var/lib/lb", out),
        control: range::path(&file.control, "/run/lb/agent.sock", SOCKET_BYTES_MAX, out),
        metrics: file.metrics.written().copied(),
        tunnel_source_v4: tunnel_source_v4(&file.tunnel_source_v4, out),
        tunnel_source_v6: tunnel_source_v6(&file.tunnel_source_v6, out),
        probes_per_second: range::number(&file.probes_per_second, 10_000, 1..=1_000_000, out),
        flows_max: range::number(&file.flows_max, FLOWS_DEFAULT, 1024..=1 << 24, out),
    };
    Some(Agent {
        interfaces: interfaces?,
        ..agent
    })
}

fn interfaces(field: &Field<Vec<Field<String>>>, out: &mut Diagnostics<'_>) -> Option<Vec<String>> {
    let elements = field.required(Section::Agent, out)?;
    if elements.is_empty() {
        field.refuse(out, "is empty", "name at least one interface: [\"eth0\"]");
    }
    if elements.len() > INTERFACES_MAX {
        let wrong = format!("has {} interfaces", elements.len());
        field.refuse(out, wrong, format!("at most {INTERFACES_MAX} fit"));
    }
    let mut names: Vec<String> = Vec::new();
    for element in elements {
        let Some(name) = element.written() else {
            continue;
        };
        if !is_interface_name(name) {
            let right = format!(
                "write 1 to {INTERFACE_BYTES_MAX} bytes without space, '/' or ':', as `ip link` shows it"
            );
            element.refuse(
                out,
                format!("{} is not an interface name", shown(name)),
                right,
            );
        } else if names.contains(name) {
            element.refuse(
                out,
                format!("{} stands here twice", shown(name)),
                "name it once",
            );
        } else {
            names.push(name.clone());
        }
    }
    Some(names)
}

/// As the kernel's `dev_valid_name` decides, and printable.
fn is_interface_name(name: &str) -> bool {
    (1..=INTERFACE_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'))
}

fn tunnel_source_v4(field: &Field<String>, out: &mut Diagnostics<'_>) -> Ipv4Net {
    let default = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 16);
    match tunnel_source(field, IpNet::V4(default), 8..=24, out) {
        Some(IpNet::V4(network)) => network,
        _ => default,
    }
}

fn tunnel_source_v6(field: &Field<String>, out: &mut Diagnostics<'_>) -> Ipv6Net {
    let default = Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64);
    match tunnel_source(field, IpNet::V6(default), 32..=96, out) {
        Some(IpNet::V6(network)) => network,
        _ => default,
    }
}

/// A network of the default's family, large enough to vary the source and no larger than needed.
fn tunnel_source(
    field: &Field<String>,
    default: IpNet,
    prefix: std::ops::RangeInclusive<u8>,
    out: &mut Diagnostics<'_>,
) -> Option<IpNet> {
    let text = field.written()?;
    let is_v4 = default.addr().is_ipv4();
    let family = if is_v4 { "IPv4" } else { "IPv6" };
    let network = match text.parse::<IpNet>() {
        Ok(network) if network.addr().is_ipv4() == is_v4 => network,
        _ => {
            let wrong = format!("{} is not an {family} network", shown(text));
            field.refuse(
                out,
                wrong,
                format!("write address/prefix length, such as \"{default}\""),
            );
            return None;
        }
    };
    let is_unicast = match network.network() {
        IpAddr::V4(first) => {
            first.octets()[0] != 0 && !first.is_loopback() && first.octets()[0] < 224
        }
        IpAddr::V6(first) => !first.is_unspecified() && !first.is_multicast(),
    };
    if !prefix.contains(&network.prefix_len()) {
        let wrong = format!("has the prefix length /{}", network.prefix_len());
        field.refuse(
            out,
            wrong,
            format!("write /{} to /{}", prefix.start(), prefix.end()),
        );
    } else if network.addr() != network.network() {
        let wrong = format!("{} has bits set behind its prefix", shown(text));
        field.refuse(out, wrong, format!("write \"{}\"", network.trunc()));
    } else if !is_unicast {
        let wrong = format!(
            "{} holds no addresses that a packet may come from",
            shown(text)
        );
        field.refuse(
            out,
            wrong,
            format!("write a unicast network, such as \"{default}\""),
        );
    }
    Some(network)
}
