//! The PostgreSQL listener: clients speak to `lb logic` as to one server, and it sends their
//! statements to whichever server of the database may answer them.
//!
//! The main thread watches the servers. Each serving thread has its own sessions and connections;
//! threads share the picture of the servers, and counts. docs/logic.md says what clients can rely on.

mod classes;
mod cluster;
mod epochs;
mod hedging;
mod login;
mod picture;
mod pool;
mod session;
mod shared;
mod show;
mod watch;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::sync::mpsc;

use self::cluster::Cluster;
use self::epochs::Epochs;
use self::shared::{Cancel, Shared, Terms};
use super::{Exposition, Phase, Tier};
use crate::config::{Database, LogicConfig};
use crate::control::TierStatus;
use crate::runtime;
use crate::upstream::postgres::Credentials;

/// How often connections that rest, and a new configuration, are looked after.
const TICK: Duration = Duration::from_millis(200);
/// Cancel requests that wait for the thread that has their client.
const CANCELS_MAX: usize = 256;

/// What one thread serves with.
struct Part {
    /// Its number, by which cancel requests find it.
    index: usize,
    listener: TcpListener,
    cancelled: mpsc::Receiver<Cancel>,
}

/// The tier.
pub(super) struct Postgres {
    address: SocketAddr,
    databases: Vec<Database>,
    /// One for each thread: its listener, and the cancel requests for its clients.
    parts: Mutex<Vec<Part>>,
    shared: Arc<Shared>,
}

impl Postgres {
    /// Listens at `[logic].postgres.listen`.
    ///
    /// # Errors
    /// The kernel's; if users or certificates cannot be read; if there is no `[[database]]`.
    pub fn listen(config: &LogicConfig, threads: usize) -> anyhow::Result<Arc<dyn Tier>> {
        let postgres = config.logic.postgres.as_ref().context("has no listener")?;
        anyhow::ensure!(
            !config.databases.is_empty(),
            "[logic].postgres needs a [[database]] to stand in front of"
        );
        let terms = Terms::of(config, postgres);
        terms.door()?;
        let epochs = Arc::new(Epochs::load(&config.logic.state)?);
        let clusters = config
            .databases
            .iter()
            .map(|database| anyhow::Ok(Arc::new(Cluster::new(database, &epochs)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let listeners = runtime::listen_shared(postgres.listen, threads)
            .with_context(|| format!("cannot listen at {}", postgres.listen))?;
        let (cancels, cancelled): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::channel(CANCELS_MAX)).unzip();
        let parts = listeners.into_iter().zip(cancelled).enumerate();
        let parts = parts
            .map(|(index, (listener, cancelled))| Part {
                index,
                listener,
                cancelled,
            })
            .collect();
        Ok(Arc::new(Self {
            address: postgres.listen,
            databases: config.databases.clone(),
            parts: Mutex::new(parts),
            shared: Arc::new(Shared::new(clusters, threads, cancels, terms)),
        }))
    }

    /// What the watch logs in with.
    fn link_credentials(&self) -> Credentials {
        let door = self.shared.terms().door();
        door.map(|door| door.users.credentials(watch::USER))
            .unwrap_or_default()
    }
}

/// Serves the clients of one thread.
async fn serve_thread(shared: Arc<Shared>, part: Part, thread: super::Worker) {
    let mut cancelled = part.cancelled;
    let worker = match worker::Worker::new(&shared, part.index) {
        Ok(worker) => worker,
        Err(error) => return tracing::error!("a thread cannot serve PostgreSQL: {error:#}"),
    };
    let Ok(listener) = tokio::net::TcpListener::from_std(part.listener) else {
        return tracing::error!("a thread cannot listen for PostgreSQL clients");
    };
    for cluster in 0..shared.clusters.len() {
        tokio::task::spawn_local(Rc::clone(&worker).follow(cluster));
    }
    tokio::task::spawn_local(hedging::wake_late(Rc::clone(&worker)));
    let mut phase = thread.phase;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_open = true;
    loop {
        tokio::select! {
            accepted = listener.accept(), if is_open => match accepted {
                Ok((stream, address)) => {
                    tokio::task::spawn_local(login::serve(Rc::clone(&worker), stream, address));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(TICK).await;
                }
            },
            Some((process, secret)) = cancelled.recv() => {
                login::cancel_here(&worker, process, &secret);
            }
            _ = ticks.tick() => {
                worker.tick();
                if !is_open {
                    worker.clients.all().iter().for_each(|client| client.ask_to_leave());
                }
            }
            changed = phase.changed() => {
                let now = *phase.borrow_and_update();
                is_open &= now < Phase::Draining;
                if changed.is_err() || now == Phase::Stopped {
                    return;
                }
            }
        }
    }
}

impl Tier for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn serve(self: Arc<Self>, worker: super::Worker) -> LocalBoxFuture<'static, ()> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.pop();
        drop(parts);
        let shared = Arc::clone(&self.shared);
        async move {
            if let Some(part) = part {
                serve_thread(shared, part, worker).await;
            }
        }
        .boxed_local()
    }

    fn background(self: Arc<Self>) -> LocalBoxFuture<'static, ()> {
        let credentials = self.link_credentials();
        watch::follow(self.shared.clusters.clone(), credentials).boxed_local()
    }

    fn ready(&self) -> Option<Result<(), String>> {
        let mut reasons = Vec::new();
        for cluster in &self.shared.clusters {
            match cluster.ready() {
                Ok(()) => return Some(Ok(())),
                Err(why) => reasons.push(why),
            }
        }
        Some(Err(reasons.join("; ")))
    }

    fn clients(&self) -> u64 {
        self.shared.clients.load(Ordering::Relaxed)
    }

    fn reload(&self, config: &LogicConfig) -> anyhow::Result<()> {
        let postgres = config.logic.postgres.as_ref();
        let postgres = postgres.context("taking the listener away needs a restart")?;
        anyhow::ensure!(
            config.databases == self.databases,
            "other servers of [[database]] need a restart"
        );
        if postgres.listen != self.address {
            tracing::warn!(
                "still listening at {}: another needs a restart",
                self.address
            );
        }
        let terms = Terms::of(config, postgres);
        terms.door()?;
        self.shared.change(terms);
        Ok(())
    }

    fn status(&self) -> TierStatus {
        let ready = self.ready().unwrap_or(Ok(()));
        TierStatus {
            name: self.name().into(),
            listen: vec![self.address.to_string()],
            ready: ready.is_ok(),
            reason: ready.err(),
            clients: self.clients(),
            counts: show::counts(&self.shared),
        }
    }

    fn expose(&self, out: &mut Exposition) {
        show::expose(&self.shared, out);
    }
}
