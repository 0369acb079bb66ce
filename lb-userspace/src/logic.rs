//! `lb logic`: the daemon on a logic server. It speaks PostgreSQL's protocol, Redis's (RESP) and HTTP
//! to clients, and stands in front of the databases and the caches.
//!
//! The main thread listens to signals, commands and scrapers, and runs what each tier does in the
//! background. One thread a core serves clients, on a runtime of its own: a connection stays on the
//! thread that accepted it, and threads share only what [`Tier`] objects hold. A tier plugs in by
//! being one, in [`tiers`]; nothing else here knows what it does.

mod answer;
mod exposition;
mod http;
mod metrics;
mod postgres;
mod resp;
mod tier;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

pub(crate) use self::exposition::{Exposition, Kind};
pub(crate) use self::tier::{Phase, Tier, Worker};
use crate::config::{Config, LogicConfig};
use crate::control::server;
use crate::runtime::{self, Asked, Signals};
use crate::telemetry::scrape;

/// How long listeners stay open after `/readyz` began to fail, so that gateways see it first.
const NOTICE: Duration = Duration::from_millis(500);
/// How long clients may take to finish when the daemon stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests of commands that wait to be answered.
const CALLS_MAX: usize = 64;

/// What the main thread and the scrapers share.
pub(crate) struct Daemon {
    config: Mutex<InForce>,
    started: Timestamp,
    threads: usize,
    tiers: Vec<Arc<dyn Tier>>,
    phase: watch::Sender<Phase>,
}

/// The configuration in force.
struct InForce {
    config: Arc<LogicConfig>,
    since: Timestamp,
    error: Option<String>,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// If the configuration is refused, or an address cannot be listened at.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load_logic(path)?;
    runtime::block_on_one_thread(serve(config))?
}

/// The tiers that the configuration has, each listening already.
fn tiers(
    config: &LogicConfig,
    threads: usize,
    phase: &watch::Receiver<Phase>,
) -> anyhow::Result<Vec<Arc<dyn Tier>>> {
    let mut tiers: Vec<Arc<dyn Tier>> = Vec::new();
    if config.logic.postgres.is_some() {
        tiers.push(postgres::Postgres::listen(config, threads)?);
    }
    if config.logic.resp.is_some() {
        tiers.push(resp::Resp::listen(config, threads)?);
    }
    if config.logic.http.is_some() {
        tiers.push(http::Http::listen(config, threads, phase.clone())?);
    }
    Ok(tiers)
}

async fn serve(config: LogicConfig) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let threads = config.logic.threads.unwrap_or_else(cores);
    let (calls, mut asked) = mpsc::channel(CALLS_MAX);
    let control = config.logic.control.clone();
    // Before the tiers: whoever can be served can also be asked how.
    let _control = server::Server::listen(&control, calls)
        .with_context(|| format!("cannot listen at {}", control.display()))?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let tiers = tiers(&config, threads, &watched)?;
    let metrics = config.logic.metrics;
    let daemon = Arc::new(Daemon {
        config: Mutex::new(InForce {
            config: Arc::new(config),
            since: Timestamp::now(),
            error: None,
        }),
        started: Timestamp::now(),
        threads,
        tiers,
        phase,
    });
    http::tell(&daemon);
    let _metrics = match metrics {
        Some(address) => {
            let shown = Arc::clone(&daemon);
            let listener =
                scrape::Listener::bind_local(address, "lb logic", move || metrics::render(&shown))
                    .await;
            Some(listener.with_context(|| format!("cannot serve metrics at {address}"))?)
        }
        None => None,
    };
    let mut background = tokio::task::JoinSet::new();
    for tier in &daemon.tiers {
        background.spawn_local(Arc::clone(tier).background());
    }
    let (ended, mut all_ended) = mpsc::channel::<()>(1);
    for index in 0..threads {
        daemon.start_worker(index, ended.clone())?;
    }
    drop(ended);
    runtime::notify_ready();
    tracing::info!(threads, "serving");
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => { let _ = daemon.reload(); }
                Asked::Stop => break,
            },
            Some(call) = asked.recv() => answer::answer(&daemon, call).await,
            // Threads end when they are told to; one that ends by itself has failed.
            _ = all_ended.recv() => anyhow::bail!("every thread that serves has ended"),
        }
    }
    runtime::notify_stopping();
    tracing::info!("stopping when clients have finished");
    let drained = async {
        daemon.phase.send_replace(Phase::Unready);
        tokio::time::sleep(NOTICE).await;
        daemon.phase.send_replace(Phase::Draining);
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while daemon.tiers.iter().any(|tier| tier.clients() > 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("stopping although clients still work");
        }
    };
    tokio::select! {
        () = drained => {}
        // A second signal means now.
        _ = signals.next() => {}
    }
    daemon.phase.send_replace(Phase::Stopped);
    let _ = tokio::time::timeout(Duration::from_secs(1), all_ended.recv()).await;
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Daemon {
    /// Starts a thread that serves every tier's clients. It drops `ended` when it ends.
    fn start_worker(self: &Arc<Self>, index: usize, ended: mpsc::Sender<()>) -> anyhow::Result<()> {
        let daemon = Arc::clone(self);
        runtime::spawn_thread(format!("serve-{index}"), move || async move {
            let mut tasks = tokio::task::JoinSet::new();
            for tier in &daemon.tiers {
                let phase = daemon.phase.subscribe();
                let worker = Worker { phase };
                tasks.spawn_local(Arc::clone(tier).serve(worker));
            }
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a thread that serves has failed");
                }
            }
            drop(ended);
        })
        .context("cannot start a thread")?;
        Ok(())
    }

    /// Whether clients can be served: by one of the tiers at least.
    fn ready(&self) -> Result<(), String> {
        if *self.phase.borrow() != Phase::Serving {
            return Err("stopping".into());
        }
        let mut reasons = Vec::new();
        for tier in &self.tiers {
            match tier.ready() {
                Some(Ok(())) => return Ok(()),
                Some(Err(reason)) => reasons.push(format!("{}: {reason}", tier.name())),
                None => {}
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(reasons.join("; "))
    }

    /// Reads the configuration again. What is refused changes nothing.
    fn reload(&self) -> anyhow::Result<()> {
        let outcome = self.try_reload();
        let mut in_force = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(config) => {
                in_force.config = Arc::clone(config);
                in_force.since = Timestamp::now();
                in_force.error = None;
                tracing::info!("the configuration was read again");
            }
            Err(error) => {
                in_force.error = Some(format!("{error:#}"));
                tracing::error!("the configuration stays as it was: {error:#}");
            }
        }
        outcome.map(drop)
    }

    fn try_reload(&self) -> anyhow::Result<Arc<LogicConfig>> {
        let config = Arc::new(Config::load_logic(&self.config().source)?);
        for tier in &self.tiers {
            tier.reload(&config)
                .with_context(|| format!("the {} listener", tier.name()))?;
        }
        Ok(config)
    }

    fn config(&self) -> Arc<LogicConfig> {
        let in_force = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&in_force.config)
    }
}
