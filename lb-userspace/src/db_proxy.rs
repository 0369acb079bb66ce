//! `lb db-proxy`: the proxy in front of one PostgreSQL server. Clients that speak PostgreSQL's
//! protocol share a few server connections: each has one for a transaction, or for its session.
//!
//! One thread does everything: a database host's cores belong to the database, and what one thread
//! relays keeps several cores of PostgreSQL busy. So nothing here is locked, and a message is
//! relayed by the task that read it.

mod auth_query;
mod cancel;
mod console;
mod link;
mod login;
mod metrics;
mod pauses;
mod pool;
mod session;
mod stats;
mod status;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use self::auth_query::AuthQuery;
use self::pauses::Pauses;
use self::pool::{Pool, PoolKey, Server};
use self::stats::ProxyStats;
use self::watch::{Fence, Watch};
use crate::config::{ClientAuth, Config, DbProxy};
use crate::control;
use crate::downstream::postgres::Door;
use crate::downstream::postgres::clients::Clients;
use crate::downstream::postgres::users::Users;
use crate::runtime::{self, Asked, Signals};
use crate::telemetry::scrape;
use crate::transport::tls;
use crate::upstream::postgres::settings::{self, Settings};
use crate::upstream::postgres::{Connector, Credentials, statements};
use crate::wire::postgres::link::Epoch;
use crate::wire::postgres::write;

/// Bytes that are read at a time, from whichever side.
const SCRATCH_BYTES: usize = 64 << 10;
/// How often queues, idle connections and dead pools are looked after.
const TICK: Duration = Duration::from_millis(100);
/// How long clients may take to finish their transactions when the proxy stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The most pools; each user of each database has one.
const POOLS_MAX: usize = 10_000;

/// Room to read into and to write in, shared by all tasks of the thread.
#[derive(Debug)]
struct Scratch {
    read: Box<[u8]>,
    out: Vec<u8>,
}

/// What all clients share.
#[derive(Debug)]
struct Proxy {
    config: RefCell<Rc<DbProxy>>,
    in_force: RefCell<InForce>,
    users: RefCell<Rc<Users>>,
    auth_query: AuthQuery,
    connector: RefCell<Rc<Connector>>,
    acceptor: RefCell<Option<tls::Acceptor>>,
    pools: RefCell<BTreeMap<PoolKey, Rc<Pool>>>,
    clients: Rc<Clients>,
    settings: settings::Table,
    /// The settings of a server that nobody used yet.
    pristine: Settings,
    statements: statements::Table,
    stats: ProxyStats,
    watch: Rc<Watch>,
    fence: Fence,
    scratch: RefCell<Scratch>,
    last_stamp: Cell<u64>,
    pauses: Pauses,
    is_stopped: Cell<bool>,
    /// Connections that have not logged in yet count, too.
    connections: Cell<usize>,
    source: std::path::PathBuf,
    started: Timestamp,
}

/// When the configuration in force was read, and why a later one was refused.
#[derive(Debug)]
struct InForce {
    since: Timestamp,
    error: Option<String>,
}

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// If the configuration is refused, or an address cannot be listened at.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load_db_proxy(path)?;
    runtime::block_on_one_thread(serve(config, path.to_owned()))?
}

async fn serve(config: DbProxy, source: std::path::PathBuf) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let (listen, metrics) = (config.listen, config.metrics);
    let (calls, asked) = mpsc::channel(status::CALLS_MAX);
    let control = config.control.clone();
    let _control = control::server::Server::listen(&control, calls)
        .with_context(|| format!("cannot listen at {}", control.display()))?;
    let (auth_query, questions) = AuthQuery::new();
    let proxy = Proxy::new(config, source, auth_query)?;
    let _metrics = match metrics {
        Some(address) => {
            let shown = Rc::clone(&proxy);
            let listener = scrape::Listener::bind_local(address, "lb db-proxy", move || {
                metrics::render(&shown)
            })
            .await;
            Some(listener.with_context(|| format!("cannot serve metrics at {address}"))?)
        }
        None => None,
    };
    // Last: whoever is served can also see how, on the console, in commands and in metrics.
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen at {listen}"))?;
    tracing::info!(listen = %listener.local_addr()?, "serving PostgreSQL clients");
    tokio::task::spawn_local(warn_if_open(Rc::clone(&proxy)));
    runtime::notify_ready();
    let ticker = tokio::task::spawn_local(tick(Rc::clone(&proxy)));
    let watch = tokio::task::spawn_local(watch::run(Rc::clone(&proxy)));
    tokio::task::spawn_local(auth_query::run(Rc::clone(&proxy), questions));
    tokio::task::spawn_local(status::run(Rc::clone(&proxy), asked));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => accept(&proxy, stream, address),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(TICK).await;
                }
            },
            asked = signals.next() => match asked {
                Asked::Reload => { let _ = proxy.reload(); }
                Asked::Stop => break,
            },
        }
    }
    drop(listener);
    runtime::notify_stopping();
    tracing::info!(
        clients = proxy.clients.len(),
        "stopping when transactions are finished"
    );
    drain(&proxy, &mut signals).await;
    proxy.is_stopped.set(true);
    ticker.abort();
    watch.abort();
    Ok(())
}

fn accept(proxy: &Rc<Proxy>, stream: tokio::net::TcpStream, address: std::net::SocketAddr) {
    let proxy = Rc::clone(proxy);
    tokio::task::spawn_local(async move {
        proxy.connections.set(proxy.connections.get() + 1);
        // Boxed: a login needs more room than an idle client may take.
        let login = Box::pin(login::log_in(&proxy, stream, address));
        if let Some((registered, session)) = login.await {
            match session {
                login::Service::Session(session) => session.run().await,
                login::Service::Console(console) => Box::pin(console.run()).await,
                login::Service::Watch(link) => Box::pin(link.run()).await,
            }
            drop(registered);
        }
        proxy.connections.set(proxy.connections.get() - 1);
    });
}

/// Asks every client to leave as soon as its transaction is over.
async fn drain(proxy: &Rc<Proxy>, signals: &mut Signals) {
    let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
    while proxy.clients.len() > 0 {
        for client in proxy.clients.all() {
            client.ask_to_leave();
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            // A second signal means now.
            asked = signals.next() => if asked == Asked::Stop { return },
        }
        if tokio::time::Instant::now() > deadline {
            tracing::warn!(
                clients = proxy.clients.len(),
                "stopping although clients still work"
            );
            return;
        }
    }
}

async fn tick(proxy: Rc<Proxy>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let config = proxy.config.borrow().pool;
        let now = Instant::now();
        for pool in proxy.all_pools() {
            pool.tick(now, &config);
        }
    }
}

/// Clients that go past the proxy go past what it guarantees.
async fn warn_if_open(proxy: Rc<Proxy>) {
    for address in proxy.open_addresses() {
        tracing::warn!(
            "PostgreSQL listens at {address}: clients can go past this proxy. Set \
             listen_addresses = 'localhost' (or '') in postgresql.conf"
        );
    }
}

/// Addresses beyond loopback at which somebody on this host listens on `port`.
fn open_addresses(port: u16) -> Vec<String> {
    let mut open = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        for line in table.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = fields.next().and_then(|local| local.split_once(':'));
            let is_listening = fields.nth(1) == Some("0A");
            if let Some((address, its_port)) = local
                && is_listening
                && u16::from_str_radix(its_port, 16) == Ok(port)
                && !is_loopback(address)
            {
                open.push(if address.bytes().all(|byte| byte == b'0') {
                    format!("every address, port {port}")
                } else {
                    format!("port {port} of an address of this host")
                });
            }
        }
    }
    open.dedup();
    open
}

/// Of an address as the kernel shows it: words of four bytes, in the order of this machine.
fn is_loopback(address: &str) -> bool {
    const V6: &str = "00000000000000000000000001000000";
    const MAPPED: &str = "0000000000000000FFFF0000";
    let v4 = address.strip_prefix(MAPPED).unwrap_or(address);
    address == V6 || (v4.len() == 8 && v4.ends_with("7F"))
}

/// Says good-bye to a server that is not needed any more.
fn server_leaves(mut server: Box<Server>) {
    tokio::task::spawn_local(async move {
        let good_bye = server.stream.write_all(write::TERMINATE);
        let _ = tokio::time::timeout(TICK, good_bye).await;
    });
}

impl Proxy {
    fn new(
        config: DbProxy,
        source: std::path::PathBuf,
        auth_query: AuthQuery,
    ) -> anyhow::Result<Rc<Self>> {
        let settings = settings::Table::default();
        let pristine = settings.hold(settings::Map::default());
        Ok(Rc::new(Self {
            watch: Rc::default(),
            fence: Fence::load(&config.state, config.listen.port())?,
            in_force: RefCell::new(InForce {
                since: Timestamp::now(),
                error: None,
            }),
            users: RefCell::new(Rc::new(Users::load(config.users_file.as_deref())?)),
            auth_query,
            connector: RefCell::new(Rc::new(connector(&config)?)),
            acceptor: RefCell::new(config.tls.as_ref().map(tls::Acceptor::load).transpose()?),
            config: RefCell::new(Rc::new(config)),
            pools: RefCell::default(),
            clients: Rc::default(),
            settings,
            pristine,
            statements: statements::Table::default(),
            stats: ProxyStats::default(),
            scratch: RefCell::new(Scratch {
                read: vec![0; SCRATCH_BYTES].into_boxed_slice(),
                out: Vec::new(),
            }),
            last_stamp: Cell::new(0),
            pauses: Pauses::default(),
            is_stopped: Cell::new(false),
            connections: Cell::new(0),
            source,
            started: Timestamp::now(),
        }))
    }

    fn next_stamp(&self) -> u64 {
        self.last_stamp.set(self.last_stamp.get() + 1);
        self.last_stamp.get()
    }

    fn all_pools(&self) -> Vec<Rc<Pool>> {
        self.pools.borrow().values().cloned().collect()
    }

    /// The pool of a user and database. What a login learned of the user is kept for the next
    /// connection to the server.
    fn pool(self: &Rc<Self>, key: &PoolKey, credentials: &Credentials) -> Option<Rc<Pool>> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(key) {
            *pool.credentials.borrow_mut() = credentials.clone();
            return Some(Rc::clone(pool));
        }
        if pools.len() >= POOLS_MAX {
            return None;
        }
        let pool = Pool::new(key.clone(), self, credentials.clone());
        pools.insert(key.clone(), Rc::clone(&pool));
        Some(pool)
    }

    /// Reads configuration and users again. What is refused changes nothing.
    fn reload(&self) -> anyhow::Result<()> {
        let outcome = self.try_reload();
        let mut in_force = self.in_force.borrow_mut();
        match &outcome {
            Ok(()) => {
                in_force.since = Timestamp::now();
                in_force.error = None;
                tracing::info!("configuration and users were read again");
            }
            Err(error) => {
                in_force.error = Some(format!("{error:#}"));
                tracing::error!("the configuration stays as it was: {error:#}");
            }
        }
        outcome
    }

    fn try_reload(&self) -> anyhow::Result<()> {
        let config = Config::load_db_proxy(&self.source)?;
        let users = Users::load(config.users_file.as_deref())?;
        let connector = connector(&config)?;
        let acceptor = config.tls.as_ref().map(tls::Acceptor::load).transpose()?;
        let (old, new) = (Rc::clone(&self.config.borrow()), &config);
        if (old.listen, old.metrics, &old.control) != (new.listen, new.metrics, &new.control) {
            tracing::warn!("listen, metrics and control stay as they were up to a restart");
        }
        let is_elsewhere = self.config.borrow().server != config.server
            || self.config.borrow().server_tls != config.server_tls;
        *self.users.borrow_mut() = Rc::new(users);
        *self.connector.borrow_mut() = Rc::new(connector);
        *self.acceptor.borrow_mut() = acceptor;
        *self.config.borrow_mut() = Rc::new(config);
        self.auth_query.forget();
        if is_elsewhere {
            for pool in self.all_pools() {
                pool.renew();
            }
        }
        Ok(())
    }

    /// A logic daemon has seen a primary of this epoch.
    fn attest(&self, epoch: Epoch) {
        self.fence.attest(epoch);
        if let Some(known) = self.watch.known()
            && self
                .fence
                .observe(known.history.epoch(), known.is_primary())
        {
            self.fence_changed();
        }
    }

    /// Has everybody look at the fence.
    fn fence_changed(&self) {
        self.watch.tell();
        for client in self.clients.all() {
            client.wake();
        }
    }

    /// Where PostgreSQL can be reached past the proxy.
    fn open_addresses(&self) -> Vec<String> {
        let port = self.connector.borrow().port();
        port.map_or_else(Vec::new, open_addresses)
    }

    /// What clients are let in by, as it is now.
    fn door(&self) -> Door {
        Door {
            users: Rc::clone(&self.users.borrow()),
            looked_up: None,
            acceptor: self.acceptor.borrow().clone(),
            trusts: self.config.borrow().auth == ClientAuth::Trust,
        }
    }
}

fn connector(config: &DbProxy) -> anyhow::Result<Connector> {
    Ok(Connector {
        server: config.server.clone(),
        tls: config.server_tls,
        client_config: tls::client_config(config.server_tls, config.server_ca.as_deref())?,
    })
}
