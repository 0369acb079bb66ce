//! What all threads of the listener share: the clusters, the terms in force, and the way to the
//! thread that has a client, for cancel requests.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc;

use super::classes::Slots;
use super::cluster::{Cluster, Count};
use crate::config::{DbTls, LogicConfig, LogicPostgres, ReadRoute};
use crate::downstream::postgres::Door;
use crate::downstream::postgres::users::Users;
use crate::transport::tls::Acceptor;

/// The most bytes of an answer that are held until it is complete.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// What a reload can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub route: ReadRoute,
    pub failover_timeout: Duration,
    pub read_buffer: usize,
    users_file: Option<PathBuf>,
    tls: Option<DbTls>,
}

impl Terms {
    pub fn of(config: &LogicConfig, postgres: &LogicPostgres) -> Self {
        Self {
            route: postgres.route,
            failover_timeout: postgres.failover_timeout,
            read_buffer: READ_BUFFER_BYTES,
            users_file: postgres.users_file.clone(),
            tls: config.logic.tls.clone(),
        }
    }

    /// Reads users and certificates.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn door(&self) -> anyhow::Result<Door> {
        Ok(Door {
            users: Rc::new(Users::load(self.users_file.as_deref())?),
            looked_up: None,
            acceptor: self.tls.as_ref().map(Acceptor::load).transpose()?,
            // Without users, everybody is who they say; the databases' own proxies check.
            trusts: self.users_file.is_none(),
        })
    }
}

/// A cancel request for the thread that has the client.
pub(super) type Cancel = (u32, Vec<u8>);

/// What all threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub clusters: Vec<Arc<Cluster>>,
    /// By database.
    pub catalogs: Slots,
    pub threads: usize,
    /// By thread.
    pub cancels: Vec<mpsc::Sender<Cancel>>,
    pub clients: AtomicU64,
    pub logins: Count,
    pub logins_refused: Count,
    pub cancel_requests: Count,
    terms: RwLock<Arc<Terms>>,
}

impl Shared {
    pub fn new(
        clusters: Vec<Arc<Cluster>>,
        threads: usize,
        cancels: Vec<mpsc::Sender<Cancel>>,
        terms: Terms,
    ) -> Self {
        Self {
            clusters,
            catalogs: Slots::default(),
            threads,
            cancels,
            clients: AtomicU64::new(0),
            logins: Count::default(),
            logins_refused: Count::default(),
            cancel_requests: Count::default(),
            terms: RwLock::new(Arc::new(terms)),
        }
    }

    /// The terms in force.
    pub fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Threads take them at their next tick. Also the same terms: the files may be others.
    pub fn change(&self, terms: Terms) {
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(terms);
    }

    /// The cluster that serves a database name: one that names it, before one that takes all.
    pub fn cluster_of(&self, database: &str) -> Option<usize> {
        let of = |wanted: &str| {
            self.clusters
                .iter()
                .position(|cluster| cluster.databases.iter().any(|name| name == wanted))
        };
        of(database).or_else(|| of("*"))
    }
}
