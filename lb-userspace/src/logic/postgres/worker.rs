//! What the sessions of one thread share: settings and statements, connections that rest, room to
//! read into, and what was learned of statements and servers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::classes::Classes;
use super::hedging::Hedging;
use super::pool::{Bound, Pool, Upstream};
use super::session::Identity;
use super::shared::{Shared, Terms};
use crate::config::ReadRoute;
use crate::downstream::postgres::Door;
use crate::downstream::postgres::clients::Clients;
use crate::failover::ServerId;
use crate::upstream::postgres::settings::{self, Settings};
use crate::upstream::postgres::{Connector, ServerError, Who, statements};

/// Bytes that are read at a time, from whichever side.
const SCRATCH_BYTES: usize = 64 << 10;
/// For how long a server is left alone that failed somebody of this thread.
const AVOIDED_FOR: Duration = Duration::from_millis(50);

/// Room to read into and to write in, shared by all tasks of the thread.
#[derive(Debug)]
pub(super) struct Scratch {
    pub read: Box<[u8]>,
    pub out: Vec<u8>,
}

/// One thread's part of the listener.
pub(super) struct Worker {
    pub shared: Arc<Shared>,
    pub clients: Rc<Clients>,
    pub settings: settings::Table,
    pub statements: statements::Table,
    pub scratch: RefCell<Scratch>,
    pub pool: Pool,
    pub classes: Classes,
    pub hedging: Hedging,
    /// Room for the servers that may answer a read.
    pub order: RefCell<Vec<ServerId>>,
    terms: RefCell<Arc<Terms>>,
    door: RefCell<Rc<Door>>,
    last_stamp: Cell<u64>,
    avoided: RefCell<HashMap<(usize, usize), Instant>>,
    /// By cluster: how often something was to be looked at anew, because its picture took a turn, or
    /// somebody may have waited long enough.
    turns: Vec<Cell<u64>>,
    /// By cluster and server.
    connectors: Vec<Vec<Rc<Connector>>>,
}

impl Worker {
    /// # Errors
    /// If users or certificates cannot be read.
    pub fn new(shared: &Arc<Shared>, index: usize) -> anyhow::Result<Rc<Self>> {
        let settings = settings::Table::default();
        let terms = shared.terms();
        let connectors = shared
            .clusters
            .iter()
            .map(|cluster| {
                let servers = 0..cluster.servers.len();
                servers.map(|server| cluster.connector(server)).collect()
            })
            .collect();
        Ok(Rc::new(Self {
            clients: Rc::new(Clients::of_thread(index, shared.threads)),
            settings,
            statements: statements::Table::default(),
            scratch: RefCell::new(Scratch {
                read: vec![0; SCRATCH_BYTES].into_boxed_slice(),
                out: Vec::new(),
            }),
            pool: Pool::default(),
            classes: Classes::default(),
            hedging: Hedging::new(shared.clusters.len()),
            order: RefCell::default(),
            door: RefCell::new(Rc::new(terms.door()?)),
            terms: RefCell::new(terms),
            last_stamp: Cell::new(0),
            avoided: RefCell::default(),
            turns: shared.clusters.iter().map(|_| Cell::new(0)).collect(),
            connectors,
            shared: Arc::clone(shared),
        }))
    }

    /// What clients are let in by, as it is now.
    pub fn door(&self) -> Rc<Door> {
        Rc::clone(&self.door.borrow())
    }

    /// Once every tick: takes a new configuration, and closes what rested too long.
    pub fn tick(&self) {
        let now = Instant::now();
        self.pool.sweep(now);
        self.avoided.borrow_mut().retain(|_, until| *until > now);
        for (cluster, turn) in self.shared.clusters.iter().zip(&self.turns) {
            // Whoever waits for a server that hangs does not wait for ever.
            if cluster.view().is_disturbed() {
                turn.set(turn.get() + 1);
                self.clients.wake_served();
            }
        }
        let terms = self.shared.terms();
        if Arc::ptr_eq(&terms, &self.terms.borrow()) {
            return;
        }
        match terms.door() {
            Ok(door) => *self.door.borrow_mut() = Rc::new(door),
            Err(error) => tracing::error!("users and certificates stay as they were: {error:#}"),
        }
        *self.terms.borrow_mut() = terms;
    }

    pub fn route(&self) -> ReadRoute {
        self.terms.borrow().route
    }

    pub fn failover_timeout(&self) -> Duration {
        self.terms.borrow().failover_timeout
    }

    /// The most bytes of an answer, or of a segment, that are held.
    pub fn read_buffer(&self) -> usize {
        self.terms.borrow().read_buffer
    }

    /// The most bytes of a client that are read ahead.
    pub fn input_bytes_max(&self) -> usize {
        self.read_buffer() + SCRATCH_BYTES
    }

    pub fn next_stamp(&self) -> u64 {
        self.last_stamp.set(self.last_stamp.get() + 1);
        self.last_stamp.get()
    }

    /// A server failed somebody.
    pub fn avoid(&self, cluster: usize, server: usize, now: Instant) {
        let until = now + AVOIDED_FOR;
        self.avoided.borrow_mut().insert((cluster, server), until);
    }

    /// Whether a server failed somebody a moment ago.
    pub fn is_avoided(&self, cluster: usize, server: usize, now: Instant) -> bool {
        let avoided = self.avoided.borrow();
        !avoided.is_empty()
            && avoided
                .get(&(cluster, server))
                .is_some_and(|until| *until > now)
    }

    /// Another number whenever a cluster is to be looked at anew.
    pub fn turn(&self, cluster: usize) -> u64 {
        self.turns[cluster].get()
    }

    /// Follows a cluster's turns, and wakes every session at each.
    pub async fn follow(self: Rc<Self>, cluster: usize) {
        let mut turns = self.shared.clusters[cluster].turns();
        loop {
            turns.borrow_and_update();
            self.turns[cluster].set(self.turns[cluster].get() + 1);
            self.clients.wake_all();
            if turns.changed().await.is_err() {
                return;
            }
        }
    }

    /// A connection to a server that agrees with `settings`: the one given, one that rests, or a new
    /// one.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn prepare(
        &self,
        who: &Identity,
        server: usize,
        had: Option<Box<Upstream>>,
        settings: &Settings,
    ) -> Result<Box<Upstream>, ServerError> {
        let had = had.or_else(|| self.pool.take(&who.key(server), settings));
        let mut upstream = match had {
            Some(upstream) => upstream,
            None => Box::new(self.connect(who, server).await?),
        };
        upstream.agree_singly(settings).await?;
        Ok(upstream)
    }

    async fn connect(&self, who: &Identity, server: usize) -> Result<Upstream, ServerError> {
        let connector = &self.connectors[who.position][server];
        let login = Who {
            user: &who.user,
            database: &who.database,
            credentials: &who.credentials,
        };
        let tie = |is_linked| Bound {
            server,
            is_linked,
            told: 0,
        };
        connector
            .connect_linked(login, &who.parameters, who.base.clone(), tie)
            .await
    }
}
