//! With `hash = "ketama"` keys are where nutcracker puts them: whoever moves from it keeps a warm cache.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::postgres::free_port;
use lb_tests::process::Process;
use lb_tests::redis::{Connection, Place, Tier};

/// Keys of every kind: with tags, with bytes that are negative for those who take them so, empty tags.
fn keys() -> impl Iterator<Item = Vec<u8>> {
    (0..1_000_u32).map(|number| match number % 5 {
        0 => format!("key:{number}").into_bytes(),
        1 => format!("user:{{{number}}}:name").into_bytes(),
        2 => format!("{{}}{number}").into_bytes(),
        3 => [&b"\xff\x80\xc3"[..], &number.to_be_bytes()].concat(),
        _ => number.to_string().repeat(20).into_bytes(),
    })
}

fn nutcracker(tier: &Tier) -> Result<(Process, SocketAddr)> {
    let port = free_port()?;
    let (file, log) = (
        tier.run().join("nutcracker.yml"),
        tier.run().join("nutcracker.log"),
    );
    let servers = tier.primaries.iter();
    let servers: Vec<_> = servers
        .map(|server| format!("    - {}:1 {}", server.address(), server.name()))
        .collect();
    let text = format!(
        "cache:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  hash_tag: \"{{}}\"\n  \
         distribution: ketama\n  servers:\n{}\n",
        servers.join("\n")
    );
    std::fs::write(&file, text)?;
    let stats = free_port()?.to_string();
    let mut command = Command::new("nutcracker");
    command
        .arg("--conf-file")
        .arg(&file)
        .arg("--output")
        .arg(&log);
    command.args(["--stats-addr", "127.0.0.1", "--stats-port", &stats]);
    let mut process = Place::here().spawn("nutcracker", &mut command, &tier.run().logs())?;
    let address = SocketAddr::new(Place::here().address().into(), port);
    process.wait_until("nutcracker listens", crate::SOON, || {
        Place::here().connect(address).is_ok()
    })?;
    Ok((process, address))
}

#[test]
fn keys_are_where_nutcracker_puts_them() -> Result<()> {
    let tier = Tier::builder().primaries(3).build()?;
    let (_nutcracker, address) = nutcracker(&tier).context("nutcracker")?;
    let mut through = Connection::open(&Place::here(), address)?;
    for key in keys() {
        let words = [b"SET".to_vec(), key.clone(), key];
        assert!(!through.command(&words)?.is_error());
    }
    let logic = tier.start_logic("logic-1", "hash = \"ketama\"")?;
    let mut lb = logic.connect()?;
    let mut elsewhere = Vec::new();
    for key in keys() {
        let found = lb.command(&[b"GET".to_vec(), key.clone()])?;
        if found.is_null() || found.is_error() {
            elsewhere.push(key.escape_ascii().to_string());
        }
    }
    assert!(
        elsewhere.is_empty(),
        "{} of 1000: {elsewhere:?}",
        elsewhere.len()
    );
    for server in &tier.primaries {
        assert!(
            !server.command(&["RANDOMKEY"])?.is_null(),
            "keys are on all servers"
        );
    }
    Ok(())
}
