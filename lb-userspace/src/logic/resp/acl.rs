//! Users, in the format of Redis's ACL file, and what each may do.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use ring::digest;

use super::glob;
use crate::wire::resp::command::Word;
use crate::wire::resp::commands::{Command, commands};
use crate::wire::resp::keys::each_key;

/// The most bytes of a file of users.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A user and what it may do.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub name: String,
    is_on: bool,
    has_no_password: bool,
    /// SHA-256 of each password.
    passwords: Vec<[u8; 32]>,
    /// By place in the table of commands.
    may: Vec<bool>,
    may_everything: bool,
    keys: Vec<KeyPattern>,
    every_key: bool,
    channels: Vec<Vec<u8>>,
    every_channel: bool,
}

#[derive(Clone, Debug)]
struct KeyPattern {
    pattern: Vec<u8>,
    reads: bool,
    writes: bool,
}

/// What a user may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Command,
    Key,
    Channel,
}

/// All users.
#[derive(Clone, Debug)]
pub(super) struct Users(HashMap<String, Arc<User>>);

impl Users {
    /// Everybody may do everything without a password, unless there is a file.
    ///
    /// # Errors
    /// Where it cannot be read, or has a rule that is none.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut users = Self(HashMap::new());
        let Some(path) = path else {
            users
                .0
                .insert("default".into(), Arc::new(User::everything("default")));
            return Ok(users);
        };
        let name = path.display();
        let size = std::fs::metadata(path).map(|metadata| metadata.len());
        if size.with_context(|| format!("cannot read {name}"))? > FILE_BYTES_MAX {
            bail!("{name} has more than {FILE_BYTES_MAX} bytes");
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let user = User::parse(line).with_context(|| format!("{name}:{number}"))?;
            users.0.insert(user.name.clone(), Arc::new(user));
        }
        Ok(users)
    }

    /// Who a client is before it says so.
    pub fn anonymous(&self) -> Option<Arc<User>> {
        let default = self.0.get("default")?;
        (default.is_on && default.has_no_password).then(|| Arc::clone(default))
    }

    /// Whether anybody needs a password at all.
    pub fn default_needs_none(&self) -> bool {
        self.0
            .get("default")
            .is_some_and(|user| user.has_no_password)
    }

    /// The user of that name, if the password is right.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        let user = self.0.get(std::str::from_utf8(name).ok()?);
        let hash = digest::digest(&digest::SHA256, password);
        // Every password is compared, whoever it is: time tells nothing.
        let is_right = user.is_some_and(|user| {
            let matching = user.passwords.iter().fold(0, |matching, known| {
                let same = subtle::ConstantTimeEq::ct_eq(&known[..], hash.as_ref());
                matching | same.unwrap_u8()
            });
            user.is_on && (user.has_no_password || matching == 1)
        });
        user.filter(|_| is_right).cloned()
    }
}

impl User {
    fn everything(name: &str) -> Self {
        let mut user = Self::nothing(name);
        user.is_on = true;
        user.has_no_password = true;
        user.allow_all(true);
        user.every_key = true;
        user.every_channel = true;
        user
    }

    fn nothing(name: &str) -> Self {
        Self {
            name: name.into(),
            is_on: false,
            has_no_password: false,
            passwords: Vec::new(),
            may: vec![false; commands().all().len()],
            may_everything: false,
            keys: Vec::new(),
            every_key: false,
            channels: Vec::new(),
            every_channel: false,
        }
    }

    fn parse(line: &str) -> anyhow::Result<Self> {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("user") {
            bail!("a line begins with \"user NAME\"");
        }
        let mut user = Self::nothing(words.next().context("a user needs a name")?);
        for rule in words {
            user.apply(rule)
                .with_context(|| format!("rule {rule:?} of user {:?}", user.name))?;
        }
        Ok(user)
    }

    fn allow_all(&mut self, allow: bool) {
        self.may.fill(allow);
        self.may_everything = allow;
    }

    fn apply(&mut self, rule: &str) -> anyhow::Result<()> {
        let hash = |text: &str| -> anyhow::Result<[u8; 32]> {
            let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
            let bytes: Option<Vec<_>> = (0..64).step_by(2).map(digit).collect();
            let bytes = bytes
                .filter(|_| text.len() == 64)
                .context("is no SHA-256")?;
            Ok(bytes.try_into().unwrap_or_default())
        };
        let of = |password: &str| -> [u8; 32] {
            let hash = digest::digest(&digest::SHA256, password.as_bytes());
            hash.as_ref().try_into().unwrap_or_default()
        };
        match rule {
            "on" => self.is_on = true,
            "off" => self.is_on = false,
            "nopass" => self.has_no_password = true,
            "resetpass" => {
                self.has_no_password = false;
                self.passwords.clear();
            }
            "allkeys" => self.every_key = true,
            "resetkeys" => {
                self.every_key = false;
                self.keys.clear();
            }
            "allchannels" => self.every_channel = true,
            "resetchannels" => {
                self.every_channel = false;
                self.channels.clear();
            }
            "allcommands" => self.allow_all(true),
            "nocommands" => self.allow_all(false),
            "reset" => *self = Self::nothing(&self.name),
            "sanitize-payload" | "skip-sanitize-payload" => {}
            _ => match rule.split_at_checked(1) {
                Some((">", password)) => {
                    self.has_no_password = false;
                    self.passwords.push(of(password));
                }
                Some(("#", digits)) => {
                    self.has_no_password = false;
                    self.passwords.push(hash(digits)?);
                }
                Some(("<", password)) => self.passwords.retain(|known| *known != of(password)),
                Some(("!", digits)) => {
                    let gone = hash(digits)?;
                    self.passwords.retain(|known| *known != gone);
                }
                Some(("~", pattern)) => self.key(pattern, true, true),
                Some(("%", rest)) => {
                    let (rights, pattern) = rest.split_once('~').context("needs a ~pattern")?;
                    if rights.is_empty() || !rights.chars().all(|c| matches!(c, 'R' | 'W')) {
                        bail!("says neither R nor W");
                    }
                    self.key(pattern, rights.contains('R'), rights.contains('W'));
                }
                Some(("&", "*")) => self.every_channel = true,
                Some(("&", pattern)) => self.channels.push(pattern.into()),
                Some(("+", what)) => self.command(what, true)?,
                Some(("-", what)) => self.command(what, false)?,
                Some(("(", _)) => bail!("selectors are not supported"),
                _ => bail!("is no rule"),
            },
        }
        Ok(())
    }

    fn key(&mut self, pattern: &str, reads: bool, writes: bool) {
        if pattern == "*" && reads && writes {
            self.every_key = true;
        }
        self.keys.push(KeyPattern {
            pattern: pattern.into(),
            reads,
            writes,
        });
    }

    fn command(&mut self, what: &str, allow: bool) -> anyhow::Result<()> {
        if what == "@all" {
            self.allow_all(allow);
            return Ok(());
        }
        let what = what.to_ascii_lowercase();
        let mut found = false;
        for (may, command) in self.may.iter_mut().zip(commands().all()) {
            let is_meant = match what.strip_prefix('@') {
                Some(category) => command.categories.contains(&category),
                None => {
                    let sub = command.name.strip_prefix(what.as_str());
                    sub.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
                }
            };
            if is_meant {
                *may = allow;
                found = true;
            }
        }
        self.may_everything &= allow;
        if !found {
            bail!("there is no such command or category");
        }
        Ok(())
    }

    /// Whether everything is allowed: then nothing need be looked at.
    pub fn is_unrestricted(&self) -> bool {
        self.may_everything && self.every_key && self.every_channel
    }

    /// Whether the user may run the command at that place of the table, with these words.
    pub fn may(
        &self,
        at: usize,
        command: &Command,
        buffer: &[u8],
        words: &[Word],
    ) -> Result<(), Denied> {
        // Redis lets everybody say who they are, and leave.
        let is_free = matches!(command.name, "auth" | "hello" | "quit" | "reset");
        if !is_free && !self.may.get(at).copied().unwrap_or_default() {
            return Err(Denied::Command);
        }
        if !self.every_key {
            let mut is_denied = false;
            // A command whose keys are not known is refused where it is routed.
            let _ = each_key(command, buffer, words, |at, spec| {
                let key = words[at].of(buffer);
                is_denied |= !self.keys.iter().any(|allowed| {
                    (allowed.reads || !spec.is_read)
                        && (allowed.writes || !spec.is_written)
                        && glob::matches(&allowed.pattern, key)
                });
            });
            if is_denied {
                return Err(Denied::Key);
            }
        }
        if !self.every_channel {
            let channels = match command.name {
                "publish" | "spublish" => words.get(1..2),
                "subscribe" | "ssubscribe" | "psubscribe" => words.get(1..),
                _ => None,
            };
            let is_pattern = command.name == "psubscribe";
            let is_allowed = |word: &Word| {
                let channel = word.of(buffer);
                self.channels.iter().any(|allowed| match is_pattern {
                    // A pattern is allowed literally only.
                    true => allowed == channel,
                    false => glob::matches(allowed, channel),
                })
            };
            if !channels.unwrap_or_default().iter().all(is_allowed) {
                return Err(Denied::Channel);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resp::command::{Parser, Progress};
    use crate::wire::resp::write;

    fn check(rules: &str, line: &str) -> Result<(), Denied> {
        let user = User::parse(&format!("user a on >p {rules}")).expect(rules);
        let mut bytes = Vec::new();
        write::command(&mut bytes, &line.split(' ').collect::<Vec<_>>());
        let mut parser = Parser::default();
        parser
            .next(&bytes, &mut Progress::default())
            .expect("it is a command");
        let name = parser.words[0].of(&bytes);
        let at = commands().find(name).expect(line);
        user.may(at, &commands().all()[at], &bytes, &parser.words)
    }

    #[test]
    fn rules_are_followed_in_their_order() {
        for (rules, line, outcome) in [
            ("+@all ~*", "get a", Ok(())),
            ("+get ~*", "set a 1", Err(Denied::Command)),
            ("+@read ~*", "get a", Ok(())),
            ("+@all -@write ~*", "set a 1", Err(Denied::Command)),
            ("+@all ~app:*", "get app:1", Ok(())),
            ("+@all ~app:*", "mget app:1 b", Err(Denied::Key)),
            ("+@all %R~a", "get a", Ok(())),
            ("+@all %R~a", "set a 1", Err(Denied::Key)),
            ("+@all ~* &news.*", "publish news.1 a", Ok(())),
            ("+@all ~* &news.*", "publish old a", Err(Denied::Channel)),
            ("", "hello 3", Ok(())),
        ] {
            assert_eq!(check(rules, line), outcome, "{rules}: {line}");
        }
        for wrong in ["+nosuch", "~a (+get)", "#12", "%X~a", "maybe"] {
            assert!(User::parse(&format!("user a {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_compared_by_their_hash() {
        let mut users = Users(HashMap::new());
        let line = "user a on >secret +@all";
        users
            .0
            .insert("a".into(), Arc::new(User::parse(line).expect(line)));
        assert!(users.authenticate(b"a", b"secret").is_some());
        assert!(users.authenticate(b"a", b"wrong").is_none());
        assert!(users.authenticate(b"b", b"secret").is_none());
        assert!(users.anonymous().is_none());
        assert!(Users::load(None).expect("no file").anonymous().is_some());
    }
}
