//! The difference between two configurations, in words: what `lb reload` prints. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;

use lb_common::pool::PoolId;

use super::plan::Contents;
use crate::config::{Backend, Config, Pool, Service};
use crate::control::Moved;

/// Every difference that matters, one line each.
#[must_use]
pub fn describe(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    compare(
        &old.pools,
        &new.pools,
        |pool| &pool.name,
        |change| match change {
            Change::Added(pool) => {
                lines.push(format!(
                    "pool {} added ({} backends)",
                    pool.name,
                    pool.backends.len()
                ));
            }
            Change::Removed(pool) => lines.push(format!("pool {} removed", pool.name)),
            Change::Kept(old, new) => pool(old, new, &mut lines),
        },
    );
    compare(
        &old.services,
        &new.services,
        |service| &service.name,
        |change| match change {
            Change::Added(service) => lines.push(format!("service {} added", title(service))),
            Change::Removed(service) => lines.push(format!("service {} removed", title(service))),
            Change::Kept(old, new) if old != new => {
                lines.push(format!("service {} becomes {}", title(old), title(new)));
            }
            Change::Kept(..) => {}
        },
    );
    agent(old, new, &mut lines);
    lines
}

/// The settings of a running agent that a reload cannot change, with what to do instead.
///
/// # Errors
/// One line for the first of them.
pub fn reloadable(old: &Config, new: &Config) -> Result<(), String> {
    let fixed = [
        ("pin", old.agent.pin != new.agent.pin),
        ("state", old.agent.state != new.agent.state),
        ("control", old.agent.control != new.agent.control),
        ("metrics", old.agent.metrics != new.agent.metrics),
        (
            "probes_per_second",
            old.agent.probes_per_second != new.agent.probes_per_second,
        ),
        ("flows_max", old.agent.flows_max != new.agent.flows_max),
    ];
    if old.agent.xdp_mode != new.agent.xdp_mode {
        return Err(
            "[agent].xdp_mode counts when the program is attached anew: stop the agent, lb detach \
             (packets stop meanwhile), start it"
                .into(),
        );
    }
    if let Some((key, _)) = fixed.iter().find(|(_, differs)| *differs) {
        return Err(format!(
            "[agent].{key} cannot change while the agent runs; restart it (packets keep flowing)"
        ));
    }
    for pool in &new.pools {
        let slots = old.pool(&pool.name).map(|there| there.slots);
        if let Some(slots) = slots.filter(|slots| *slots != pool.slots) {
            return Err(format!(
                "pool {:?}: slots cannot change from {slots} to {} in place, it would move its \
                 flows; make a pool with another name and point the services at it",
                pool.name, pool.slots
            ));
        }
    }
    Ok(())
}

/// Slots whose first rung changes, by pool.
#[must_use]
pub fn moved(old: &Contents, new: &Contents) -> Vec<Moved> {
    let moved = |(id, table): (&PoolId, &std::sync::Arc<[lb_common::ladder::Slot]>)| {
        let there = old.tables.get(id)?;
        let slots = there
            .iter()
            .zip(table.iter())
            .filter(|(a, b)| a.rung(0) != b.rung(0))
            .count();
        let pool = new.pools.get(id)?.name()?.to_owned();
        let share = slots as f64 / table.len() as f64;
        let slots = slots as u32;
        (slots > 0).then_some(Moved { pool, slots, share })
    };
    new.tables.iter().filter_map(moved).collect()
}

enum Change<'a, T> {
    Added(&'a T),
    Removed(&'a T),
    Kept(&'a T, &'a T),
}

/// Pairs what has the same name: first what goes, then what stays or comes, in the file's order.
fn compare<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&T) -> &String,
    mut tell: impl FnMut(Change<'a, T>),
) {
    let before: BTreeMap<String, &T> = old.iter().map(|item| (name(item).clone(), item)).collect();
    let after: BTreeMap<String, &T> = new.iter().map(|item| (name(item).clone(), item)).collect();
    for item in old.iter().filter(|item| !after.contains_key(name(item))) {
        tell(Change::Removed(item));
    }
    for item in new {
        match before.get(name(item)) {
            None => tell(Change::Added(item)),
            Some(old) => tell(Change::Kept(old, item)),
        }
    }
}

fn pool(old: &Pool, new: &Pool, lines: &mut Vec<String>) {
    let name = &new.name;
    let mut setting = |key: &str, old: &dyn Display, new: &dyn Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            lines.push(format!("pool {name}: {key} {old} becomes {new}"));
        }
    };
    setting("forward", &old.forward, &new.forward);
    setting("spill", &old.spill, &new.spill);
    setting(
        "on_backend_loss",
        &old.on_backend_loss,
        &new.on_backend_loss,
    );
    setting("on_empty", &old.on_empty, &new.on_empty);
    setting("tracking", &old.tracking, &new.tracking);
    if old.flows != new.flows {
        lines.push(format!("pool {name}: flows changed"));
    }
    if old.check != new.check {
        lines.push(format!("pool {name}: check changed"));
    }
    compare(
        &old.backends,
        &new.backends,
        |backend| &backend.name,
        |change| match change {
            Change::Added(backend) => {
                lines.push(format!(
                    "backend {name}/{} added ({})",
                    backend.name,
                    summary(backend)
                ));
            }
            Change::Removed(backend) => {
                lines.push(format!("backend {name}/{} removed", backend.name));
            }
            Change::Kept(old, new) if old != new => lines.push(format!(
                "backend {name}/{} changed: {} becomes {}",
                new.name,
                summary(old),
                summary(new)
            )),
            Change::Kept(..) => {}
        },
    );
}

fn agent(old: &Config, new: &Config, lines: &mut Vec<String>) {
    let (old, new) = (&old.agent, &new.agent);
    if old.interfaces != new.interfaces {
        lines.push(format!(
            "interfaces {} become {}",
            old.interfaces.join(", "),
            new.interfaces.join(", ")
        ));
    }
    let mut setting = |key: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{key} {old} becomes {new}"));
        }
    };
    setting(
        "manage_vips",
        old.manage_vips.to_string(),
        new.manage_vips.to_string(),
    );
    setting(
        "tunnel_source_v4",
        old.tunnel_source_v4.to_string(),
        new.tunnel_source_v4.to_string(),
    );
    setting(
        "tunnel_source_v6",
        old.tunnel_source_v6.to_string(),
        new.tunnel_source_v6.to_string(),
    );
}

fn summary(backend: &Backend) -> String {
    let zone = backend
        .zone
        .as_ref()
        .map_or(String::new(), |zone| format!(", zone {zone}"));
    format!(
        "{}, {}, weight {}{zone}",
        backend.address, backend.role, backend.weight
    )
}

fn title(service: &Service) -> String {
    format!(
        "{} ({} port {}/{} to pool {})",
        service.name, service.vip, service.port, service.protocol, service.pool
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[agent]
interfaces = ["eth0"]
[[pool]]
name = "logic"
slots = 251
backends = [ { name = "one", address = "10.0.0.1" }, { name = "two", address = "10.0.0.2" } ]
[[service]]
name = "web"
vip = "198.51.100.10"
port = 80
pool = "logic"
"#;

    fn config(changes: &[(&str, &str)]) -> Config {
        let mut text = FILE.to_owned();
        for (old, new) in changes {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        Config::parse(&text, "test.toml").unwrap()
    }

    #[test]
    fn each_kind_of_difference_has_its_line() {
        let two = r#", { name = "two", address = "10.0.0.2" }"#;
        for (name, changes, expected) in [
            ("nothing", &[][..], &[][..]),
            (
                "backend removed",
                &[(two, "")],
                &["backend logic/two removed"],
            ),
            (
                "weight",
                &[("\"10.0.0.2\"", "\"10.0.0.2\", weight = 7")],
                &[
                    "backend logic/two changed: 10.0.0.2, primary, weight 100 becomes 10.0.0.2, primary, weight 7",
                ],
            ),
            (
                "spill",
                &[("slots = 251", "slots = 251\nspill = \"standbys-first\"")],
                &["pool logic: spill both becomes standbys-first"],
            ),
            (
                "port",
                &[("port = 80", "port = 81")],
                &[
                    "service web (198.51.100.10 port 80/tcp to pool logic) becomes web (198.51.100.10 port 81/tcp to pool logic)",
                ],
            ),
            (
                "interface",
                &[("eth0", "eth1")],
                &["interfaces eth0 become eth1"],
            ),
        ] {
            assert_eq!(describe(&config(&[]), &config(changes)), expected, "{name}");
        }
        let added = describe(&config(&[(two, "")]), &config(&[]));
        assert_eq!(
            added,
            ["backend logic/two added (10.0.0.2, primary, weight 100)"]
        );
    }

    #[test]
    fn what_cannot_change_in_place_is_refused_with_what_to_do() {
        for (changes, expected) in [
            (
                ("slots = 251", "slots = 257"),
                "make a pool with another name",
            ),
            (
                ("[[pool]]", "pin = \"/sys/fs/bpf/other\"\n[[pool]]"),
                "restart it",
            ),
            (
                ("[[pool]]", "metrics = \"127.0.0.1:1\"\n[[pool]]"),
                "[agent].metrics",
            ),
        ] {
            let error = reloadable(&config(&[]), &config(&[changes])).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(
            reloadable(&config(&[]), &config(&[("port = 80", "port = 81")])),
            Ok(())
        );
    }
}
