//! Which shard a segment is for, where a database has several: what a comment in it says
//! (`/* lb.shard_key=… */`), else what the session has set (`lb.shard_key`, also at its login). Consistent
//! hashing of the key chooses. A transaction stays on the shard that it began on.

use std::borrow::Cow;

use super::{End, Session};
use crate::sql::{SHARD_KEY, ShardKey, shard_key};
use crate::upstream::postgres::settings::Settings;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::frontend;

/// Statements that concern the session and no data: any shard can do them.
const OF_THE_SESSION: [&[u8]; 10] = [
    b"set",
    b"reset",
    b"show",
    b"discard",
    b"deallocate",
    b"commit",
    b"end",
    b"rollback",
    b"abort",
    b"unlisten",
];

/// What a segment says of shards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Nothing, and it concerns no data.
    #[default]
    Nothing,
    /// Nothing, though it may concern data.
    Needs,
    /// It is for this one.
    Is(usize),
    /// It is for several.
    Several,
}

impl Says {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, says) | (says, Self::Nothing) => says,
            (Self::Several, _) | (_, Self::Several) => Self::Several,
            (Self::Is(one), Self::Is(other)) if one != other => Self::Several,
            (Self::Is(one), _) | (_, Self::Is(one)) => Self::Is(one),
            (Self::Needs, Self::Needs) => Self::Needs,
        }
    }
}

/// The shard of the key that is set, by its position; `None` if none is set.
pub(in crate::logic::postgres) fn of_settings(
    settings: &Settings,
    shard_for: impl Fn(&[u8]) -> usize,
) -> Option<usize> {
    let sql = settings.get(SHARD_KEY)?;
    match shard_key(sql)? {
        ShardKey::Session(key) => Some(shard_for(&key)),
        ShardKey::Query(_) | ShardKey::Unset => None,
    }
}

impl Session {
    /// Turns to the shard of the segment that `input` begins with; `false` if the client was told why that
    /// cannot be.
    pub(super) fn turns_to_shard(&mut self) -> Result<bool, End> {
        if !self.who.has_shards() {
            return Ok(true);
        }
        let says = self.segment_says().map_err(super::route::violation)?;
        let says = match says {
            Says::Nothing | Says::Needs => {
                let set = of_settings(&self.settings, |key| self.who.shard_for(key));
                set.map_or(says, Says::Is)
            }
            says => says,
        };
        let shard = match says {
            Says::Nothing => self.shard,
            Says::Is(shard) => shard,
            Says::Needs => {
                let what = "this database has several shards, and the statement has no shard key";
                let hint = "SET lb.shard_key = '…', or write /* lb.shard_key=… */ in front of it.";
                let error = PgError::error(code::OBJECT_NOT_IN_STATE, what).hint(hint);
                self.refuse_next(&error)?;
                return Ok(false);
            }
            Says::Several => {
                let what = "one segment is for several shards";
                self.refuse_next(&PgError::error(code::FEATURE_NOT_SUPPORTED, what))?;
                return Ok(false);
            }
        };
        if let Some(pinned) = self.pinned
            && self.who.shards[pinned] != shard
        {
            let what =
                "this session has temporary objects, locks or notifications on another shard";
            self.refuse_next(&PgError::error(code::FEATURE_NOT_SUPPORTED, what))?;
            return Ok(false);
        }
        self.shard = shard;
        Ok(true)
    }

    /// Within a transaction, or behind what is on its way: no other shard can be turned to.
    pub(super) fn keeps_to_shard(&self, sql: &[u8]) -> Result<(), End> {
        if !self.who.has_shards() || !matches!(self.mode, super::Mode::Relay(_)) {
            return Ok(());
        }
        match self.statement_says(sql) {
            Says::Is(shard) if shard != self.shard => {
                let what = "a statement is for another shard than its transaction";
                let error = PgError::fatal(code::FEATURE_NOT_SUPPORTED, what);
                Err(End::Refused(error))
            }
            _ => Ok(()),
        }
    }

    /// Looks at as much of the segment as is there.
    fn segment_says(&self) -> Result<Says, frame::BadLength> {
        let mut says = Says::default();
        let mut parses_unnamed = false;
        let mut at = 0;
        while let Some(header) = frame::header(&self.input[at..])? {
            let end = self.input.len().min(at + header.total);
            let body = &self.input[at + HEADER_BYTES..end];
            says = says.and(match header.tag {
                b'Q' => self.statement_says(body.strip_suffix(b"\0").unwrap_or(body)),
                b'P' => frontend::parse(body).map_or(Says::Needs, |parse| {
                    parses_unnamed |= parse.name.is_empty();
                    self.statement_says(parse.query)
                }),
                b'B' => self.bind_says(body, parses_unnamed),
                b'F' => Says::Needs,
                _ => Says::Nothing,
            });
            at += header.total;
            if matches!(header.tag, b'Q' | b'F' | b'S') || at > self.input.len() {
                break;
            }
        }
        Ok(says)
    }

    /// What the segment itself has parsed was looked at already.
    fn bind_says(&self, body: &[u8], is_parsed_here: bool) -> Says {
        let Some(bind) = frontend::bind(body) else {
            return Says::Needs;
        };
        if bind.statement.is_empty() {
            let query = frame::text(&self.unnamed).filter(|_| !is_parsed_here);
            let query = query.map(|(query, _types)| query);
            return query.map_or(Says::Nothing, |query| self.statement_says(query));
        }
        let named = self
            .names
            .as_ref()
            .and_then(|names| names.get(bind.statement));
        named.map_or(Says::Nothing, |named| {
            self.statement_says(named.statement.query())
        })
    }

    fn statement_says(&self, sql: &[u8]) -> Says {
        if let Some(ShardKey::Query(key)) = shard_key(sql) {
            return Says::Is(self.who.shard_for(key));
        }
        let text = sql.trim_ascii();
        let word = text.split(|byte| !byte.is_ascii_alphabetic()).next();
        let word: Cow<'_, [u8]> = word.unwrap_or_default().to_ascii_lowercase().into();
        let is_alone = memchr::memchr(b';', text).is_none_or(|at| at + 1 == text.len());
        if text.is_empty() || (is_alone && OF_THE_SESSION.contains(&&*word)) {
            Says::Nothing
        } else {
            Says::Needs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_segment_says_is_what_its_statements_say() {
        for (one, other, both) in [
            (Says::Nothing, Says::Needs, Says::Needs),
            (Says::Nothing, Says::Is(1), Says::Is(1)),
            (Says::Needs, Says::Is(1), Says::Is(1)),
            (Says::Is(1), Says::Is(1), Says::Is(1)),
            (Says::Is(0), Says::Is(1), Says::Several),
            (Says::Several, Says::Is(1), Says::Several),
        ] {
            assert_eq!(one.and(other), both);
            assert_eq!(other.and(one), both);
        }
    }
}
