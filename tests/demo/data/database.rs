//! What is done to the database tier: the standby is frozen, the primary killed and the standby
//! promoted in its place; the old primary returns as it was, and then as a standby.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::load::{Failure, Outcome};
use lb_tests::postgres::Replication;
use lb_userspace::control::client;
use lb_userspace::control::{Answer, Request};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::clients::{Asked, Client};
use super::scene::{Scene, Show};
use super::served::Count;
use super::{Data, POSTGRES_PORT};
use crate::act::Act;
use crate::measure::Kind;
use crate::stage::Stage;

const SHOW: Show = Show {
    tier: "database",
    title: "Statements per second by database (one of five is a write)",
    why_writes_wait: "Writes wait for the new primary, which the operator makes after a second.",
};
/// When a client gives a statement up. Writes wait for the new primary.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the demo's operator takes until the standby is promoted.
const OPERATOR: Duration = Duration::from_secs(1);
/// What the clients work on.
const TABLES: &str = "CREATE TABLE visits (client int, number bigint); \
                      CREATE TABLE pages (id int PRIMARY KEY, title text); \
                      INSERT INTO pages SELECT n, 'page ' || n FROM generate_series(0, 999) n";
const PAGES: u64 = 1000;

/// Plays all of it; adds what came of it, also if it is broken off.
///
/// # Errors
/// If something does not happen that should, an acknowledged write is lost or doubled, or the demo
/// is interrupted.
pub fn play(stage: &mut Stage, data: &mut Data, acts: &mut Vec<Act>) -> Result<()> {
    data.databases[0].server.sql(TABLES)?;
    let counts = counts(data);
    let (_, vip) = data.at(POSTGRES_PORT);
    let mut scene = Scene::begin(stage, data, SHOW, counts, move |number| {
        Session::new(number, vip)
    });
    let played = play_faults(&mut scene);
    let asked = scene.end(acts);
    played?;
    audit(stage, data, &asked)
}

fn play_faults(scene: &mut Scene<'_>) -> Result<()> {
    scene.warm_up()?;
    standby_freezes(scene)?;
    primary_dies(scene)?;
    old_primary_returns(scene)
}

fn standby_freezes(scene: &mut Scene<'_>) -> Result<()> {
    let text = "freeze the standby (SIGSTOP): its sockets stay open, nobody answers";
    let at = scene.mark("db-2", "frozen", text);
    scene.data.databases[1].server.freeze()?;
    let known = scene.known("db-2 to be missed", |data| {
        data.all_count("usable", "db-2", 0.0)
    })?;
    scene.finish("standby frozen", "db-2", Kind::Lost, at, known)?;

    let at = scene.mark("db-2", "thawed", "it goes on");
    scene.data.databases[1].server.thaw()?;
    let known = scene.known("db-2 to be used", |data| {
        data.all_count("usable", "db-2", 1.0)
    })?;
    scene.finish("standby thawed", "db-2", Kind::Returned, at, known)
}

fn primary_dies(scene: &mut Scene<'_>) -> Result<()> {
    // From now on a write is acknowledged when the standby has it: it will be the primary.
    let [primary, standby] = &mut scene.data.databases[..] else {
        anyhow::bail!("there are two databases");
    };
    let synchronous = Replication::Synchronous;
    primary.server.replicate(synchronous, &[&standby.name])?;
    primary.server.wait_until_synchronous(&standby.server)?;

    let text = "kill the primary (SIGKILL); a second later the standby is promoted";
    let at = scene.mark("db-1", "killed", text);
    scene.data.databases[0].server.kill()?;
    let known = scene.known("db-1 to be missed", |data| {
        data.all_count("usable", "db-1", 0.0)
    })?;
    scene.stage.pass_until(at + OPERATOR)?;
    scene.mark("db-2", "promoted", "pg_ctl promote: it is the primary now");
    let standby = &scene.data.databases[1].server;
    standby.replicate(Replication::Asynchronous, &[])?;
    standby.promote()?;
    let name = "primary killed, standby promoted";
    scene.finish(name, "db-1", Kind::Lost, at, known)
}

fn old_primary_returns(scene: &mut Scene<'_>) -> Result<()> {
    let text = "start the old primary as it was: it knows of no other";
    let at = scene.mark("db-1", "returned", text);
    scene.data.databases[0].server.start()?;
    let is_fenced = |data: &Data| data.proxy(0).is_ok_and(|status| status.fence.closed);
    let known = scene.known("db-1 to be fenced", is_fenced)?;
    scene.finish("old primary fenced", "db-1", Kind::Fenced, at, known)?;

    let at = scene.mark("db-1", "rewound", "pg_rewind, and start as a standby");
    let [old, new] = &mut scene.data.databases[..] else {
        anyhow::bail!("there are two databases");
    };
    old.server.stop()?;
    old.server.rewind(&new.server)?;
    let known = scene.known("db-1 to be used", |data| {
        data.all_count("usable", "db-1", 1.0)
    })?;
    scene.finish("old primary rewound", "db-1", Kind::Returned, at, known)
}

/// Every acknowledged write is there, once; no other is there twice.
fn audit(stage: &mut Stage, data: &Data, asked: &[Asked]) -> Result<()> {
    let writes = asked.iter().filter(|asked| asked.is_write);
    let is_unknown = |asked: &&Asked| asked.record.outcome == Outcome::Failed(Failure::Unknown);
    let unknown = writes.clone().filter(is_unknown).count();
    let acknowledged = writes.filter(|asked| !asked.record.outcome.is_failure());
    let acknowledged = acknowledged.count();
    let count = |sql: &str| -> Result<usize> {
        let text = data.databases[1].server.sql(sql)?;
        text.parse().with_context(|| format!("{sql}: {text}"))
    };
    let kept = count("SELECT count(*) FROM visits")?;
    let doubled = count("SELECT count(*) - count(DISTINCT (client, number)) FROM visits")?;
    stage.console.line(&format!(
        "\n{acknowledged} writes were acknowledged and {unknown} unknown; db-2 has {kept}, {doubled} of them twice"
    ));
    ensure!(doubled == 0, "{doubled} writes were done twice");
    ensure!(
        (acknowledged..=acknowledged + unknown).contains(&kept),
        "{acknowledged} writes were acknowledged and {unknown} unknown, but {kept} are there"
    );
    Ok(())
}

/// Statements by the count of each database's proxy: who answers depends on nothing that a
/// statement could tell.
fn counts(data: &Data) -> Vec<Count> {
    let count = |database: &super::Database| {
        let socket = database.proxy.control_socket().to_owned();
        Count::new(&database.name, move || {
            let mut client = client::Client::connect(&socket).ok()?;
            match client.ask(&Request::Status).ok()? {
                Answer::DbProxy(status) => Some(status.pools.iter().map(|pool| pool.queries).sum()),
                _ => None,
            }
        })
    };
    data.databases.iter().map(count).collect()
}

/// A client that keeps its session as long as it works.
struct Session {
    number: usize,
    vip: SocketAddr,
    runtime: Option<Runtime>,
    client: Option<tokio_postgres::Client>,
}

impl Session {
    fn new(number: usize, vip: SocketAddr) -> Self {
        Self {
            number,
            vip,
            runtime: Builder::new_current_thread().enable_all().build().ok(),
            client: None,
        }
    }

    async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        let is_closed = |client: &tokio_postgres::Client| client.is_closed();
        if self.client.as_ref().is_none_or(is_closed) {
            let mut config = tokio_postgres::Config::new();
            config.host(self.vip.ip().to_string()).port(self.vip.port());
            config.user("postgres").dbname("postgres");
            let connected = config.connect(NoTls).await;
            let (client, connection) = connected.map_err(|error| failure(&error))?;
            tokio::spawn(connection);
            self.client = Some(client);
        }
        let client = self.client.as_ref().ok_or(Failure::Local)?;
        let ran = client.simple_query(sql).await;
        ran.map(drop).map_err(|error| failure(&error))
    }
}

impl Client for Session {
    fn ask(&mut self, number: u64, is_write: bool) -> Result<(), Failure> {
        let sql = if is_write {
            format!("INSERT INTO visits VALUES ({}, {number})", self.number)
        } else {
            format!("SELECT title FROM pages WHERE id = {}", number % PAGES)
        };
        let runtime = self.runtime.take().ok_or(Failure::Local)?;
        let answer = runtime.block_on(async {
            let answer = tokio::time::timeout(PATIENCE, self.run(&sql)).await;
            answer.unwrap_or(Err(Failure::TimedOut))
        });
        self.runtime = Some(runtime);
        if answer == Err(Failure::TimedOut) {
            self.client = None;
        }
        answer
    }
}

fn failure(error: &tokio_postgres::Error) -> Failure {
    let unknown = [
        SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
    ];
    match error.code() {
        Some(state) if unknown.contains(state) => Failure::Unknown,
        Some(state) => {
            let state = state.code().as_bytes().try_into();
            state.map_or(Failure::Garbled, Failure::Sql)
        }
        None => Failure::Closed,
    }
}
