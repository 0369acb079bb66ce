//! What lb says to cache servers and Sentinels to prove who it is.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// The content of `credentials_file`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// The user at cache servers; left out: the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The user at Sentinels.
    pub sentinel_username: Option<String>,
    /// Its password.
    pub sentinel_password: Option<String>,
}

impl Credentials {
    /// # Errors
    /// Where the file cannot be read, or is no TOML of these keys.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        // The message would quote the line, password and all.
        toml::from_str(&text).map_err(|error| {
            let at = error
                .span()
                .map_or(0, |span| text[..span.start].lines().count());
            anyhow::anyhow!("{name}:{at}: {}", error.message())
        })
    }
}
