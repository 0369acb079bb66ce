//! How commands name one backend.

use clap::Args;

/// A backend, and its pool where the name alone is not unique.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The backend's name, or POOL/NAME
    #[arg(value_name = "BACKEND")]
    backend: String,
    /// The backend's pool, if several pools have a backend of that name
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
}

impl Target {
    /// The backend's name and, if it was given, its pool. Names have no slashes; `lb events` and
    /// `lb reload` print `POOL/NAME`, which can be pasted back.
    pub(super) fn split(self) -> (String, Option<String>) {
        match (self.pool, self.backend.split_once('/')) {
            (None, Some((pool, backend))) => (backend.to_owned(), Some(pool.to_owned())),
            (pool, _) => (self.backend, pool),
        }
    }
}
