//! A primary, standbys, their proxies, and a logic daemon in front of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::db_proxy::DbProxy;
use lb_tests::forwarder::{Destination, Forwarder};
use lb_tests::postgres::{Postgres, free_port, tool};
use lb_tests::process::{Process, built};
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;
use tokio_postgres::Client;

use crate::setup::{SOON, connect, printed};

/// Everything; what was started last goes first.
pub struct Cluster {
    logic: Process,
    /// From the logic daemon to each proxy; empty if it goes there straight.
    pub paths: Vec<Forwarder>,
    _proxies: Vec<DbProxy>,
    /// The first one is the primary at the start.
    pub servers: Vec<Postgres>,
    run: RunDirectory,
    port: u16,
    http: u16,
    metrics: u16,
    control: PathBuf,
}

/// What is not as usual.
#[derive(Clone, Copy, Default)]
pub struct Options<'o> {
    /// Further keys of the listener, each with a comma before it.
    pub postgres: &'o str,
    /// Further lines of `[[database]]`.
    pub database: &'o str,
    /// Lines of `[db_proxy]`; empty: whoever comes is trusted.
    pub proxies: &'o str,
    /// The paths to the proxies can be cut off.
    pub has_paths: bool,
    /// The shard of each server; empty: they are one cluster.
    pub shards: &'o [u32],
}

impl Cluster {
    /// With so many standbys; `postgres` are further keys of the listener, each with a comma before it.
    pub fn new(standbys: usize, postgres: &str) -> Result<Self> {
        Self::with(
            standbys,
            "hot_standby_feedback = on",
            &Options {
                postgres,
                ..Options::default()
            },
        )
    }

    /// The same, with paths to the proxies that can be cut off.
    pub fn with_paths(standbys: usize, postgres: &str) -> Result<Self> {
        let has_paths = true;
        Self::with(
            standbys,
            "",
            &Options {
                postgres,
                has_paths,
                ..Options::default()
            },
        )
    }

    /// With so many standbys, lines of `postgresql.conf`, and what else is not as usual.
    pub fn with(standbys: usize, settings: &str, options: &Options<'_>) -> Result<Self> {
        let run = RunDirectory::new()?;
        let mut servers = vec![Postgres::start_new(&run, "db-1", settings)?];
        for number in 0..standbys {
            let standby = servers[0].standby(&run, &format!("db-{}", number + 2))?;
            servers.push(standby);
        }
        Self::around(run, servers, options)
    }

    /// In front of servers that are there; waits until all of them are used.
    pub fn around(
        run: RunDirectory,
        servers: Vec<Postgres>,
        options: &Options<'_>,
    ) -> Result<Self> {
        let cluster = Self::before(run, servers, options)?;
        let all = cluster.servers.len();
        let primaries = options.shards.iter().max().map_or(1, |highest| highest + 1);
        wait::until("every server can be used", SOON, || {
            cluster
                .gauge("postgres_usable")
                .is_some_and(|sum| sum as usize == all)
                && cluster.gauge("postgres_primary") == Some(f64::from(primaries))
        })
        .with_context(|| cluster.logic.log())?;
        Ok(cluster)
    }

    /// In front of servers that are there, whatever comes of it.
    pub fn before(
        run: RunDirectory,
        servers: Vec<Postgres>,
        options: &Options<'_>,
    ) -> Result<Self> {
        let trust = "auth = \"trust\"";
        let settings = if options.proxies.is_empty() {
            trust
        } else {
            options.proxies
        };
        let mut proxies = Vec::new();
        for server in &servers {
            proxies.push(DbProxy::start(&run, server, settings)?);
        }
        let (port, http, metrics) = (free_port()?, free_port()?, free_port()?);
        let control = run.join("logic.sock");
        let mut paths = Vec::new();
        for proxy in proxies.iter().filter(|_| options.has_paths) {
            let address = (Ipv4Addr::LOCALHOST, proxy.port()).into();
            paths.push(Forwarder::start(Destination::Tcp(address))?);
        }
        let ports = proxies.iter().enumerate();
        let ports = ports.map(|(at, proxy)| paths.get(at).map_or(proxy.port(), Forwarder::port));
        let place = |(at, (server, port)): (usize, (&Postgres, u16))| {
            let (name, shard) = (server.name(), options.shards.get(at).unwrap_or(&0));
            format!("{{ name = \"{name}\", address = \"127.0.0.1:{port}\", shard = {shard} }}")
        };
        let places: Vec<_> = servers.iter().zip(ports).enumerate().map(place).collect();
        let text = format!(
            "[logic]\ncontrol = \"{}\"\nmetrics = \"127.0.0.1:{metrics}\"\nstate = \"{}\"\nthreads = 2\n\
             postgres = {{ listen = \"127.0.0.1:{port}\"{} }}\n\
             http = {{ listen = \"127.0.0.1:{http}\" }}\n\n\
             [[database]]\nname = \"main\"\n{}\nservers = [ {} ]\n",
            control.display(),
            run.join("logic-state").display(),
            options.postgres,
            options.database,
            places.join(", ")
        );
        let config = run.join("logic.toml");
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new(built("lb", "lb-userspace")?);
        command.arg("logic").arg("--config").arg(&config);
        command.args(["--log-level", "debug"]);
        let logic = Process::spawn_here("logic", &mut command, &run.logs())?;
        let mut cluster = Self {
            logic,
            paths,
            _proxies: proxies,
            servers,
            run,
            port,
            http,
            metrics,
            control,
        };
        cluster.logic.wait_until("it listens", SOON, || {
            let answers = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
            answers(http) && answers(metrics)
        })?;
        Ok(cluster)
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where everything of it lies.
    pub fn run(&self) -> &RunDirectory {
        &self.run
    }

    /// What the logic daemon has logged.
    pub fn log(&self) -> String {
        self.logic.log()
    }

    /// A client, with further words of a connection string.
    pub async fn connect(&self, words: &str) -> Result<Client> {
        connect(self.port, words).await
    }

    /// Runs psql; returns what it printed.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let mut psql = self.program("psql")?;
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        printed(&mut psql)
    }

    /// A program of PostgreSQL's that connects here.
    pub fn program(&self, name: &str) -> Result<Command> {
        let mut command = tool(name)?;
        command.envs([
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &self.port.to_string()),
            ("PGUSER", "postgres"),
            ("PGDATABASE", "postgres"),
        ]);
        Ok(command)
    }

    /// The status code of `/readyz`.
    pub fn readyz(&self) -> Result<u16> {
        let text = get(self.http, "/readyz")?;
        let code = text.split_ascii_whitespace().nth(1);
        code.and_then(|code| code.parse().ok())
            .with_context(|| format!("no status in {text:?}"))
    }

    /// The sum of a metric over all labels.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.sum(name, "")
    }

    /// The sum of a metric over all lines whose labels have `part` in them.
    pub fn sum(&self, name: &str, part: &str) -> Option<f64> {
        let text = get(self.metrics, "/metrics").ok()?;
        let name = format!("lb_logic_{name}");
        let lines = text.lines().filter(|line| {
            line.strip_prefix(&name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(part))
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Some(values.sum())
    }

    /// Runs `lb WORDS --socket …`; returns what it printed.
    pub fn lb(&self, words: &[&str]) -> Result<String> {
        let mut lb = Command::new(built("lb", "lb-userspace")?);
        lb.args(words).arg("--socket").arg(&self.control);
        printed(&mut lb)
    }
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
