//! Who is measured: no proxy, lb, what is installed of Debian's, and what `--target` names.

mod logic;

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::db_proxy::DbProxy;
use lb_tests::place::Place;
use lb_tests::postgres::{Postgres, free_port};
use lb_tests::process::Process;
use lb_tests::run_directory::RunDirectory;

use super::{Arguments, POOL, process_tree};

/// How long a proxy may take until it listens.
const READY_MAX: Duration = Duration::from_secs(20);

/// One way to the server.
pub(super) struct Contestant {
    pub name: &'static str,
    /// A host, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
    /// Whether idle clients share server connections.
    pub is_pooling: bool,
    /// The root of the process tree that is charged.
    pid: Option<u32>,
    _running: Option<Running>,
}

enum Running {
    Lb(#[expect(dead_code, reason = "runs until it is dropped")] Box<DbProxy>),
    Logic(#[expect(dead_code, reason = "runs until it is dropped")] Box<logic::Chain>),
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
pub(super) fn start(
    run: &RunDirectory,
    server: &Postgres,
    arguments: &Arguments,
) -> Result<Vec<Contestant>> {
    let mut contestants = vec![lb(run, server)?];
    let is_wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    if is_wanted("lb-logic") {
        contestants.push(logic::start(run, server)?);
    }
    if is_wanted("direct") {
        contestants.push(Contestant {
            name: "direct",
            host: server.socket_directory().display().to_string(),
            port: server.port(),
            is_pooling: false,
            pid: None,
            _running: None,
        });
    }
    let others: [(&'static str, &str, Start); 3] = [
        ("pgbouncer", "pgbouncer", pgbouncer),
        ("haproxy", "haproxy", haproxy),
        ("pgpool", "pgpool2", pgpool),
    ];
    for (name, package, start) in others {
        if !is_wanted(name) {
            continue;
        }
        let Some(program) = installed(name) else {
            eprintln!("{name} is not measured: apt-get install {package}");
            continue;
        };
        contestants.push(other(name, program, start, run, server)?);
    }
    for target in &arguments.targets {
        let parts = target.split_once('=').and_then(|(name, address)| {
            let (host, port) = address.rsplit_once(':')?;
            Some((name, host, port.parse().ok()?))
        });
        let (name, host, port) =
            parts.with_context(|| format!("{target}: write NAME=HOST:PORT"))?;
        contestants.push(Contestant {
            name: name.to_owned().leak(),
            host: host.to_owned(),
            port,
            is_pooling: true,
            pid: process_tree::listening(port),
            _running: None,
        });
    }
    Ok(contestants)
}

fn lb(run: &RunDirectory, server: &Postgres) -> Result<Contestant> {
    let settings =
        format!("auth = \"trust\"\npool = {{ size = {POOL}, max_clients = 20000, queue = 20000 }}");
    let mut proxy = DbProxy::start_quiet(run, &Place::here(), server, &settings)?;
    Ok(Contestant {
        name: "lb",
        host: "127.0.0.1".to_owned(),
        port: proxy.port(),
        is_pooling: true,
        pid: Some(proxy.process().pid()),
        _running: Some(Running::Lb(Box::new(proxy))),
    })
}

type Start = fn(&RunDirectory, &Postgres, u16, &mut Command) -> Result<()>;

fn other(
    name: &'static str,
    program: PathBuf,
    start: Start,
    run: &RunDirectory,
    server: &Postgres,
) -> Result<Contestant> {
    let port = free_port()?;
    // pgbouncer and pgpool refuse to be root, as PostgreSQL does.
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--init-groups",
    ]);
    command.arg(program).current_dir("/");
    start(run, server, port, &mut command)?;
    let mut process = Process::spawn_here(name, &mut command, &run.logs())?;
    process.wait_until("the proxy listens", READY_MAX, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    Ok(Contestant {
        name,
        host: "127.0.0.1".to_owned(),
        port,
        is_pooling: name == "pgbouncer",
        pid: Some(process.pid()),
        _running: Some(Running::Other(process)),
    })
}

fn installed(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .map(|directory| PathBuf::from(directory).join(program))
        .into_iter()
        .find(|path| path.is_file())
}

fn pgbouncer(
    run: &RunDirectory,
    server: &Postgres,
    port: u16,
    command: &mut Command,
) -> Result<()> {
    let path = run.join("pgbouncer.ini");
    let text = format!(
        "[databases]\npostgres = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
         default_pool_size = {POOL}\nmax_client_conn = 20000\nlog_connections = 0\nlog_disconnections = 0\n",
        server.socket_directory().display(),
        server.port()
    );
    fs::write(&path, text)?;
    command.arg(path);
    Ok(())
}

fn haproxy(run: &RunDirectory, server: &Postgres, port: u16, command: &mut Command) -> Result<()> {
    let path = run.join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  \
         timeout server 1h\nlisten postgres\n  bind 127.0.0.1:{port}\n  server one unix@{}/.s.PGSQL.{}\n",
        server.socket_directory().display(),
        server.port()
    );
    fs::write(&path, text)?;
    command.arg("-f").arg(path);
    Ok(())
}

/// Without its cache: it would keep a connection for each of its children after its clients have left,
/// and others would find none.
fn pgpool(run: &RunDirectory, server: &Postgres, port: u16, command: &mut Command) -> Result<()> {
    let path = run.join("pgpool.conf");
    let directory = server.socket_directory().display();
    let text = format!(
        "backend_clustering_mode = 'raw'\nlisten_addresses = '127.0.0.1'\nport = {port}\n\
         backend_hostname0 = '{directory}'\nbackend_port0 = {}\nnum_init_children = 510\nmax_pool = 1\n\
         connection_cache = off\n\
         enable_pool_hba = off\npool_passwd = ''\npcp_port = {}\npcp_socket_dir = '{directory}'\n\
         unix_socket_directories = '{directory}'\npid_file_name = '{directory}/pgpool.pid'\n\
         logdir = '{directory}'\nwork_dir = '{directory}'\n",
        server.port(),
        free_port()?
    );
    fs::write(&path, text)?;
    command.arg("-n").arg("-f").arg(path);
    Ok(())
}
