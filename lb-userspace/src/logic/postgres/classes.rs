//! Which statements only read: the classifier with the catalog of each database, and what standbys
//! refused in spite of it.
//!
//! Threads share one catalog a database; a task of one of them loads it, and looks every second and
//! whenever a name was missing whether it is still right. While there is none, hardly anything is
//! known to read, and the primary does it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::session::Identity;
use super::worker::Worker;
use crate::sql::{self, Cache, Catalog, Class};
use crate::upstream::postgres::{Row, ServerError};

/// How often it is looked whether a catalog is still right.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often at most.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(50);
/// How long loading may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most statements that are remembered because a standby refused them.
const REFUSED_MAX: usize = 10_000;
/// The most databases whose catalogs are held; in further ones everything goes to the primary.
const CATALOGS_MAX: usize = 1000;

/// The catalog of one database, shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Slot {
    catalog: RwLock<Arc<Catalog>>,
    generation: AtomicU64,
    /// Somebody missed a name.
    wanted: Notify,
    is_loading: AtomicBool,
    sessions: AtomicUsize,
}

/// Every database's.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<BySlot>);

/// By cluster and database.
type BySlot = HashMap<(usize, Box<str>), Arc<Slot>>;

impl Slots {
    fn of(&self, cluster: usize, database: &str) -> Option<Arc<Slot>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cluster, database.into());
        if let Some(slot) = slots.get(&key) {
            return Some(Arc::clone(slot));
        }
        if slots.len() >= CATALOGS_MAX {
            slots.retain(|_, slot| slot.sessions.load(Ordering::Relaxed) > 0);
        }
        (slots.len() < CATALOGS_MAX).then(|| Arc::clone(slots.entry(key).or_default()))
    }
}

/// What one thread knows of a database's statements.
#[derive(Default)]
pub(super) struct Known {
    slot: Option<Arc<Slot>>,
    catalog: RefCell<Arc<Catalog>>,
    generation: Cell<u64>,
    cache: RefCell<Cache>,
    /// Hashes of statements that look like reads and are none.
    refused: RefCell<HashSet<u64>>,
}

/// A session's hold on what is known of its database.
pub(super) struct Hold(Rc<Known>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(slot) = &self.0.slot {
            slot.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl std::ops::Deref for Hold {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

/// What one thread knows, by cluster and database.
#[derive(Default)]
pub(super) struct Classes(RefCell<ByKnown>);

/// By cluster and database.
type ByKnown = HashMap<(usize, Rc<str>), Rc<Known>>;

impl Classes {
    /// For a session that begins; has the catalog loaded if nobody does yet.
    pub fn hold(&self, worker: &Rc<Worker>, who: &Rc<Identity>, shard: usize) -> Hold {
        let mut all = self.0.borrow_mut();
        let key = (who.position, Rc::clone(&who.database));
        if all.len() >= CATALOGS_MAX {
            all.retain(|_, known| Rc::strong_count(known) > 1);
        }
        let known = all.entry(key).or_insert_with(|| {
            Rc::new(Known {
                slot: worker.shared.catalogs.of(who.position, &who.database),
                ..Known::default()
            })
        });
        if let Some(slot) = &known.slot {
            slot.sessions.fetch_add(1, Ordering::Relaxed);
            if !slot.is_loading.swap(true, Ordering::Relaxed) {
                let (worker, who) = (Rc::clone(worker), Rc::clone(who));
                tokio::task::spawn_local(keep(worker, who, shard, Arc::clone(slot)));
            }
        }
        Hold(Rc::clone(known))
    }
}

impl Known {
    /// Whether a query is known to read only.
    pub fn only_reads(&self, sql: &[u8]) -> bool {
        let class = self.class(sql);
        if class.lacks_names()
            && let Some(slot) = &self.slot
        {
            slot.wanted.notify_one();
        }
        class.is_read() && !self.is_refused(sql)
    }

    fn class(&self, sql: &[u8]) -> Class {
        if let Some(slot) = &self.slot {
            let generation = slot.generation.load(Ordering::Acquire);
            if generation != self.generation.get() {
                let catalog = slot.catalog.read().unwrap_or_else(PoisonError::into_inner);
                *self.catalog.borrow_mut() = Arc::clone(&catalog);
                self.generation.set(generation);
            }
        }
        let catalog = self.catalog.borrow();
        self.cache.borrow_mut().classify(sql, &catalog)
    }

    /// Whether a standby refused a statement with this text.
    pub fn is_refused(&self, sql: &[u8]) -> bool {
        let refused = self.refused.borrow();
        !refused.is_empty() && refused.contains(&hash(sql))
    }

    /// A standby refused a statement.
    pub fn refuse(&self, sql: &[u8]) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(hash(sql));
    }
}

fn hash(sql: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    sql.hash(&mut hasher);
    hasher.finish()
}

/// Keeps a catalog right as long as somebody uses its database.
async fn keep(worker: Rc<Worker>, who: Rc<Identity>, shard: usize, slot: Arc<Slot>) {
    let mut version = None;
    let mut last_error = String::new();
    while slot.sessions.load(Ordering::Relaxed) > 0 {
        let work = look(&worker, &who, shard, &slot, &mut version);
        let outcome = tokio::time::timeout(LOAD_TIMEOUT, work).await;
        let error = match outcome {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        if !error.is_empty() && error != last_error {
            tracing::warn!(database = %who.database, error, "what its statements do is not known");
        }
        last_error = error;
        tokio::time::sleep(LOOK_EVERY_MIN).await;
        let _ = tokio::time::timeout(LOOK_EVERY, slot.wanted.notified()).await;
    }
    slot.is_loading.store(false, Ordering::Relaxed);
}

/// Loads the catalog if it is another than `version`.
async fn look(
    worker: &Worker,
    who: &Identity,
    shard: usize,
    slot: &Slot,
    version: &mut Option<String>,
) -> Result<(), ServerError> {
    let view = who.cluster.view();
    // Standbys may lag: what is true is what the primary says.
    let server = view.primary(shard).ok();
    let Some(server) = server.or_else(|| view.standbys(shard).next()) else {
        return Ok(());
    };
    // Compiling the query that loads a catalog takes longer than running it.
    let table = &worker.settings;
    let settings = table.changed(&who.base, "jit", Some(b"SET jit TO off"));
    let mut upstream = worker.prepare(who, server, None, &settings).await?;
    let said = upstream.first_value(sql::VERSION.as_bytes()).await?;
    if *version != said {
        let rows = upstream.rows(sql::LOAD.as_bytes()).await?;
        let rows = rows.iter().filter_map(as_catalog_row);
        let catalog = Catalog::load(rows).map_err(|why| ServerError::Protocol(why.to_string()))?;
        tracing::debug!(database = %who.database, names = catalog.len(), "a catalog was loaded");
        *slot.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        slot.generation.fetch_add(1, Ordering::Release);
        *version = said;
    }
    worker.pool.give(who.key(server), upstream);
    Ok(())
}

fn as_catalog_row(row: &Row) -> Option<sql::Row<'_>> {
    let column = |at: usize| row.get(at)?.as_ref().map(String::as_bytes);
    Some(sql::Row {
        kind: column(0)?,
        schema: column(1)?,
        name: column(2)?,
        flags: column(3)?,
        definition: column(4),
    })
}
