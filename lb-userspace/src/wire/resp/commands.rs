//! What commands there are, from the table that a real Redis wrote (`commands.txt`).

use std::collections::HashMap;
use std::sync::OnceLock;

/// The table as committed.
pub const TABLE: &str = include_str!("commands.txt");

/// A command, or a subcommand, whose name then is `container|name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// So many words, its name included; negative: at least so many.
    pub arity: i32,
    /// What it does to data.
    pub effect: Effect,
    /// Whether it may block.
    pub is_blocking: bool,
    /// Whether a transaction refuses it.
    pub is_refused_in_multi: bool,
    /// Categories for access lists, without their `@`.
    pub categories: Vec<&'static str>,
    /// Where its keys stand.
    pub keys: Vec<KeySpec>,
    /// Whether it has subcommands.
    pub has_subcommands: bool,
}

/// What a command does to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It reads: a copy may answer, and it may be asked again.
    Read,
    /// It writes, or may.
    Write,
    /// Neither is known of it.
    Other,
}

/// Where some of a command's keys stand, as Redis describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Whether the command tells something of what these keys hold.
    pub is_read: bool,
    /// Whether it changes what they hold.
    pub is_written: bool,
    /// Where to begin.
    pub begin: Begin,
    /// How to go on.
    pub find: Find,
}

/// Where keys begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this word.
    Index(usize),
    /// Behind this word, looked for from that place; from the end where it is negative.
    Keyword(&'static str, i32),
    /// Redis does not say.
    Unknown,
}

/// How keys go on from where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (from the first key; negative: from the end), every `step`th, of the rest the
    /// `limit`th part.
    Range {
        /// The last one.
        last: i32,
        /// From one to the next.
        step: usize,
        /// 0 and 1: all; 2: the first half.
        limit: usize,
    },
    /// As many as a word says.
    Count {
        /// Where that word is.
        count: usize,
        /// Where the first key is.
        first: usize,
        /// From one to the next.
        step: usize,
    },
    /// Redis does not say.
    Unknown,
}

/// All of them.
#[derive(Debug)]
pub struct Commands {
    all: Vec<Command>,
    by_name: HashMap<&'static str, usize>,
}

/// The longest name of a command, subcommands included, is shorter.
const NAME_BYTES_MAX: usize = 40;

/// The table, read once.
pub fn commands() -> &'static Commands {
    static COMMANDS: OnceLock<Commands> = OnceLock::new();
    COMMANDS.get_or_init(|| Commands::read(TABLE))
}

impl Commands {
    /// Every command, in the order of the table.
    #[must_use]
    pub fn all(&self) -> &[Command] {
        &self.all
    }

    /// The place in [`Commands::all`] of the command with that name, in any case.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(std::str::from_utf8(lower).ok()?).copied()
    }

    /// The same for a subcommand.
    #[must_use]
    pub fn find_sub(&self, container: &str, name: &[u8]) -> Option<usize> {
        let mut full = container.as_bytes().to_vec();
        full.push(b'|');
        full.extend_from_slice(name);
        self.find(&full)
    }

    fn read(table: &'static str) -> Self {
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        let mut all: Vec<_> = lines.filter_map(command).collect();
        for at in 0..all.len() {
            let prefix = format!("{}|", all[at].name);
            all[at].has_subcommands = all.iter().any(|sub| sub.name.starts_with(&prefix));
        }
        let by_name = all.iter().enumerate().map(|(at, c)| (c.name, at)).collect();
        Self { all, by_name }
    }
}

fn command(line: &'static str) -> Option<Command> {
    let mut fields = line.split(' ');
    let name = fields.next()?;
    let arity = fields.next()?.parse().ok()?;
    let flags: Vec<_> = fields.next()?.split(',').collect();
    let categories = fields.next()?.split(',').filter(|c| *c != "-").collect();
    let has = |flag| flags.contains(&flag);
    let effect = match (has("write") || has("may_replicate"), has("readonly")) {
        (true, _) => Effect::Write,
        (false, true) => Effect::Read,
        (false, false) => Effect::Other,
    };
    Some(Command {
        name,
        arity,
        effect,
        is_blocking: has("blocking"),
        is_refused_in_multi: has("no_multi"),
        categories,
        keys: fields.filter_map(key_spec).collect(),
        has_subcommands: false,
    })
}

fn key_spec(text: &'static str) -> Option<KeySpec> {
    let mut parts = text.split(';');
    let flags = parts.next()?;
    let has = |flag| flags.split('+').any(|one| one == flag);
    let begin = parts.next()?;
    let begin = match begin.split_at_checked(1)? {
        ("i", index) => Begin::Index(index.parse().ok()?),
        ("k", rest) => {
            let (word, from) = rest.split_once(',')?;
            Begin::Keyword(word, from.parse().ok()?)
        }
        _ => Begin::Unknown,
    };
    let find = parts.next()?;
    let (kind, numbers) = find.split_at_checked(1)?;
    let numbers: Vec<i32> = numbers.split(',').filter_map(|n| n.parse().ok()).collect();
    let place = |at: usize| usize::try_from(*numbers.get(at)?).ok();
    let find = match kind {
        "r" => Find::Range {
            last: *numbers.first()?,
            step: place(1)?.max(1),
            limit: place(2)?,
        },
        "n" => Find::Count {
            count: place(0)?,
            first: place(1)?,
            step: place(2)?.max(1),
        },
        _ => Find::Unknown,
    };
    Some(KeySpec {
        is_read: has("access"),
        is_written: ["insert", "update", "delete"].into_iter().any(has),
        begin,
        find,
    })
}
