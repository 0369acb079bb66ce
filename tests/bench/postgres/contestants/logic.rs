//! `lb logic` with reads split and sessions reading their own writes, in front of the measured server and a
//! standby of it, each behind its own `lb db-proxy`. What is charged is the logic daemon alone: the
//! proxies have a row of their own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::db_proxy::DbProxy;
use lb_tests::place::Place;
use lb_tests::postgres::{Postgres, free_port};
use lb_tests::process::{Process, built};
use lb_tests::run_directory::RunDirectory;

use super::{Contestant, POOL, READY_MAX, Running};

/// The daemon, what it stands before, and the standby.
pub(super) struct Chain {
    // Dropped in this order.
    _logic: Process,
    _proxies: [DbProxy; 2],
    _standby: Postgres,
}

/// Starts all of it; returns when the standby answers reads.
pub(super) fn start(run: &RunDirectory, server: &Postgres) -> Result<Contestant> {
    let standby = server.standby(run, "bench-standby")?;
    let settings =
        format!("auth = \"trust\"\npool = {{ size = {POOL}, max_clients = 20000, queue = 20000 }}");
    let proxies = [
        DbProxy::start_quiet(run, &Place::here(), server, &settings)?,
        DbProxy::start_quiet(run, &Place::here(), &standby, &settings)?,
    ];
    let (port, metrics) = (free_port()?, free_port()?);
    let config = run.join("logic.toml");
    let text = format!(
        "[logic]\ncontrol = \"{}\"\nmetrics = \"127.0.0.1:{metrics}\"\nstate = \"{}\"\n\
         postgres = {{ listen = \"127.0.0.1:{port}\" }}\n\n[[database]]\nname = \"bench\"\nservers = [\n  \
         {{ name = \"db-1\", address = \"127.0.0.1:{}\" }},\n  {{ name = \"db-2\", address = \"127.0.0.1:{}\" }},\n]\n",
        run.join("logic.sock").display(),
        run.join("logic-state").display(),
        proxies[0].port(),
        proxies[1].port()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(built("lb", "lb-userspace")?);
    command.arg("logic").arg("--config").arg(&config);
    let mut logic = Process::spawn_here("logic", &mut command, &run.logs())?;
    logic.wait_until("both servers can be used", READY_MAX, || {
        usable(metrics) == Some(2)
    })?;
    Ok(Contestant {
        name: "lb-logic",
        host: "127.0.0.1".to_owned(),
        port,
        is_pooling: true,
        pid: Some(logic.pid()),
        _running: Some(Running::Logic(Box::new(Chain {
            _logic: logic,
            _proxies: proxies,
            _standby: standby,
        }))),
    })
}

/// How many servers the daemon can use.
fn usable(metrics: u16) -> Option<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", metrics)).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("metrics").ok()?;
    let usable = text
        .lines()
        .filter(|line| line.starts_with("lb_logic_postgres_usable{") && line.ends_with(" 1"));
    Some(usable.count())
}
