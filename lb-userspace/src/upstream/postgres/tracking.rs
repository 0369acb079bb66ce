//! SET and RESET of a session. The server's CommandComplete says that one was done, the text that
//! was sent says which; whatever does not fit together pins the session.

use std::collections::VecDeque;

use super::settings::{Settings, Table};
use crate::wire::postgres::sql::{self, Set};

/// One change of a setting.
#[derive(Debug)]
enum Change {
    Set(String, Vec<u8>),
    Reset(String),
    ResetAll,
}

/// Changes in their order.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// The settings after the changes, where resetting means going back to `base`.
    pub fn apply(&self, table: &Table, settings: &Settings, base: &Settings) -> Settings {
        self.0
            .iter()
            .fold(settings.clone(), |settings, change| match change {
                Change::Set(name, sql) => table.changed(&settings, name, Some(sql)),
                Change::Reset(name) => table.changed(&settings, name, base.get(name)),
                Change::ResetAll => base.clone(),
            })
    }
}

/// What was asked for, and what of it was done in the open transaction.
#[derive(Debug, Default)]
pub struct Tracking {
    expected: VecDeque<Box<[u8]>>,
    changes: Changes,
    /// The query of the unnamed statement, if it is a SET or RESET.
    pub unnamed: Option<Box<[u8]>>,
    resets_all: bool,
    has_failed: bool,
    has_rolled_back: bool,
}

impl Tracking {
    /// A statement was sent that begins with SET or RESET.
    pub fn expect(&mut self, sql: &[u8]) {
        self.expect_owned(sql.into());
    }

    /// The same, of a text that is ours already.
    pub fn expect_owned(&mut self, sql: Box<[u8]>) {
        self.expected.push_back(sql);
    }

    /// A query was sent that has RESET ALL in it.
    pub fn expect_reset_all(&mut self) {
        self.resets_all = true;
    }

    /// A SET was done; `false` if it is not known which.
    pub fn set(&mut self) -> bool {
        let Some(sql) = self.expected.pop_front() else {
            return false;
        };
        match sql::set(&sql) {
            Set::Session(name) => {
                let sql = sql.trim_ascii();
                let sql = sql.strip_suffix(b";").unwrap_or(sql).to_vec();
                self.changes.0.push(Change::Set(name, sql));
                true
            }
            Set::Local => true,
            Set::Unknown => false,
        }
    }

    /// A RESET was done; `false` if it is not known which.
    pub fn reset(&mut self) -> bool {
        let change = match self.expected.pop_front() {
            Some(sql) => match sql::reset(&sql) {
                Some(name) if name == "all" => Change::ResetAll,
                Some(name) => Change::Reset(name),
                None => return false,
            },
            None if self.resets_all => Change::ResetAll,
            None => return false,
        };
        self.changes.0.push(change);
        true
    }

    /// ROLLBACK, or ROLLBACK TO, which is told apart by what ReadyForQuery says.
    pub fn rolled_back(&mut self) {
        self.has_rolled_back |= !self.changes.0.is_empty();
        self.changes.0.clear();
    }

    pub fn failed(&mut self) {
        self.has_failed = true;
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// With the transaction still open: some changes were undone, and it is not known which.
    pub fn is_ambiguous(&self) -> bool {
        self.has_rolled_back
    }

    pub fn drop_changes(&mut self) {
        self.changes.0.clear();
    }

    /// What was changed, if anything was.
    pub fn take_changes(&mut self) -> Option<Changes> {
        (!self.changes.0.is_empty()).then(|| std::mem::take(&mut self.changes))
    }

    /// ReadyForQuery: what is expected from here on is expected of the next query.
    pub fn next(&mut self) {
        self.expected.clear();
        self.resets_all = false;
        self.has_failed = false;
        self.has_rolled_back = false;
    }

    /// DISCARD ALL.
    pub fn discard(&mut self) {
        *self = Self::default();
    }
}
