//! The tiers behind the logic servers: caches with their copies and Sentinels, databases in
//! streaming replication with a proxy each, and `lb logic` on every logic server, all reached
//! through the VIP.

pub mod cache;
mod clients;
mod cost;
pub mod database;
mod scene;
mod served;

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use lb_tests::db_proxy::DbProxy;
use lb_tests::logic::{Logic, Options};
use lb_tests::namespace::Namespace;
use lb_tests::postgres::Postgres;
use lb_tests::redis::{Place, Tier};
use lb_tests::site::Backend;
use lb_userspace::control::client::Client;
use lb_userspace::control::{Answer, CacheServerStatus, DbProxyStatus, Request};

use crate::stage::Stage;

/// Clients of a data tier at a time; each keeps its connection.
const CLIENTS: usize = 4;
const REDIS_PORT: u16 = 6379;
const POSTGRES_PORT: u16 = 5432;
/// Where the gateway asks a logic server whether it can serve.
const READY_PORT: u16 = 8080;
/// Further lines of `[logic]`. One thread each: four of them share this machine.
const LISTENERS: &str = "threads = 1\n\
                         postgres = { listen = \"0.0.0.0:5432\" }\n\
                         http = { listen = \"0.0.0.0:8080\" }\n";

/// A database host: PostgreSQL and its proxy.
pub struct Database {
    /// `db-1` or `db-2`.
    pub name: String,
    /// The server.
    pub server: Postgres,
    proxy: DbProxy,
}

/// Both tiers and the logic servers before them; everything goes when it is dropped.
pub struct Data {
    // In the order in which they end: who uses the others goes first.
    logics: Vec<Logic>,
    /// The first is the primary at first.
    pub databases: Vec<Database>,
    /// The caches.
    pub caches: Tier,
    client: Place,
    vip: SocketAddr,
}

impl Data {
    /// Makes the hosts and starts everything; the gateway serves it when this returns.
    ///
    /// # Errors
    /// If something does not start: with the end of its log.
    pub fn build(stage: &mut Stage) -> Result<Data> {
        stage.console.line(
            "\nadding the data tiers: three caches, a copy of each, three Sentinels; two databases in \
             streaming\nreplication, a proxy before each; lb logic on every logic server",
        );
        let site = stage.site();
        let caches = Tier::builder().primaries(3).copies().sentinels(3);
        let caches = caches.build_on(site.segment())?;
        let databases = databases(&caches)?;
        let mut tables = caches.config("");
        tables.push_str("[[database]]\nname = \"main\"\nservers = [\n");
        for database in &databases {
            let (name, address) = (&database.name, database.proxy.address());
            let _ = writeln!(
                tables,
                "  {{ name = \"{name}\", address = \"{address}\" }},"
            );
        }
        tables.push_str("]\n");
        let options = Options {
            listen: Some(SocketAddr::from(([0, 0, 0, 0], REDIS_PORT))),
            settings: LISTENERS.to_owned(),
            log: Some("info".to_owned()),
            ..Options::default()
        };
        let start = |backend: &Backend| {
            let place = backend.place();
            Logic::start_with(caches.run(), &place, backend.name(), &tables, &options)
        };
        let logics = site.backends().iter().map(start).collect::<Result<_>>()?;
        let data = Data {
            logics,
            databases,
            client: site.client().place(),
            vip: site.vip(),
            caches,
        };
        stage.add_services(&services(stage))?;
        stage.wait_until("every logic server to know both databases", || {
            data.all_count("usable", "db-1", 1.0) && data.all_count("usable", "db-2", 1.0)
        })?;
        Ok(data)
    }

    /// Where clients connect, and from where.
    fn at(&self, port: u16) -> (Place, SocketAddr) {
        (self.client.clone(), SocketAddr::new(self.vip.ip(), port))
    }

    /// Whether every logic server says so of a layer-one cache.
    fn all_say(&self, cache: &str, is_so: impl Fn(&CacheServerStatus) -> bool) -> bool {
        self.logics.iter().all(|logic| {
            let answer = ask(logic.control_socket(), &Request::Cache);
            let Ok(Answer::Cache(status)) = answer else {
                return false;
            };
            let mut servers = status.servers.iter();
            servers.any(|server| server.name == cache && is_so(server))
        })
    }

    /// Whether this metric of a database has this value on every logic server.
    fn all_count(&self, metric: &str, database: &str, value: f64) -> bool {
        let metric = format!("lb_logic_postgres_{metric}");
        let label = format!("server=\"{database}\"");
        let mut logics = self.logics.iter();
        logics.all(|logic| matches!(logic.metric(&metric, &label), Ok(Some(it)) if it == value))
    }

    /// The proxy before a database, as it sees itself.
    fn proxy(&self, database: usize) -> Result<DbProxyStatus> {
        let proxy = &self.databases[database].proxy;
        match ask(proxy.control_socket(), &Request::Status)? {
            Answer::DbProxy(status) => Ok(*status),
            other => anyhow::bail!("lb db-proxy answered {other:?} instead of its status"),
        }
    }

    /// How to reach it all, for people who play with it.
    pub fn how_to_play(&self, lb: &str) -> String {
        let (vip, client) = (self.vip.ip(), self.client.namespace());
        let client = client.map(Namespace::name).unwrap_or_default();
        let mut text = format!(
            "  ip netns exec {client} redis-cli -h {vip}\n  \
             ip netns exec {client} psql -h {vip} -U postgres postgres\n"
        );
        for logic in &self.logics {
            let socket = logic.control_socket().display();
            let _ = writeln!(text, "  {lb} cache status --socket {socket}");
        }
        text
    }
}

fn ask(socket: &std::path::Path, request: &Request) -> Result<Answer> {
    Ok(Client::connect(socket)?.ask(request)?)
}

fn databases(caches: &Tier) -> Result<Vec<Database>> {
    let host = |name: &str, server: Postgres| {
        let place = caches.host(name)?;
        let proxy = DbProxy::start_quiet(caches.run(), &place, &server, "auth = \"trust\"")?;
        Ok::<_, anyhow::Error>(Database {
            name: name.to_owned(),
            server,
            proxy,
        })
    };
    let settings = "hot_standby_feedback = on";
    let primary = Postgres::start_new(caches.run(), "db-1", settings).context("the primary")?;
    let standby = primary
        .standby(caches.run(), "db-2")
        .context("the standby")?;
    Ok(vec![host("db-1", primary)?, host("db-2", standby)?])
}

/// The pool of `lb logic`s and their two services, for the agent.
fn services(stage: &Stage) -> String {
    let mut text = format!(
        "\n[[pool]]\nname = \"data\"\nforward = \"l2\"\ncheck = {{ kind = \"http\", port = {READY_PORT}, \
         path = \"/readyz\", interval = \"200ms\", timeout = \"200ms\", rise = 2, fall = 2 }}\nbackends = [\n"
    );
    for backend in stage.site().backends() {
        let (name, address) = (backend.name(), backend.address());
        let role = backend.role().as_str();
        let _ = writeln!(
            text,
            "  {{ name = \"{name}\", address = \"{address}\", role = \"{role}\" }},"
        );
    }
    text.push_str("]\n");
    let vip = stage.site().vip().ip();
    for (name, port) in [("redis", REDIS_PORT), ("postgres", POSTGRES_PORT)] {
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"tcp\"\n\
             pool = \"data\"\n"
        );
    }
    text
}
