//! What is done to the cache tier: a layer-one server is killed, another frozen, and both return.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::load::Failure;
use lb_tests::redis::{Connection, Place, Reply};
use lb_userspace::control::CacheServerStatus;

use super::clients::Client;
use super::scene::{Scene, Show};
use super::served::Count;
use super::{Data, REDIS_PORT};
use crate::act::Act;
use crate::measure::Kind;
use crate::stage::Stage;

const SHOW: Show = Show {
    tier: "cache",
    title: "Cache reads per second by server (one request of five is a write)",
    why_writes_wait: "Writes wait for Sentinel's verdict.",
};
/// Keys of the clients.
const KEYS: u64 = 1000;
/// When a client gives a request up. Writes wait for Sentinel's verdict.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that does not say sooner what it has counted is not counted now.
const COUNT_PATIENCE: Duration = Duration::from_millis(50);

/// Plays all of it; adds what came of it, also if it is broken off.
///
/// # Errors
/// If something does not happen that should, or the demo is interrupted.
pub fn play(stage: &mut Stage, data: &mut Data, acts: &mut Vec<Act>) -> Result<()> {
    fill(data)?;
    let counts = counts(data);
    let (from, vip) = data.at(REDIS_PORT);
    let client = move |seed| Visitor {
        from: from.clone(),
        vip,
        connection: None,
        seed: seed as u64,
    };
    let mut scene = Scene::begin(stage, data, SHOW, counts, client);
    let played = play_faults(&mut scene);
    scene.end(acts);
    played
}

fn play_faults(scene: &mut Scene<'_>) -> Result<()> {
    scene.warm_up()?;
    let text = "kill it (SIGKILL): Sentinel will promote its copy";
    let at = scene.mark("cache-1", "killed", text);
    scene.data.caches.server("cache-1")?.kill()?;
    let known = scene.known("cache-1 to be missed", |data| {
        data.all_say("cache-1", is_lost)
    })?;
    scene.finish("cache killed", "cache-1", Kind::Lost, at, known)?;

    let at = scene.mark("cache-1", "returned", "start it again: it becomes a copy");
    scene.data.caches.server("cache-1")?.start_as_first()?;
    let known = scene.known("cache-1 to be a copy", |data| is_a_copy(data, 0))?;
    scene.finish("cache returned", "cache-1", Kind::Returned, at, known)?;

    let text = "freeze it (SIGSTOP): its sockets stay open, nobody answers";
    let at = scene.mark("cache-2", "frozen", text);
    scene.data.caches.server("cache-2")?.freeze()?;
    let known = scene.known("cache-2 to be missed", |data| {
        data.all_say("cache-2", is_lost)
    })?;
    scene.finish("cache frozen", "cache-2", Kind::Lost, at, known)?;

    let text = "it goes on, with everything that it knew then";
    let at = scene.mark("cache-2", "thawed", text);
    scene.data.caches.server("cache-2")?.thaw()?;
    let known = scene.known("cache-2 to be a copy", |data| is_a_copy(data, 1))?;
    scene.finish("cache thawed", "cache-2", Kind::Returned, at, known)
}

fn is_lost(server: &CacheServerStatus) -> bool {
    server.state != "up"
}

/// Whether a server that returned follows the one that was promoted, and every logic server says
/// that it is the copy.
fn is_a_copy(data: &Data, number: usize) -> bool {
    let server = &data.caches.primaries[number];
    let address = server.address().to_string();
    let follows = server.info("master_link_status").is_ok_and(|is| is == "up");
    follows
        && data.all_say(server.name(), |shown| {
            shown.state == "up" && shown.copy.as_ref() == Some(&address)
        })
}

/// Every key has a value before the clients start.
fn fill(data: &Data) -> Result<()> {
    let (from, vip) = data.at(REDIS_PORT);
    let mut connection = Connection::open(&from, vip)?;
    for key in 0..KEYS {
        let reply = connection.command(&["HSET", &name(key), "visits", "0"])?;
        ensure!(!reply.is_error(), "the caches take no write: {reply:?}");
    }
    Ok(())
}

fn name(key: u64) -> String {
    format!("page:{key}")
}

/// Reads by the caches' own counts: their clients cannot tell who answers.
fn counts(data: &Data) -> Vec<Count> {
    let servers = data.caches.primaries.iter().chain(&data.caches.copies);
    let count = |server: &lb_tests::redis::Redis| {
        let (place, address) = (server.place().clone(), server.address());
        let mut connection = None;
        Count::new(server.name(), move || {
            let reads = reads(&mut connection, &place, address);
            if reads.is_none() {
                connection = None;
            }
            reads
        })
    };
    servers.map(count).collect()
}

fn reads(connection: &mut Option<Connection>, place: &Place, address: SocketAddr) -> Option<u64> {
    if connection.is_none() {
        let opened = Connection::open(place, address).ok()?;
        opened.patience(COUNT_PATIENCE).ok()?;
        *connection = Some(opened);
    }
    let reply = connection.as_mut()?.command(&["INFO", "commandstats"]);
    let Reply::Bulk(Some(text)) = reply.ok()? else {
        return None;
    };
    let text = String::from_utf8(text).ok()?;
    let mut lines = text.lines();
    match lines.find_map(|line| line.strip_prefix("cmdstat_hget:calls=")) {
        Some(calls) => calls.split(',').next()?.parse().ok(),
        None => Some(0),
    }
}

/// A client that keeps its connection as long as it works.
struct Visitor {
    from: Place,
    vip: SocketAddr,
    connection: Option<Connection>,
    seed: u64,
}

impl Visitor {
    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        if self.connection.is_none() {
            let opened = Connection::open(&self.from, self.vip).map_err(|_| Failure::Refused)?;
            opened.patience(PATIENCE).map_err(|_| Failure::Local)?;
            self.connection = Some(opened);
        }
        self.connection.as_mut().ok_or(Failure::Local)
    }
}

impl Client for Visitor {
    fn ask(&mut self, number: u64, is_write: bool) -> Result<(), Failure> {
        // Spread over all keys, the same in every run.
        let key = name((number * 7919 + self.seed * 104_729) % KEYS);
        let value = number.to_string();
        let connection = self.connection()?;
        let reply = if is_write {
            connection.command(&["HSET", &key, "visits", &value])
        } else {
            connection.command(&["HGET", &key, "visits"])
        };
        match reply {
            Ok(Reply::Integer(_) | Reply::Bulk(Some(_))) => Ok(()),
            Ok(Reply::Bulk(None) | Reply::Null) => Err(Failure::Missing),
            // Whatever it says, lb does not know what became of a write that a server had.
            Ok(Reply::Error(_)) if is_write => Err(Failure::Unknown),
            Ok(_) => Err(Failure::Garbled),
            Err(_) => {
                self.connection = None;
                Err(Failure::Closed)
            }
        }
    }
}
