//! The latest epoch of every shard on disk: a daemon that starts again knows which primaries are over.
//! Read at the start, written by the watch before anybody acts on a new epoch.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::cluster::Count;
use crate::kept;
use crate::wire::postgres::link::Epoch;

/// The name of the file in the directory `state`.
const FILE: &str = "postgres-epochs.json";

/// By the names of databases, and the numbers of shards.
type All = BTreeMap<String, BTreeMap<u32, Epoch>>;

/// The epochs that are kept.
#[derive(Debug)]
pub(super) struct Epochs {
    file: PathBuf,
    all: Mutex<All>,
    /// Times that the file could not be written.
    pub failures: Count,
}

impl Epochs {
    /// Reads what is kept in a directory.
    ///
    /// # Errors
    /// If there is a file and it cannot be read: without it, a primary that is over could be taken for
    /// one that is not.
    pub fn load(directory: &Path) -> anyhow::Result<Self> {
        let file = directory.join(FILE);
        let all: All = match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => All::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        Ok(Self {
            file,
            all: Mutex::new(all),
            failures: Count::default(),
        })
    }

    /// What is known of a shard.
    pub fn of(&self, database: &str, shard: u32) -> Option<Epoch> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(database)?.get(&shard).copied()
    }

    /// Keeps the epoch of a shard. If that fails it is logged and counted: the daemon goes on.
    pub fn keep(&self, database: &str, shard: u32, epoch: Epoch) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(database.to_owned())
            .or_default()
            .insert(shard, epoch);
        if let Err(error) = write(&self.file, &all) {
            self.failures.add();
            let file = self.file.display();
            tracing::error!(%error, "{file} cannot be written: what is primary will not survive a restart");
        }
    }
}

fn write(file: &Path, all: &All) -> io::Result<()> {
    kept::write(file, &serde_json::to_vec_pretty(all)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::postgres::link::Lsn;

    #[test]
    fn an_epoch_is_there_after_a_restart_and_a_damaged_file_is_refused() {
        let directory = std::env::temp_dir().join(format!("lbt-epochs-{}", std::process::id()));
        let epoch = Epoch {
            system: u64::MAX,
            timeline: 7,
            began: Lsn(0x16_B374_D848),
        };
        Epochs::load(&directory)
            .expect("nothing there")
            .keep("orders", 2, epoch);
        let again = Epochs::load(&directory).expect("just written");
        assert_eq!(again.of("orders", 2), Some(epoch));
        assert_eq!(again.of("orders", 0), None);
        fs::write(directory.join(FILE), "{\"orders\": {\"2\": {}}}").expect("a directory");
        let refused = Epochs::load(&directory);
        fs::remove_dir_all(&directory).expect("it is ours");
        assert!(refused.is_err());
    }
}
