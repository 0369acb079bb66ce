//! `lb route`: where a flow goes, and why.

use std::fmt::Write;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::Args;

use super::output::{Usage, print, print_json};
use super::socket::ClientOptions;
use super::status::state_style;
use super::table::{Cell, Side, Table};
use crate::control::{Answer, Request, Route};

#[derive(Debug, Args)]
pub(super) struct RouteOptions {
    /// The service: 198.51.100.10:443/tcp, [2001:db8::10]:53/udp
    #[arg(long, value_name = "IP:PORT/PROTO")]
    vip: Vip,
    /// The client: 203.0.113.7:40000
    #[arg(long, value_name = "IP:PORT", value_parser = parse_address)]
    from: SocketAddr,
    #[command(flatten)]
    client: ClientOptions,
}

/// Where packets are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vip {
    address: SocketAddr,
    protocol: String,
}

impl FromStr for Vip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "write IP:PORT/tcp or IP:PORT/udp, IPv6 as [IP]:PORT/tcp".to_owned();
        let (address, protocol) = text.rsplit_once('/').ok_or_else(wanted)?;
        match (address.parse(), protocol) {
            (Ok(address), "tcp" | "udp") => Ok(Self {
                address,
                protocol: protocol.to_owned(),
            }),
            _ => Err(wanted()),
        }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write IP:PORT, IPv6 as [IP]:PORT".to_owned())
}

pub(super) fn run(options: &RouteOptions) -> anyhow::Result<()> {
    if options.vip.address.is_ipv4() != options.from.is_ipv4() {
        let text = "--vip and --from are of different IP versions; give two of the same";
        return Err(Usage(text.to_owned()).into());
    }
    let request = Request::Route {
        vip: options.vip.address,
        protocol: options.vip.protocol.clone(),
        from: options.from,
    };
    let route = options.client.ask(&request, |answer| match answer {
        Answer::Route(route) => Ok(*route),
        other => Err(Box::new(other)),
    })?;
    if options.client.json {
        return print_json(&route);
    }
    print(&render(&route))
}

/// The answer, why, and the slot's ladder with the chosen rung marked.
fn render(route: &Route) -> String {
    let Route {
        service,
        pool,
        slot,
        why,
        ..
    } = route;
    let to = match (&route.backend, route.rung) {
        (Some(backend), Some(rung)) => format!("{backend} (rung {rung})"),
        (Some(backend), None) => backend.clone(),
        (None, _) => "no backend".to_owned(),
    };
    let mut text = format!("{to}: {why}\nservice {service}, pool {pool}, slot {slot}\n");
    if route.slots_passed > 0 {
        let _ = writeln!(
            text,
            "no rung of this slot takes flows: found {} slots further on",
            route.slots_passed
        );
    }
    text += &terms(route);
    text += "\n";
    text += &ladder(route);
    text
}

/// Whose flows the slot's are, where that is more than one backend, and the record of this one.
fn terms(route: &Route) -> String {
    if route.stable {
        return "stable: no flow of this slot is looked up\n".to_owned();
    }
    let name = |id: &Option<String>| id.clone().unwrap_or_else(|| "nobody".to_owned());
    let mut text = format!("e_new {}, e_old {}", name(&route.e_new), name(&route.e_old));
    if let Some(previous) = &route.previous {
        let _ = write!(text, ", prev {previous}");
    }
    if route.lost {
        text += ", lost";
    }
    text += "\n";
    match &route.record {
        None => text += "no record of this flow\n",
        Some(record) => {
            let _ = write!(
                text,
                "recorded in {} at {}, last packet {:.1} s ago",
                record.map, record.backend, record.age_seconds
            );
            for (is_so, word) in [
                (!record.live, "its backend is gone"),
                (record.superseded, "superseded"),
                (record.closing, "closing"),
            ] {
                if is_so {
                    let _ = write!(text, ", {word}");
                }
            }
            text += "\n";
        }
    }
    text
}

fn ladder(route: &Route) -> String {
    let mut table = Table::new([
        ("", Side::Left),
        ("RUNG", Side::Right),
        ("BACKEND", Side::Left),
        ("ROLE", Side::Left),
        ("STATE", Side::Left),
    ]);
    for (index, rung) in (0u32..).zip(&route.ladder) {
        let is_chosen = route.slots_passed == 0
            && route.rung == Some(index)
            && route.backend.as_ref() == Some(&rung.backend);
        table.row([
            if is_chosen { "->" } else { "" }.into(),
            index.to_string().into(),
            rung.backend.as_str().into(),
            rung.role.as_str().into(),
            Cell::styled(rung.state.as_str(), state_style(&rung.state)),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{RecordStatus, Rung};

    fn plain(route: &Route) -> String {
        anstream::adapter::strip_str(&render(route)).to_string()
    }

    fn route() -> Route {
        let rung = |backend: &str, role: &str, state: &str| Rung {
            backend: backend.into(),
            role: role.into(),
            state: state.into(),
        };
        Route {
            service: "orders".into(),
            pool: "logic".into(),
            slot: 12_345,
            backend: Some("logic-2".into()),
            rung: Some(1),
            slots_passed: 0,
            stable: false,
            e_new: Some("logic-2".into()),
            e_old: Some("logic-s1".into()),
            previous: Some("logic-s1".into()),
            lost: false,
            record: None,
            why: "rung 0 (logic-1) is down".into(),
            ladder: vec![
                rung("logic-1", "primary", "down"),
                rung("logic-2", "primary", "up"),
                rung("logic-s1", "standby", "draining"),
            ],
        }
    }

    #[test]
    fn the_chosen_rung_is_marked() {
        assert_eq!(
            plain(&route()),
            "logic-2 (rung 1): rung 0 (logic-1) is down\n\
             service orders, pool logic, slot 12345\n\
             e_new logic-2, e_old logic-s1, prev logic-s1\n\
             no record of this flow\n\
             \n\
             \x20   RUNG  BACKEND   ROLE     STATE\n\
             \x20      0  logic-1   primary  down\n\
             ->     1  logic-2   primary  up\n\
             \x20      2  logic-s1  standby  draining\n"
        );
    }

    #[test]
    fn a_backend_of_a_later_slot_is_not_marked_on_this_ladder() {
        let mut route = route();
        route.slots_passed = 3;
        let text = plain(&route);
        assert!(text.contains("found 3 slots further on"), "{text}");
        assert!(!text.contains("->"), "{text}");
    }

    #[test]
    fn a_record_is_described() {
        let mut route = route();
        (route.previous, route.lost) = (None, true);
        route.record = Some(RecordStatus {
            map: "FLOWS_NEW".into(),
            backend: "logic-1".into(),
            live: false,
            superseded: false,
            closing: true,
            age_seconds: 12.34,
        });
        let text = plain(&route);
        let expected = "e_new logic-2, e_old logic-s1, lost\nrecorded in FLOWS_NEW at logic-1, last \
                        packet 12.3 s ago, its backend is gone, closing\n";
        assert!(text.contains(expected), "{text}");
        route.stable = true;
        assert!(plain(&route).contains("stable: no flow of this slot is looked up\n"));
    }

    #[test]
    fn nothing_left_is_said_so() {
        let mut route = route();
        (route.backend, route.rung) = (None, None);
        route.why = "every backend is down; on_empty = reset".into();
        assert!(plain(&route).starts_with("no backend: every backend is down"));
    }

    #[test]
    fn vips_are_an_address_a_port_and_a_protocol() {
        for (text, is_good) in [
            ("198.51.100.10:443/tcp", true),
            ("[2001:db8::10]:53/udp", true),
            ("198.51.100.10:443", false),
            ("198.51.100.10/tcp", false),
            ("2001:db8::10:53/udp", false),
            ("198.51.100.10:443/sctp", false),
        ] {
            assert_eq!(text.parse::<Vip>().is_ok(), is_good, "{text}");
        }
    }
}
