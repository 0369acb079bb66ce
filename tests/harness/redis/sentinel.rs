//! Redis Sentinels: who decides which server of a pair is the primary.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Connection, Place, READY_MAX, Redis, Reply, tool};
use crate::process::Process;
use crate::run_directory::RunDirectory;
use crate::wait;

const PORT: u16 = 26_379;
/// They find each other through the servers, by greetings every two seconds.
const WATCHED_MAX: Duration = Duration::from_secs(30);

/// How fast Sentinels decide.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Milliseconds of silence after which one calls a server down.
    pub down_after_ms: u32,
    /// Milliseconds until another attempt at a promotion.
    pub failover_timeout_ms: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            down_after_ms: 300,
            failover_timeout_ms: 2_000,
        }
    }
}

/// One Sentinel; ended and reaped on drop.
#[derive(Debug)]
pub struct Sentinel {
    place: Place,
    port: u16,
    process: Process,
}

impl Sentinel {
    /// Starts one that watches these primaries with `quorum` others.
    ///
    /// # Errors
    /// If it is not installed, or does not start.
    pub fn start(
        run: &RunDirectory,
        place: &Place,
        name: &str,
        primaries: &[&Redis],
        quorum: usize,
        pace: Pace,
    ) -> Result<Self> {
        let port = place.port(PORT)?;
        let directory = run.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let mut text = format!(
            "port {port}\nbind {}\ndir {}\nprotected-mode no\ndaemonize no\n",
            place.address(),
            directory.display()
        );
        for primary in primaries {
            let (name, address) = (primary.name(), primary.address());
            let Pace {
                down_after_ms,
                failover_timeout_ms,
            } = pace;
            let _ = write!(
                text,
                "sentinel monitor {name} {} {} {quorum}\n\
                 sentinel down-after-milliseconds {name} {down_after_ms}\n\
                 sentinel failover-timeout {name} {failover_timeout_ms}\n\
                 sentinel parallel-syncs {name} 1\n",
                address.ip(),
                address.port()
            );
        }
        let config: PathBuf = directory.join("sentinel.conf");
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut command = tool("redis-sentinel")?;
        command.arg(&config);
        let mut process = place.spawn(name, &mut command, &run.logs())?;
        let address = SocketAddr::new(place.address().into(), port);
        process.wait_until("Sentinel answers", READY_MAX, || {
            Connection::open(place, address)
                .and_then(|mut connection| connection.command(&["PING"]))
                .is_ok()
        })?;
        Ok(Self {
            place: place.clone(),
            port,
            process,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address().into(), self.port)
    }

    /// The host that it runs on.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The process, to be killed, frozen or waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A connection from its own host.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.place, self.address())
    }

    /// Who it says is the primary of this name.
    ///
    /// # Errors
    /// If it does not answer, or knows none.
    pub fn primary(&self, name: &str) -> Result<SocketAddr> {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name];
        let reply = self.connect()?.command(&words)?;
        let Reply::Array(Some(parts)) = &reply else {
            anyhow::bail!("{name}: {reply:?}");
        };
        let parts: Vec<String> = parts.iter().map(Reply::text).collect();
        Ok(parts.join(":").parse()?)
    }

    /// Waits until it knows so many copies of a primary and so many other Sentinels: before that
    /// it could promote nobody.
    ///
    /// # Errors
    /// At the deadline.
    pub fn wait_until_watched(&self, name: &str, copies: usize, others: usize) -> Result<()> {
        wait::until(
            &format!("Sentinel to know all of {name}"),
            WATCHED_MAX,
            || {
                let field = |field: &str| -> Option<String> {
                    let words = ["SENTINEL", "MASTER", name];
                    let reply = self.connect().ok()?.command(&words).ok()?;
                    reply.field(field)
                };
                field("num-slaves").is_some_and(|count| count == copies.to_string())
                    && field("num-other-sentinels").is_some_and(|count| count == others.to_string())
            },
        )
    }
}
