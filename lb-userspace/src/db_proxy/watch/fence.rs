//! The fence: a primary whose epoch is older than one that a logic daemon has seen attested takes
//! nothing any more. The highest epoch is kept on disk, so that the fence survives a restart.
//!
//! It is evidence, not a lease: a primary that nobody can reach is fenced by the failover manager.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::kept;
use crate::telemetry::counter::Counter;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::link::{Epoch, Lsn};

/// Whether everybody is kept away from the server, and why.
#[derive(Debug)]
pub(in crate::db_proxy) struct Fence {
    highest: Cell<Epoch>,
    is_closed: Cell<bool>,
    reason: RefCell<String>,
    file: Option<PathBuf>,
    /// Epochs that were attested; those of other clusters; segments and transactions refused.
    pub attested: Counter,
    pub attested_of_others: Counter,
    pub refused: Counter,
    pub closings: Counter,
    pub write_failures: Counter,
}

impl Fence {
    /// With what an earlier proxy kept in `directory`, in a file named by `port`.
    ///
    /// # Errors
    /// If there is such a file and it is not understood: a proxy that forgot a fence would be worse
    /// than none.
    pub fn load(directory: &Path, port: u16) -> anyhow::Result<Self> {
        let file = directory.join(format!("db-proxy-{port}.json"));
        let highest = match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                let file = file.display();
                format!("{file} is malformed: it holds the highest epoch; mend or remove it")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Epoch::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        // Said at the start, not when it is needed.
        let file = match fs::create_dir_all(directory) {
            Ok(()) => Some(file),
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%error, "state: {directory} cannot be made: a fence will not survive a restart");
                None
            }
        };
        Ok(Self {
            highest: Cell::new(highest),
            is_closed: Cell::default(),
            reason: RefCell::default(),
            file,
            attested: Counter::default(),
            attested_of_others: Counter::default(),
            refused: Counter::default(),
            closings: Counter::default(),
            write_failures: Counter::default(),
        })
    }

    /// Whether nothing may reach the server.
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub fn reason(&self) -> String {
        self.reason.borrow().clone()
    }

    pub fn highest(&self) -> Epoch {
        self.highest.get()
    }

    /// A logic daemon has seen a primary of this epoch.
    pub fn attest(&self, epoch: Epoch) {
        self.attested.add(1);
        if epoch.is_unknown() {
            return;
        }
        let highest = self.highest.get();
        if !highest.is_unknown() && highest.system != epoch.system {
            self.attested_of_others.add(1);
            // Once: daemons say it again and again.
            if self.attested_of_others.get() == 1 {
                tracing::error!(%epoch, ours = %highest, "an epoch of another cluster was attested and is ignored");
            }
            return;
        }
        if epoch.is_rival_of(&highest) && epoch.began != Lsn(0) && highest.began != Lsn(0) {
            tracing::error!(%epoch, began = %epoch.began, ours = %highest.began,
                "two servers were promoted to the same timeline: one of them must be rewound");
        }
        self.raise(epoch);
    }

    /// What the server itself says; returns whether the fence was closed or opened.
    pub fn observe(&self, epoch: Epoch, is_primary: bool) -> bool {
        let highest = self.highest.get();
        let reason = if epoch.is_unknown() || highest.is_unknown() {
            String::new()
        } else if epoch.system != highest.system {
            let file = self.file.as_ref().map(|file| file.display().to_string());
            format!(
                "its system identifier is {}, and this proxy stands for {}; if that is meant, stop \
                 the proxy and remove {}",
                epoch.system,
                highest.system,
                file.as_deref().unwrap_or("its state")
            )
        } else if is_primary && highest.is_after(&epoch) {
            format!(
                "it is a primary on timeline {}, and there was one on timeline {}",
                epoch.timeline, highest.timeline
            )
        } else {
            String::new()
        };
        if reason.is_empty() {
            self.raise(epoch);
        }
        let was_closed = self.is_closed.replace(!reason.is_empty());
        let is_closed = !reason.is_empty();
        if is_closed && !was_closed {
            self.closings.add(1);
            tracing::error!("PostgreSQL is fenced: {reason}. Nothing is let through to it");
        } else if was_closed && !is_closed {
            tracing::info!(%epoch, "PostgreSQL is not fenced any more");
        }
        *self.reason.borrow_mut() = reason;
        was_closed != is_closed
    }

    /// What a client is told whose statement did not reach the server.
    pub fn refusal(&self) -> PgError {
        self.refused.add(1);
        let what = format!("this server is fenced: {}", self.reason.borrow());
        PgError::error(code::READ_ONLY_TRANSACTION, what)
            .hint("Connect to the primary; statements were not run here.")
    }

    fn raise(&self, epoch: Epoch) {
        let highest = self.highest.get();
        let is_higher = highest.is_unknown()
            || epoch.is_after(&highest)
            || (epoch.is_rival_of(&highest) && highest.began == Lsn(0));
        if epoch.is_unknown() || !is_higher {
            return;
        }
        self.highest.set(epoch);
        if let Some(file) = &self.file
            && let Err(error) = keep(file, epoch)
        {
            self.write_failures.add(1);
            let file = file.display();
            tracing::error!(%error, "{file} cannot be written: a fence will not survive a restart");
        }
    }
}

fn keep(file: &Path, epoch: Epoch) -> io::Result<()> {
    kept::write(file, &serde_json::to_vec(&epoch)?)
}
