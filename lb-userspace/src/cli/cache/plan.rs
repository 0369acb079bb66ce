//! `lb cache plan`: consistent hashing chooses which host of layer two carries whose copy, so that a
//! host that joins or leaves moves few of them; what Redis and Sentinel are to be told follows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::super::output::{print, print_json};
use super::super::table::{Side, Table};
use crate::config::{Authority, Cache, Role, Spill};
use crate::maglev::{self, Candidate, CandidateKey};

/// Slots of the table that chooses hosts: enough for fair shares among a few dozen.
const SLOTS: u32 = 65_537;
/// Where Redis listens; a host's second copy gets the next port.
const PORT: u16 = 6379;

/// What `lb cache plan --json` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Plan {
    /// One for each server of layer one.
    copies: Vec<Placed>,
    /// Servers of layer two without a copy.
    spares: Vec<String>,
    /// What to tell each Sentinel.
    sentinel: Vec<String>,
}

/// Where a copy is to be.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Placed {
    /// The server of layer one.
    primary: String,
    /// Where that is.
    address: SocketAddr,
    /// Where its copy is to be; `None`: nowhere.
    copy: Option<SocketAddr>,
    /// `configured`, `planned` or `none`.
    source: &'static str,
    /// What to tell the Redis there.
    command: Option<String>,
}

pub(super) fn run(cache: &Cache, hosts: &[IpAddr], json: bool) -> anyhow::Result<()> {
    let plan = plan(cache, hosts);
    if json {
        return print_json(&plan);
    }
    print(&render(&plan))
}

/// Configured copies stay where they are; the others are placed on `hosts`, or on the hosts of the
/// configured ones.
pub(in crate::cli) fn plan(cache: &Cache, hosts: &[IpAddr]) -> Plan {
    let configured = cache.primaries.iter().filter_map(|primary| primary.copy);
    let mut hosts: Vec<_> = match hosts {
        [] => configured.clone().map(|copy| copy.ip()).collect(),
        hosts => hosts.to_vec(),
    };
    hosts.sort_unstable();
    hosts.dedup();
    let mut taken: Vec<_> = configured.collect();
    taken.extend(cache.spares.iter().map(|spare| spare.address));
    taken.extend(cache.primaries.iter().map(|primary| primary.address));
    let ladders = ladders(&hosts);
    let mut next_port = BTreeMap::new();
    let copies = cache.primaries.iter().map(|primary| {
        let planned = || choose(&primary.name, primary.address.ip(), &hosts, &ladders);
        let (copy, source) = match (primary.copy, planned()) {
            (Some(copy), _) => (Some(copy), "configured"),
            (None, Some(host)) => {
                let port = next_port.entry(host).or_insert(PORT);
                while taken.contains(&SocketAddr::new(host, *port)) {
                    *port += 1;
                }
                taken.push(SocketAddr::new(host, *port));
                (Some(SocketAddr::new(host, *port)), "planned")
            }
            (None, None) => (None, "none"),
        };
        let (ip, port) = (primary.address.ip(), primary.address.port());
        let command = |copy: SocketAddr| {
            let (host, at) = (copy.ip(), copy.port());
            format!("redis-cli -h {host} -p {at} REPLICAOF {ip} {port}")
        };
        Placed {
            primary: primary.name.clone(),
            address: primary.address,
            copy,
            source,
            command: copy.map(command),
        }
    });
    Plan {
        copies: copies.collect(),
        spares: cache
            .spares
            .iter()
            .map(|spare| spare.name.clone())
            .collect(),
        sentinel: sentinel(cache),
    }
}

fn ladders(hosts: &[IpAddr]) -> Vec<maglev::Ladder> {
    let candidate = |(id, host): (u16, &IpAddr)| Candidate {
        id,
        key: CandidateKey::from(*host),
        role: Role::Primary,
        weight: 1,
        zone: None,
    };
    let candidates: Vec<_> = (0..).zip(hosts).map(candidate).collect();
    maglev::build(&candidates, SLOTS, Spill::Both)
}

/// The first host of the primary's ladder that is not the primary's own.
fn choose(name: &str, own: IpAddr, hosts: &[IpAddr], ladders: &[maglev::Ladder]) -> Option<IpAddr> {
    let slot = maglev::slot_of_key(name.as_bytes(), SLOTS);
    let rungs = ladders.get(slot)?.iter().flatten();
    let mut hosts = rungs.filter_map(|&id| hosts.get(usize::from(id)));
    hosts.find(|host| **host != own).copied()
}

fn sentinel(cache: &Cache) -> Vec<String> {
    if cache.authority == Authority::Local {
        return Vec::new();
    }
    let quorum = cache.sentinels.len() / 2 + 1;
    let lines = cache.primaries.iter().flat_map(|primary| {
        let name = format!("{}{}", cache.master_prefix, primary.name);
        let (ip, port) = (primary.address.ip(), primary.address.port());
        [
            format!("sentinel monitor {name} {ip} {port} {quorum}"),
            format!("sentinel down-after-milliseconds {name} 1000"),
            format!("sentinel failover-timeout {name} 10000"),
        ]
    });
    lines.collect()
}

fn render(plan: &Plan) -> String {
    let mut table = Table::new([
        ("PRIMARY", Side::Left),
        ("AT", Side::Left),
        ("COPY", Side::Left),
        ("SOURCE", Side::Left),
        ("COMMAND", Side::Left),
    ]);
    for placed in &plan.copies {
        let copy = placed.copy.map(|copy| copy.to_string());
        table.row([
            placed.primary.as_str().into(),
            placed.address.to_string().into(),
            copy.unwrap_or_else(|| "-".to_owned()).into(),
            placed.source.into(),
            placed.command.clone().unwrap_or_default().into(),
        ]);
    }
    let mut text = table.render();
    if !plan.spares.is_empty() {
        text += &format!("\nspares: {}\n", plan.spares.join(", "));
    }
    if !plan.sentinel.is_empty() {
        text += &format!("\nsentinel.conf:\n  {}\n", plan.sentinel.join("\n  "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn copies_that_are_not_configured_are_placed_on_other_hosts_each_on_a_port_of_its_own() {
        let text = r#"
            [cache]
            authority = "local"
            primaries = [
              { name = "a", address = "10.0.3.11:6379" },
              { name = "b", address = "10.0.3.12:6379", copy = "10.0.3.21:6379" },
              { name = "c", address = "10.0.3.21:6380" },
            ]
        "#;
        let parts = Config::check_text(text, "lb.toml").expect("it is good");
        let cache = parts.cache.expect("there is one");
        let hosts = ["10.0.3.21", "10.0.3.22"].map(|ip| ip.parse().expect("an address"));
        let plan = plan(&cache, &hosts);
        let sources: Vec<_> = plan.copies.iter().map(|copy| copy.source).collect();
        assert_eq!(sources, ["planned", "configured", "planned"]);
        let copies: std::collections::BTreeSet<_> = plan
            .copies
            .iter()
            .filter_map(|placed| placed.copy)
            .collect();
        assert_eq!(copies.len(), 3, "no two on one address: {plan:?}");
        let c = &plan.copies[2];
        assert_eq!(
            c.copy.map(|copy| copy.ip()),
            Some(hosts[1]),
            "not its own host"
        );
    }
}
