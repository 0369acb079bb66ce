//! What the operator said by command, and the VIPs that this agent added: what must survive a
//! restart and stands nowhere else. One small JSON file in `[agent].state`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::effective::Admin;
use crate::kept;

const FILE: &str = "agent.json";

/// Operator intent for the backends, by pool and name. It stays when a backend leaves the
/// configuration, and counts again if it returns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intents {
    /// By `pool/backend`.
    #[serde(default)]
    backends: BTreeMap<String, BackendIntent>,
    /// VIPs that this agent added to the host.
    #[serde(default)]
    pub vips: Vec<IpAddr>,
}

/// Operator intent for one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendIntent {
    /// Drained since, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
    /// Disabled since, RFC 3339. Outranks a drain, which counts again afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// A weight in place of the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl BackendIntent {
    /// What the operator wants, and since when.
    #[must_use]
    pub fn admin(&self) -> (Admin, Option<&str>) {
        match (&self.disabled, &self.drained) {
            (Some(since), _) => (Admin::Disabled, Some(since)),
            (None, Some(since)) => (Admin::Drained, Some(since)),
            (None, None) => (Admin::None, None),
        }
    }
}

/// Why intents could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// The file or its directory.
    #[error("{path}: {source}; [agent].state must be a directory that lb agent may write to")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its content.
    #[error("{path}: {source}; it holds drains, disables and weights: mend or remove it")]
    Malformed {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Intents {
    /// Reads what an earlier agent wrote; nothing if there was none.
    ///
    /// # Errors
    /// [`IntentError`]: an agent that ignored a drain that it cannot read would be worse than none.
    pub fn load(state: &Path) -> Result<Self, IntentError> {
        let path = state.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| IntentError::Malformed { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(IntentError::Io { path, source }),
        }
    }

    /// Writes the file; a crash leaves the old or the new.
    ///
    /// # Errors
    /// [`IntentError::Io`].
    pub fn save(&self, state: &Path) -> Result<(), IntentError> {
        let path = state.join(FILE);
        let failed = |source| IntentError::Io {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        kept::write(&path, &text).map_err(failed)
    }

    /// The intent for a backend.
    #[must_use]
    pub fn of(&self, pool: &str, backend: &str) -> BackendIntent {
        self.backends
            .get(&key(pool, backend))
            .cloned()
            .unwrap_or_default()
    }

    /// Changes the intent for a backend.
    pub fn change(&mut self, pool: &str, backend: &str, change: impl FnOnce(&mut BackendIntent)) {
        let key = key(pool, backend);
        let mut intent = self.backends.remove(&key).unwrap_or_default();
        change(&mut intent);
        if intent != BackendIntent::default() {
            self.backends.insert(key, intent);
        }
    }
}

fn key(pool: &str, backend: &str) -> String {
    // Names hold no slash: the configuration refuses it.
    format!("{pool}/{backend}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intent_survives_being_written_and_read() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Intents::load(state.path()).unwrap(), Intents::default());
        let mut intents = Intents::default();
        intents.change("logic", "logic-1", |intent| {
            intent.drained = Some("now".into());
        });
        intents.change("logic", "logic-2", |intent| intent.weight = Some(7));
        intents.vips.push("198.51.100.10".parse().unwrap());
        intents.save(state.path()).unwrap();
        assert_eq!(Intents::load(state.path()).unwrap(), intents);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_by_name() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(FILE), "{").unwrap();
        let message = Intents::load(state.path()).unwrap_err().to_string();
        assert!(
            message.contains("agent.json") && message.contains("mend or remove"),
            "{message}"
        );
    }

    #[test]
    fn a_disable_outranks_a_drain_and_gives_it_back() {
        let mut intent = BackendIntent {
            drained: Some("d".into()),
            ..BackendIntent::default()
        };
        assert_eq!(intent.admin(), (Admin::Drained, Some("d")));
        intent.disabled = Some("x".into());
        assert_eq!(intent.admin(), (Admin::Disabled, Some("x")));
    }
}
