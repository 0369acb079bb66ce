//! The same commands to both, and what differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use lb_tests::logic::Logic;
use lb_tests::redis::{Connection, Redis, Reply, Tier};

use super::compare::are_equal;
use super::generate::{Unit, Words};

/// Units that are under way at a time.
const BATCH: usize = 16;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub commands: usize,
    /// What cannot be right across servers, and was refused by name.
    pub refused: usize,
    pub errors: usize,
    pub by_refused: BTreeMap<String, usize>,
}

/// What differs.
#[derive(Debug)]
pub(super) struct Difference {
    #[expect(dead_code, reason = "printed")]
    command: String,
    #[expect(dead_code, reason = "printed")]
    lb: String,
    #[expect(dead_code, reason = "printed")]
    single: String,
}

/// The one under test and the one that knows.
pub(super) struct Pair<'p> {
    lb: Connection,
    single: Connection,
    /// The servers behind the first.
    behind: Vec<&'p Redis>,
}

impl<'p> Pair<'p> {
    pub fn of_logic(logic: &Logic, tier: &'p Tier, single: &Redis) -> Result<Self> {
        Ok(Self {
            lb: logic.connect()?,
            single: single.connect()?,
            behind: tier.primaries.iter().collect(),
        })
    }

    pub fn of_servers(one: &'p Redis, other: &Redis) -> Result<Self> {
        Ok(Self {
            lb: one.connect()?,
            single: other.connect()?,
            behind: vec![one],
        })
    }

    /// Plays units on empty servers; the first difference, in an answer or in the data at the end.
    pub fn play(&mut self, units: &[Unit], tally: &mut Tally) -> Result<Option<Difference>> {
        for server in &self.behind {
            server.command(&["FLUSHALL"])?;
        }
        self.single.command(&["FLUSHALL"])?;
        for batch in units.chunks(BATCH) {
            let answers = answers(&mut self.lb, batch).context("lb")?;
            let is_refused: Vec<bool> = answers
                .iter()
                .map(|unit| unit.iter().any(refuses))
                .collect();
            let both = batch.iter().zip(&is_refused);
            let allowed: Vec<Unit> = both
                .filter(|(_, is)| !**is)
                .map(|(unit, _)| unit.clone())
                .collect();
            let mut expected = self::answers(&mut self.single, &allowed)?.into_iter();
            for ((unit, answers), is_refused) in batch.iter().zip(answers).zip(is_refused) {
                tally.commands += unit.commands.len();
                if is_refused {
                    tally.refused += 1;
                    *tally.by_refused.entry(name(&unit.commands)).or_default() += 1;
                    continue;
                }
                let expected = expected.next().context("one answer for each unit")?;
                for ((words, lb), single) in unit.commands.iter().zip(answers).zip(expected) {
                    tally.errors += usize::from(single.is_error());
                    if !are_equal(words, &lb, &single) {
                        return Ok(Some(difference(words, &lb, &single)));
                    }
                }
            }
        }
        self.compare_data()
    }

    /// Every key, its type, its data, whether it expires.
    fn compare_data(&mut self) -> Result<Option<Difference>> {
        let all: Words = vec![b"KEYS".to_vec(), b"*".to_vec()];
        let keys = self.single.command(&all)?;
        let mut looks = vec![all];
        for key in keys.parts() {
            let Reply::Bulk(Some(key)) = key else {
                continue;
            };
            let kind = self
                .single
                .command(&[b"TYPE".to_vec(), key.clone()])?
                .text();
            let words = |text: &str| -> Words {
                let words = text.split(' ');
                words
                    .map(|word| {
                        if word == "K" {
                            key.clone()
                        } else {
                            word.into()
                        }
                    })
                    .collect()
            };
            looks.extend([words("TYPE K"), words("TTL K")]);
            looks.push(words(match kind.as_str() {
                "string" => "GET K",
                "list" => "LRANGE K 0 -1",
                "set" => "SMEMBERS K",
                "zset" => "ZRANGE K 0 -1 WITHSCORES",
                "hash" => "HGETALL K",
                _ => "XRANGE K - +",
            }));
        }
        let looks: Vec<Unit> = looks
            .into_iter()
            .map(|words| Unit::of(vec![words]))
            .collect();
        for batch in looks.chunks(BATCH) {
            let lb = answers(&mut self.lb, batch)?;
            let single = answers(&mut self.single, batch)?;
            for ((unit, lb), single) in batch.iter().zip(lb).zip(single) {
                if !are_equal(&unit.commands[0], &lb[0], &single[0]) {
                    return Ok(Some(difference(&unit.commands[0], &lb[0], &single[0])));
                }
            }
        }
        Ok(None)
    }

    /// The fewest of these units that still differ: halves, quarters, … are left out as long as
    /// they may be.
    pub fn shrink(&mut self, mut units: Vec<Unit>) -> Result<Vec<Unit>> {
        let mut size = units.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < units.len() {
                let mut fewer = units.clone();
                fewer.drain(at..(at + size).min(units.len()));
                if self.play(&fewer, &mut Tally::default())?.is_some() {
                    units = fewer;
                } else {
                    at += size;
                }
            }
            if size == 1 {
                return Ok(units);
            }
            size = size.div_ceil(2);
        }
    }
}

fn answers(connection: &mut Connection, units: &[Unit]) -> Result<Vec<Vec<Reply>>> {
    for words in units.iter().flat_map(|unit| &unit.commands) {
        connection.queue(words);
    }
    connection.flush()?;
    let mut all = Vec::new();
    for unit in units {
        let mut answers = Vec::new();
        for words in &unit.commands {
            let answer = connection.answer();
            answers.push(
                answer.with_context(|| {
                    script(std::slice::from_ref(&Unit::of(vec![words.clone()])))
                })?,
            );
        }
        all.push(answers);
    }
    Ok(all)
}

/// Whether it is lb's own refusal of what cannot be right across servers.
fn refuses(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("CROSSSLOT") || text.contains("lb:"))
}

fn name(commands: &[Words]) -> String {
    let words = commands.first().and_then(|words| words.first());
    words.map_or_else(String::new, |word| {
        String::from_utf8_lossy(word).to_uppercase()
    })
}

fn difference(words: &Words, lb: &Reply, single: &Reply) -> Difference {
    Difference {
        command: script(&[Unit::of(vec![words.clone()])]),
        lb: format!("{lb:?}"),
        single: format!("{single:?}"),
    }
}

/// Units as a script for people.
pub(super) fn script(units: &[Unit]) -> String {
    let mut text = String::new();
    for words in units.iter().flat_map(|unit| &unit.commands) {
        for word in words {
            let _ = write!(text, "\"{}\" ", word.escape_ascii());
        }
        text.push('\n');
    }
    text
}
