//! Random commands, made from what the server tells of their arguments.

use fastrand::Rng;

use super::excluded::is_excluded;
use super::table::{Argument, Command, Table};

/// The words of one command.
pub(super) type Words = Vec<Vec<u8>>;

/// Commands that belong together: one, or a transaction.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub commands: Vec<Words>,
}

impl Unit {
    pub fn of(commands: Vec<Words>) -> Self {
        Self { commands }
    }
}

/// Tags of keys; keys with one tag are on one server.
const TAGS: u32 = 6;
/// Keys of each type and tag.
const KEYS: u32 = 3;
/// Strings that mean something to somebody.
const STRINGS: [&[u8]; 16] = [
    b"",
    b"a",
    b"b",
    b"c",
    b"d",
    b"1",
    b"-1",
    b"2",
    b"10",
    b"1.5",
    b"abc",
    b"hello world",
    b"\xff\x00\r\n",
    b"foobar",
    b"99999999999999999999",
    b"a-string-of-more-than-forty-four-bytes-is-kept-apart",
];
const INTEGERS: [&str; 14] = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "-2",
    "5",
    "7",
    "10",
    "-5",
    "100",
    "9223372036854775807",
    "-0",
    "x",
];
const DOUBLES: [&str; 14] = [
    "0", "1", "1.5", "-2", "3.25", "inf", "-inf", "10", "0.1", "12.5", "-7.75", "1e3", "nan", "x",
];
const PATTERNS: [&str; 7] = ["*", "a*", "?", "[ab]*", "{t1}*", "nothing", "h[^x]llo*"];
/// Scripts that touch only the keys that they are given.
const SCRIPTS: [&str; 7] = [
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.call('GET', KEYS[1])",
    "return {KEYS[1], ARGV[1], 1, {2, 'x'}}",
    "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], ARGV[1], 'b') return redis.call('LRANGE', KEYS[1], 0, -1)",
    "return redis.error_reply('MY error')",
    "return redis.pcall('INCR', KEYS[1])",
    "for i = 1, 3 do redis.call('APPEND', KEYS[1], i) end return redis.status_reply('FINE')",
];

pub(super) struct Generator<'t> {
    rng: Rng,
    commands: Vec<&'t Command>,
    /// Numbers of stream entries grow, so that some are accepted.
    entries: u64,
}

/// How one command is being made.
struct Draft<'c> {
    words: Words,
    group: &'c str,
    /// The tag of all its keys; none: any.
    tag: Option<u32>,
    /// So many keys were announced.
    keys: Option<u32>,
    is_blocking: bool,
}

impl<'t> Generator<'t> {
    pub fn new(table: &'t Table, seed: u64) -> Self {
        let commands = table.commands.iter();
        let commands = commands.filter(|command| !is_excluded(&command.group, &command.name));
        Self {
            rng: Rng::with_seed(seed),
            commands: commands.collect(),
            entries: 0,
        }
    }

    pub fn unit(&mut self) -> Unit {
        match self.rng.u32(0..100) {
            0..3 => self.transaction(),
            3..6 => {
                let tag = self.rng.u32(0..TAGS);
                Unit::of(vec![self.script(tag)])
            }
            6 => {
                let words = ["NOSUCH", "a", "b"].map(|word| word.as_bytes().to_vec());
                Unit::of(vec![words[..self.rng.usize(1..=3)].to_vec()])
            }
            7 => Unit::of(vec![vec![b"DBSIZE".to_vec()]]),
            _ => {
                // Keys of one tag for most: what is split or refused is a part of it.
                let tag = self.rng.u32(0..100) < 85;
                let tag = tag.then(|| self.rng.u32(0..TAGS));
                Unit::of(vec![self.command(tag)])
            }
        }
    }

    fn transaction(&mut self) -> Unit {
        let tag = self.rng.u32(0..TAGS);
        let word = |text: &str| vec![text.as_bytes().to_vec()];
        let mut commands = Vec::new();
        if self.rng.bool() {
            let key = self.key("string", Some(tag));
            commands.push(vec![b"WATCH".to_vec(), key]);
        }
        commands.push(word("MULTI"));
        for _ in 0..self.rng.u32(1..=4) {
            let command = self.command(Some(tag));
            commands.push(command);
        }
        let is_kept = self.rng.u32(0..10) > 0;
        commands.push(word(if is_kept { "EXEC" } else { "DISCARD" }));
        Unit::of(commands)
    }

    fn script(&mut self, tag: u32) -> Words {
        let script = SCRIPTS[self.rng.usize(0..SCRIPTS.len())];
        let key = self.key("string", Some(tag));
        let argument = self.string();
        let words = [
            b"EVAL".to_vec(),
            script.into(),
            b"1".to_vec(),
            key,
            argument,
        ];
        words.to_vec()
    }

    fn command(&mut self, tag: Option<u32>) -> Words {
        let command = loop {
            let command = self.commands[self.rng.usize(0..self.commands.len())];
            // They wait where there is nothing: a few are enough.
            let waits = command.name[0].starts_with('b') && command.group != "bitmap";
            if !waits || self.rng.u32(0..10) == 0 {
                break command;
            }
        };
        let mut draft = Draft {
            words: command.name.iter().map(|word| self.case(word)).collect(),
            group: &command.group,
            tag,
            keys: None,
            is_blocking: false,
        };
        self.arguments(&command.arguments, &mut draft);
        self.tame(&command.name, &mut draft.words);
        if self.rng.u32(0..100) < 4 {
            self.spoil(command.name.len(), &mut draft.words);
            self.tame(&command.name, &mut draft.words);
        }
        draft.words
    }

    fn case(&mut self, word: &str) -> Vec<u8> {
        let mut word = word.to_uppercase();
        if self.rng.u32(0..20) == 0 {
            word = word.to_lowercase();
        }
        word.into_bytes()
    }

    fn arguments(&mut self, arguments: &[Argument], draft: &mut Draft<'_>) {
        for argument in arguments {
            if argument.is_optional && self.rng.u32(0..100) >= 30 {
                continue;
            }
            let mut count = 1;
            if argument.is_multiple {
                count = self.rng.u32(1..=3);
                if argument.kind == "key" {
                    count = draft.keys.unwrap_or(count);
                }
                if argument.name == "weight" {
                    count = draft.keys.unwrap_or(count);
                }
            }
            for number in 0..count {
                if let Some(token) = &argument.token
                    && (number == 0 || argument.repeats_token)
                    && argument.kind != "pure-token"
                {
                    draft.is_blocking = token == "BLOCK";
                    draft.words.push(token.clone().into_bytes());
                }
                self.value(argument, draft);
            }
        }
    }

    fn value(&mut self, argument: &Argument, draft: &mut Draft<'_>) {
        match argument.kind.as_str() {
            "oneof" => {
                let one = self.rng.usize(0..argument.inner.len());
                // A choice was made: what was chosen is not optional.
                let mut one = argument.inner[one].clone();
                one.is_optional = false;
                self.arguments(&[one], draft);
            }
            "block" => self.arguments(&argument.inner, draft),
            "pure-token" => {
                let token = argument.token.clone().unwrap_or_default();
                draft.words.push(token.into_bytes());
            }
            "key" => {
                let key = self.key(draft.group, draft.tag);
                draft.words.push(key);
            }
            kind => {
                let word = self.plain(kind, &argument.name, draft);
                draft.words.push(word);
            }
        }
    }

    fn plain(&mut self, kind: &str, name: &str, draft: &mut Draft<'_>) -> Vec<u8> {
        let text = match (kind, name) {
            (_, "numkeys") => {
                let count = self.rng.u32(1..=3);
                draft.keys = Some(count);
                return count.to_string().into_bytes();
            }
            (_, "timeout") => "0.001".to_owned(),
            (_, "milliseconds") if draft.is_blocking => "1".to_owned(),
            // Gone at once, never, or not within this test.
            (_, "seconds" | "ttl") => self.one_of(&["100000", "0", "-1"]),
            (_, "milliseconds") => self.one_of(&["100000000", "0", "-1"]),
            (_, "unix-time-seconds") => self.one_of(&["4102444800", "1", "0"]),
            (_, "unix-time-milliseconds") => self.one_of(&["4102444800000", "1", "0"]),
            // Beyond these a server makes strings of gigabytes.
            (_, "offset" | "bit") => self.rng.u32(0..70).to_string(),
            (_, "longitude" | "latitude") => self.rng.i32(-80..80).to_string(),
            (_, "radius" | "width" | "height") => self.one_of(&["100", "5000", "20000"]),
            (_, "min-idle-time") => "0".to_owned(),
            (_, "id" | "start" | "end" | "lastid") if draft.group == "stream" => self.entry(),
            (_, "encoding") => self.one_of(&["u8", "i5", "u63", "i64", "u64"]),
            (_, "group" | "groupname") => self.one_of(&["g1", "g2"]),
            ("integer", _) => self.one_of(&INTEGERS),
            ("double", _) => self.one_of(&DOUBLES),
            ("unix-time", _) => "4102444800".to_owned(),
            ("pattern", _) => self.one_of(&PATTERNS),
            (_, "min" | "max" | "start" | "stop") => {
                self.one_of(&["-", "+", "[a", "(b", "0", "5", "(1", "-inf", "+inf", "-1"])
            }
            _ => return self.string(),
        };
        text.into_bytes()
    }

    fn entry(&mut self) -> String {
        self.entries += 1;
        let some = self.rng.u64(0..=self.entries);
        match self.rng.u32(0..6) {
            0 => "-".into(),
            1 => "+".into(),
            2 => "0".into(),
            3 => format!("{some}-1"),
            _ => format!("{}-1", self.entries),
        }
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[self.rng.usize(0..texts.len())].to_owned()
    }

    fn string(&mut self) -> Vec<u8> {
        STRINGS[self.rng.usize(0..STRINGS.len())].to_vec()
    }

    /// A key that most likely holds what commands of a group work on.
    fn key(&mut self, group: &str, tag: Option<u32>) -> Vec<u8> {
        const PREFIXES: [&str; 8] = ["s", "l", "e", "z", "h", "x", "g", "p"];
        let own = match group {
            "string" | "bitmap" => "s",
            "list" => "l",
            "set" => "e",
            "sorted-set" => "z",
            "hash" => "h",
            "stream" => "x",
            "geo" => "g",
            "hyperloglog" => "p",
            _ => "",
        };
        let prefix = if own.is_empty() || self.rng.u32(0..12) == 0 {
            PREFIXES[self.rng.usize(0..PREFIXES.len())]
        } else {
            own
        };
        let tag = tag.unwrap_or_else(|| self.rng.u32(0..TAGS));
        let number = self.rng.u32(0..KEYS);
        format!("{{t{tag}}}{prefix}{number}").into_bytes()
    }

    /// Breaks a command: a word too few or too many, or another one.
    fn spoil(&mut self, name: usize, words: &mut Words) {
        let at = self.rng.usize(name..=words.len());
        match self.rng.u32(0..4) {
            0 if at < words.len() => drop(words.remove(at)),
            1 if at < words.len() => words[at] = self.string(),
            2 => {
                let extra = self.string();
                words.insert(at, extra);
            }
            _ => words.truncate(name + (words.len() - name) / 2),
        }
    }

    /// Takes out what has no single answer, or too long a one.
    fn tame(&mut self, name: &[String], words: &mut Words) {
        let name = name.join(" ");
        match name.as_str() {
            // "*" makes an id of the time.
            "xadd" => {
                for word in words.iter_mut().skip(2) {
                    if word == b"*" {
                        *word = self.entry().into_bytes();
                    }
                }
            }
            // Lengths that fill memory.
            "setrange" | "setbit" | "bitfield" => {
                for word in words.iter_mut().skip(2) {
                    let number = std::str::from_utf8(word).ok();
                    let number = number.and_then(|text| text.trim_start_matches('#').parse().ok());
                    if number.is_some_and(|number: i128| number > 100) {
                        *word = b"9".to_vec();
                    }
                }
            }
            // Gone while the test runs: sooner at one of the two.
            "set" | "setex" | "psetex" | "getex" | "expire" | "pexpire" | "restore" => {
                for word in words.iter_mut().skip(2) {
                    let number = std::str::from_utf8(word).ok();
                    let number = number.and_then(|text| text.parse::<i64>().ok());
                    if number.is_some_and(|number| (1..100_000).contains(&number)) {
                        *word = b"100000000".to_vec();
                    }
                }
                // What SET has expire in the past is there, and counted, until somebody looks.
                for at in 2..words.len() {
                    let far = match words[at - 1].to_ascii_uppercase().as_slice() {
                        b"EXAT" => "4102444800",
                        b"PXAT" => "4102444800000",
                        _ => continue,
                    };
                    if words[at].first().is_some_and(u8::is_ascii_digit) && words[at] != b"0" {
                        words[at] = far.into();
                    }
                }
            }
            // A wait without an end, or a long one.
            _ if name.starts_with('b') => {
                for word in words.iter_mut().skip(1) {
                    let number = std::str::from_utf8(word).ok();
                    let number = number.and_then(|text| text.parse::<f64>().ok());
                    if number.is_some_and(|number| number == 0.0 || number > 3.0) {
                        *word = b"0.001".to_vec();
                    }
                }
            }
            // Weights that are the same for all leave the order of a set to its hash table.
            "sort" | "sort_ro" => {
                let by = words
                    .iter()
                    .position(|word| word.eq_ignore_ascii_case(b"BY"));
                // Members that weigh alike come in the order of a hash table, which each server has its own.
                if let Some(at) = by {
                    words.drain(at..(at + 2).min(words.len()));
                }
                // Without it Redis 7.0 takes a number for none if any command before it met one that
                // was too large: it looks at an error number that nobody has cleared.
                words.push(b"ALPHA".to_vec());
            }
            "xread" | "xreadgroup" => {
                let block = words.iter().position(|word| word == b"BLOCK");
                if let Some(word) = block.and_then(|at| words.get_mut(at + 1)) {
                    *word = b"1".to_vec();
                }
            }
            _ => {}
        }
    }
}
