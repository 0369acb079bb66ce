//! A transaction that was lost with its server: until the client ends it, its statements are
//! answered as PostgreSQL answers those of a failed transaction.

use super::rewrite::malformed;
use super::{End, Mode, Session};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::{frontend, sql, write};

/// in_failed_sql_transaction
const IN_FAILED_TRANSACTION: &str = "25P02";
/// BindComplete.
const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
/// NoData.
const NO_DATA: &[u8] = b"n\0\0\0\x04";
/// ParameterDescription of none.
const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";

/// A transaction that is over.
#[derive(Debug)]
pub(super) struct Aborted {
    /// The client knows.
    pub is_told: bool,
}

/// How a statement ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Commit,
    Rollback,
}

fn ending(sql: &[u8]) -> Option<Ending> {
    let (word, mut rest) = sql::first_word(sql)?;
    match &word[..] {
        b"commit" | b"end" => Some(Ending::Commit),
        b"abort" => Some(Ending::Rollback),
        b"rollback" => loop {
            // ROLLBACK TO a savepoint that is gone ends nothing.
            match sql::first_word(rest) {
                Some((word, after)) if matches!(&word[..], b"work" | b"transaction") => {
                    rest = after;
                }
                Some((word, _)) if word == b"to" => return None,
                _ => return Some(Ending::Rollback),
            }
        },
        _ => None,
    }
}

/// Whether a query has one statement in it, surely.
pub(super) fn is_alone(sql: &[u8]) -> bool {
    let sql = sql.trim_ascii();
    memchr::memchr(b';', sql).is_none_or(|at| at + 1 == sql.len())
}

/// Whether a query gives its transaction up, and does nothing else.
pub(super) fn is_rollback(sql: &[u8]) -> bool {
    is_alone(sql) && ending(sql) == Some(Ending::Rollback)
}

impl Session {
    /// Answers the next message of the client; `false` if it is not whole.
    pub(super) fn take_aborted(&mut self) -> Result<bool, End> {
        let Mode::Aborted(Aborted { is_told }) = self.mode else {
            return Ok(false);
        };
        let Some(header) = frame::header(&self.input).map_err(super::route::violation)? else {
            return Ok(false);
        };
        if self.input.len() < header.total {
            if header.total > self.worker.input_bytes_max() {
                return Err(End::Refused(lost_transaction("FATAL")));
            }
            return Ok(false);
        }
        let input = std::mem::take(&mut self.input);
        let body = &input[HEADER_BYTES..header.total];
        let mut answer = Vec::new();
        match header.tag {
            b'Q' => {
                let ending = ending(body.strip_suffix(b"\0").unwrap_or(body));
                let is_over = self.statement(ending, is_told, &mut answer);
                write::ready(&mut answer, if is_over { b'I' } else { b'E' });
            }
            b'P' => {
                let parse = frontend::parse(body).ok_or_else(malformed)?;
                if let Some(ending) = ending(parse.query) {
                    self.aborted_ending = Some(ending == Ending::Commit);
                    answer.extend_from_slice(write::PARSE_COMPLETE);
                } else {
                    self.refuse_statement(is_told, &mut answer);
                }
            }
            b'B' => {
                let bind = frontend::bind(body).ok_or_else(malformed)?;
                if let Some(named) = self.names.as_ref().and_then(|n| n.get(bind.statement)) {
                    let query = named.statement.query();
                    self.aborted_ending = ending(query).map(|ending| ending == Ending::Commit);
                }
                if self.aborted_ending.is_some() {
                    answer.extend_from_slice(BIND_COMPLETE);
                } else {
                    self.refuse_statement(is_told, &mut answer);
                }
            }
            b'D' if self.aborted_ending.is_some() => {
                if body.first() == Some(&b'S') {
                    answer.extend_from_slice(NO_PARAMETERS);
                }
                answer.extend_from_slice(NO_DATA);
            }
            b'E' => {
                let ending = self.aborted_ending.take().map(|commits| {
                    if commits {
                        Ending::Commit
                    } else {
                        Ending::Rollback
                    }
                });
                if ending.is_none() || !self.statement(ending, is_told, &mut answer) {
                    self.is_skipping = true;
                }
            }
            b'C' => answer.extend_from_slice(write::CLOSE_COMPLETE),
            b'S' => write::ready(&mut answer, b'E'),
            b'X' => self.is_leaving = true,
            b'D' | b'F' => self.refuse_statement(is_told, &mut answer),
            _ => {}
        }
        self.input = input;
        buffer::consume(&mut self.input, header.total);
        buffer::append(&mut self.to_client, &answer);
        Ok(true)
    }

    /// Answers a statement; `true` if it ended the transaction.
    fn statement(&mut self, ending: Option<Ending>, is_told: bool, out: &mut Vec<u8>) -> bool {
        match ending {
            Some(Ending::Commit) if !is_told => lost_transaction("ERROR").write(out),
            Some(_) => write::command_complete(out, "ROLLBACK"),
            None => {
                self.tell_of_abort(is_told, out);
                return false;
            }
        }
        self.mode = Mode::Rest;
        true
    }

    fn refuse_statement(&mut self, is_told: bool, out: &mut Vec<u8>) {
        self.tell_of_abort(is_told, out);
        self.is_skipping = true;
    }

    fn tell_of_abort(&mut self, is_told: bool, out: &mut Vec<u8>) {
        if is_told {
            let what =
                "current transaction is aborted, commands ignored until end of transaction block";
            PgError::error(IN_FAILED_TRANSACTION, what).write(out);
        } else {
            lost_transaction("ERROR").write(out);
            self.mode = Mode::Aborted(Aborted { is_told: true });
        }
    }

    /// Leaves out what an error voids; `false` while the Sync has not come.
    pub(super) fn skip_to_sync(&mut self) -> Result<bool, End> {
        let Some(header) = frame::header(&self.input).map_err(super::route::violation)? else {
            return Ok(false);
        };
        if self.input.len() < header.total {
            if header.total > self.worker.input_bytes_max() {
                return Err(End::Refused(lost_transaction("FATAL")));
            }
            return Ok(false);
        }
        if header.tag == b'S' {
            self.is_skipping = false;
            let state = if matches!(self.mode, Mode::Aborted(_)) {
                b'E'
            } else {
                b'I'
            };
            let mut ready = Vec::new();
            write::ready(&mut ready, state);
            buffer::append(&mut self.to_client, &ready);
        } else if header.tag == b'X' {
            self.is_leaving = true;
        }
        buffer::consume(&mut self.input, header.total);
        Ok(true)
    }
}

fn lost_transaction(severity: &str) -> PgError {
    let what = "the primary was lost: the transaction is rolled back";
    if severity == "FATAL" {
        PgError::fatal(code::CONNECTION_FAILURE, what)
    } else {
        PgError::error(code::CONNECTION_FAILURE, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_of_a_transaction_are_known() {
        for (sql, expected) in [
            (&b"COMMIT"[..], Some(Ending::Commit)),
            (b" end;", Some(Ending::Commit)),
            (b"rollback", Some(Ending::Rollback)),
            (b"ROLLBACK TO s", None),
            (b"rollback work  to savepoint s", None),
            (b"/* who */ ROLLBACK TRANSACTION;", Some(Ending::Rollback)),
            (b"abort work", Some(Ending::Rollback)),
            (b"select 1", None),
            (b"", None),
        ] {
            assert_eq!(ending(sql), expected, "{}", String::from_utf8_lossy(sql));
        }
    }

    #[test]
    fn a_commit_hidden_in_a_script_counts() {
        assert!(super::super::failed::may_commit(
            b"insert into t values (1); COMMIT"
        ));
        assert!(super::super::failed::may_commit(b"commit"));
        assert!(super::super::failed::may_commit(
            b"ROLLBACK; insert into t values (1)"
        ));
        assert!(!super::super::failed::may_commit(b"rollback;"));
        assert!(!super::super::failed::may_commit(
            b"insert into t values (1)"
        ));
    }
}
