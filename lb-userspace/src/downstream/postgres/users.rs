//! Who may log in: the users file, in the format that PgBouncer has (`"name" "password"`), where a
//! password may also be what PostgreSQL stores (`md5…`, `SCRAM-SHA-256$…`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail};
use ring::rand::{SecureRandom, SystemRandom};

use crate::upstream::postgres::Credentials;
use crate::wire::postgres::md5;
use crate::wire::postgres::scram::{ITERATIONS_DEFAULT, Verifier};

/// The most bytes of a users file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What is known of a user's password.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Itself.
    Password(String),
    /// `md5…`
    Md5(String),
    /// What SCRAM needs to check it.
    Scram(Verifier),
}

impl Secret {
    /// What of it serves to log in to a server with. A verifier lets clients in; it does not let us in.
    pub fn credentials(&self) -> Credentials {
        match self {
            Self::Password(password) => Credentials {
                password: Some(password.clone()),
                ..Credentials::default()
            },
            Self::Md5(stored) => Credentials {
                md5: Some(stored.clone()),
                ..Credentials::default()
            },
            Self::Scram(_) => Credentials::default(),
        }
    }
}

/// Every user of the file.
#[derive(Debug, Default)]
pub struct Users {
    secrets: HashMap<String, Secret>,
    /// Made of passwords when they are first needed, because making one takes milliseconds.
    verifiers: RefCell<HashMap<String, Verifier>>,
    /// Makes up the verifiers of users that there are not.
    pepper: [u8; 16],
}

impl Users {
    /// Reads the file; without one there are no users.
    ///
    /// # Errors
    /// If it cannot be read, or a line is not understood.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Self::parse("");
        };
        let name = path.display();
        let size = std::fs::metadata(path).map(|about| about.len());
        if size.with_context(|| format!("cannot read users_file {name}"))? > FILE_BYTES_MAX {
            bail!("users_file {name} has more than {FILE_BYTES_MAX} bytes");
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read users_file {name}"))?;
        Self::parse(&text).with_context(|| format!("users_file {name}"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut users = Self::default();
        fill(&mut users.pepper)?;
        for (line, text) in text.lines().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with([';', '#']) {
                continue;
            }
            let entry = quoted(text).and_then(|(name, rest)| Some((name, quoted(rest)?.0)));
            let Some((name, secret)) = entry else {
                bail!("line {}: write \"user\" \"password\"", line + 1);
            };
            let secret = if let Some(verifier) = Verifier::parse(&secret) {
                Secret::Scram(verifier)
            } else if secret.starts_with("SCRAM-SHA-256$") {
                bail!(
                    "line {}: the SCRAM verifier of {name:?} is malformed",
                    line + 1
                );
            } else if md5::is_stored(&secret) {
                Secret::Md5(secret)
            } else {
                Secret::Password(secret)
            };
            users.secrets.insert(name, secret);
        }
        Ok(users)
    }

    /// What is known of a user's password; an empty one lets nobody in.
    pub fn secret(&self, user: &str) -> Option<&Secret> {
        let secret = self.secrets.get(user)?;
        let is_empty = matches!(secret, Secret::Password(password) if password.is_empty());
        (!is_empty).then_some(secret)
    }

    /// What SCRAM needs. Users that there are not get one, too: the outside must not tell them
    /// apart.
    pub fn verifier(&self, user: &str) -> anyhow::Result<Verifier> {
        if let Some(Secret::Scram(verifier)) = self.secret(user) {
            return Ok(verifier.clone());
        }
        if let Some(verifier) = self.verifiers.borrow().get(user) {
            return Ok(verifier.clone());
        }
        let Some(Secret::Password(password)) = self.secret(user) else {
            return Ok(self.mock(user));
        };
        let mut salt = [0; 16];
        fill(&mut salt)?;
        let verifier = Verifier::new(password, &salt, ITERATIONS_DEFAULT);
        self.verifiers
            .borrow_mut()
            .insert(user.to_owned(), verifier.clone());
        Ok(verifier)
    }

    /// The same salt at every try, and a key that nobody has.
    fn mock(&self, user: &str) -> Verifier {
        let digest = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.pepper),
            user.as_bytes(),
        );
        let mut verifier = Verifier::new("", &digest.as_ref()[..16], 1);
        verifier.iterations = ITERATIONS_DEFAULT;
        verifier
    }

    /// What is known of a user to log in to a server with.
    pub fn credentials(&self, user: &str) -> Credentials {
        let secret = self.secret(user);
        secret.map_or_else(Credentials::default, Secret::credentials)
    }

    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.secrets.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

fn fill(bytes: &mut [u8]) -> anyhow::Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| anyhow::anyhow!("the kernel gives no random numbers"))
}

/// A text in double quotes, of which two stand for one, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.trim_start().strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        value.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbouncers_format_is_read() {
        let text = "; comment\n\n\"alice\" \"se\"\"cret\"\n \"bob\" \"md5d8578edf8458ce06fbc5bb76a58c5ca4\"\n\
            \"carol\" \"SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n\
            \"dave\" \"\"\n";
        let users = Users::parse(text).expect("it is good");
        assert!(matches!(users.secret("alice"), Some(Secret::Password(p)) if p == "se\"cret"));
        assert!(matches!(users.secret("bob"), Some(Secret::Md5(_))));
        assert!(matches!(users.secret("carol"), Some(Secret::Scram(_))));
        assert!(users.secret("dave").is_none() && users.secret("eve").is_none());
    }

    #[test]
    fn what_is_not_understood_is_named_by_its_line() {
        let error = Users::parse("\"a\" \"b\"\nalice secret\n").expect_err("no quotes");
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(Users::parse("\"a\" \"SCRAM-SHA-256$x\"").is_err());
    }

    #[test]
    fn unknown_users_look_like_known_ones() {
        let users = Users::parse("").expect("it is good");
        let verifier = users.verifier("eve").expect("random numbers");
        assert_eq!(verifier, users.verifier("eve").expect("random numbers"));
        assert_eq!(verifier.salt.len(), 16);
        assert_ne!(
            verifier.salt,
            users.verifier("eva").expect("random numbers").salt
        );
    }
}
