//! Who is measured: no proxy, lb, what is installed of Debian's, and what `--target` names.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::logic::{Logic, Options};
use lb_tests::postgres::free_port;
use lb_tests::process::Process;
use lb_tests::redis::{Place, Tier};

use super::Arguments;
use crate::postgres::process_tree;

/// haproxy wants two descriptors for each, and a process of a usual machine has 20,000.
const HAPROXY_CLIENTS_MAX: u32 = 9_900;
/// How long a proxy may take until it listens.
const READY_MAX: Duration = Duration::from_secs(20);

/// One way to the servers.
pub(super) struct Contestant {
    pub name: &'static str,
    pub address: SocketAddr,
    /// The root of the process tree that is charged.
    pid: Option<u32>,
    _running: Option<Running>,
}

enum Running {
    Lb(#[expect(dead_code, reason = "runs until it is dropped")] Box<Logic>),
    Other(#[expect(dead_code, reason = "runs until it is dropped")] Process),
}

impl Contestant {
    /// CPU seconds that it has used, with its children.
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.pid.map(process_tree::cpu_seconds)
    }

    /// Memory that it has in use, with its children.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.pid.map(process_tree::memory_bytes)
    }
}

/// Starts all of them; who is not installed is named and left out.
pub(super) fn start(tier: &Tier, arguments: &Arguments) -> Result<Vec<Contestant>> {
    let mut contestants = vec![lb(tier, &arguments.cache)?];
    let is_wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    if is_wanted("direct") {
        contestants.push(Contestant {
            name: "direct",
            address: tier.primaries[0].address(),
            pid: None,
            _running: None,
        });
    }
    let others: [(&'static str, Start); 2] = [("nutcracker", nutcracker), ("haproxy", haproxy)];
    for (name, start) in others {
        if !is_wanted(name) {
            continue;
        }
        let program = Path::new("/usr/sbin").join(name);
        if !program.is_file() {
            eprintln!("{name} is not measured: apt-get install {name}");
            continue;
        }
        contestants.push(other(name, Command::new(program), start, tier)?);
    }
    for target in &arguments.targets {
        let parts = target.split_once('=');
        let (name, address) = parts.with_context(|| format!("{target}: write NAME=HOST:PORT"))?;
        let address: SocketAddr = address
            .parse()
            .with_context(|| format!("{target}: write NAME=ADDRESS:PORT"))?;
        contestants.push(Contestant {
            name: name.to_owned().leak(),
            address,
            pid: process_tree::listening(address.port()),
            _running: None,
        });
    }
    Ok(contestants)
}

fn lb(tier: &Tier, settings: &str) -> Result<Contestant> {
    let options = Options {
        resp: ", max_clients = 20000".into(),
        // The log that a user has, not a test's.
        log: Some("info".into()),
        ..Options::default()
    };
    let tables = tier.config(settings);
    let mut logic = Logic::start_with(tier.run(), &Place::here(), "lb", &tables, &options)?;
    Ok(Contestant {
        name: "lb",
        address: logic.resp(),
        pid: Some(logic.process().pid()),
        _running: Some(Running::Lb(Box::new(logic))),
    })
}

type Start = fn(&Tier, u16, &mut Command) -> Result<()>;

fn other(
    name: &'static str,
    mut command: Command,
    start: Start,
    tier: &Tier,
) -> Result<Contestant> {
    let port = free_port()?;
    start(tier, port, &mut command)?;
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let mut process = Process::spawn_here(name, &mut command, &tier.run().logs())?;
    process.wait_until("the proxy listens", READY_MAX, || {
        TcpStream::connect(address).is_ok()
    })?;
    Ok(Contestant {
        name,
        address,
        pid: Some(process.pid()),
        _running: Some(Running::Other(process)),
    })
}

fn nutcracker(tier: &Tier, port: u16, command: &mut Command) -> Result<()> {
    let path = tier.run().join("nutcracker.yml");
    let mut text = format!(
        "bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
         redis: true\n  server_connections: 1\n  client_connections: 20000\n  servers:\n"
    );
    for server in &tier.primaries {
        let _ = writeln!(text, "   - {}:1 {}", server.address(), server.name());
    }
    fs::write(&path, text)?;
    command.arg("-c").arg(path).args(["-a", "127.0.0.1"]);
    command.args(["-s", &free_port()?.to_string()]);
    Ok(())
}

/// In front of one server: it does not know what keys are.
fn haproxy(tier: &Tier, port: u16, command: &mut Command) -> Result<()> {
    let path = tier.run().join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn {HAPROXY_CLIENTS_MAX}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  \
         timeout server 1h\nlisten redis\n  bind 127.0.0.1:{port}\n  server one {}\n",
        tier.primaries[0].address()
    );
    fs::write(&path, text)?;
    command.arg("-f").arg(path);
    Ok(())
}
