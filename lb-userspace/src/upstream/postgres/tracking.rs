//! SET and RESET of a session. The server's CommandComplete says that one was done, the text that
//! was sent says which; whatever does not fit together pins the session.

use std::collections::{BTreeMap, VecDeque};

use super::settings::{self, Settings, Table};
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

/// What a server owes a session of whose login it knows nothing: PostgreSQL would go back to what the
/// login gave, and that server went back to its own defaults.
#[derive(Debug, Default)]
struct Owed {
    /// Everything was reset, but for what `names` says.
    all: bool,
    names: BTreeMap<String, Owes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owes {
    Lasting,
    /// Up to the end of the transaction.
    Local,
    /// It was set since.
    Nothing,
}

/// What was asked for, and what of it was done in the open transaction.
#[derive(Debug, Default)]
pub struct Tracking {
    /// Each with the number of its segment: answers of the segments before it may be on their way.
    expected: VecDeque<(u64, Box<[u8]>)>,
    /// Segments that were sent, and those that were answered.
    sent: u64,
    answered: u64,
    changes: Changes,
    /// The query of the unnamed statement, if it is a SET or RESET.
    pub unnamed: Option<Box<[u8]>>,
    owed: Owed,
    /// The last segment that has RESET ALL in it.
    resets_all: Option<u64>,
    may_reset: bool,
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
        self.may_reset |= sql::may_reset(&sql);
        self.expected.push_back((self.sent, sql));
    }

    /// A segment was sent, up to its end. Returns whether it asks for something that may take settings
    /// back to what they were at the login.
    pub fn segment_sent(&mut self) -> bool {
        self.sent += 1;
        std::mem::take(&mut self.may_reset)
    }

    /// What the segment that is being answered asked for next.
    fn next_expected(&mut self) -> Option<Box<[u8]>> {
        let answered = self.answered;
        let next = self
            .expected
            .pop_front_if(|(segment, _)| *segment == answered);
        next.map(|(_, sql)| sql)
    }

    /// A query was sent that has RESET ALL in it.
    pub fn expect_reset_all(&mut self) {
        self.resets_all = Some(self.sent);
        self.may_reset = true;
    }

    /// A SET was done; `false` if it is not known which.
    pub fn set(&mut self) -> bool {
        let Some(sql) = self.next_expected() else {
            return false;
        };
        match sql::set(&sql) {
            Set::Session(name) => {
                let sql = sql.trim_ascii();
                let sql = sql.strip_suffix(b";").unwrap_or(sql).to_vec();
                if self.owed.all || self.owed.names.contains_key(&name) {
                    self.owed.names.insert(name.clone(), Owes::Nothing);
                }
                self.changes.0.push(Change::Set(name, sql));
                true
            }
            Set::Default(name) => {
                self.changed_back(name);
                true
            }
            Set::LocalDefault(name) => {
                self.owed.names.insert(name, Owes::Local);
                true
            }
            Set::Local => true,
            Set::Unknown => false,
        }
    }

    fn changed_back(&mut self, name: String) {
        self.owed.names.insert(name.clone(), Owes::Lasting);
        self.changes.0.push(Change::Reset(name));
    }

    fn changed_all_back(&mut self) {
        self.owed.names.clear();
        self.owed.all = true;
        self.changes.0.push(Change::ResetAll);
    }

    /// A RESET was done; `false` if it is not known which.
    pub fn reset(&mut self) -> bool {
        match self.next_expected() {
            Some(sql) => match sql::reset(&sql) {
                Some(name) if name == "all" => self.changed_all_back(),
                Some(name) => self.changed_back(name),
                None => return false,
            },
            None if self.resets_all == Some(self.answered) => self.changed_all_back(),
            None => return false,
        }
        true
    }

    /// The statements that give back what the login gave, of what was reset since they were asked for
    /// last; empty if nothing was, if that was undone, or if the login gave nothing.
    pub fn owed(&mut self, base: &Settings) -> Vec<u8> {
        let mut script = Vec::new();
        if !self.owed.all && self.owed.names.is_empty() {
            return script;
        }
        let owed = std::mem::take(&mut self.owed);
        if self.has_failed {
            return script;
        }
        for (name, sql) in base.iter() {
            let owes = owed.names.get(name).copied();
            match owes.or(owed.all.then_some(Owes::Lasting)) {
                Some(Owes::Lasting) => script.extend_from_slice(sql),
                Some(Owes::Local) => script.extend_from_slice(&settings::local(sql)),
                Some(Owes::Nothing) | None => continue,
            }
            script.push(b';');
        }
        script
    }

    /// Nobody asks what is owed.
    pub fn owes_nothing(&mut self) {
        self.owed = Owed::default();
    }

    /// ROLLBACK, or ROLLBACK TO, which is told apart by what ReadyForQuery says.
    pub fn rolled_back(&mut self) {
        self.has_rolled_back |= !self.changes.0.is_empty();
        self.changes.0.clear();
        self.owed = Owed::default();
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

    /// ReadyForQuery, and another is to come: what was asked for behind it is still expected.
    pub fn next_segment(&mut self) {
        self.answered += 1;
        let answered = self.answered;
        let is_over = |(segment, _): &mut (u64, _)| *segment < answered;
        while self.expected.pop_front_if(is_over).is_some() {}
        self.has_failed = false;
        self.has_rolled_back = false;
    }

    /// ReadyForQuery, and everything that was sent is answered.
    pub fn next(&mut self) {
        self.expected.clear();
        self.answered = self.sent;
        self.has_failed = false;
        self.has_rolled_back = false;
    }

    /// DISCARD ALL: nothing of the session is left but what its login gave.
    pub fn discard(&mut self) {
        *self = Self {
            expected: std::mem::take(&mut self.expected),
            sent: self.sent,
            answered: self.answered,
            ..Self::default()
        };
        let _ = self.next_expected();
        self.changed_all_back();
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Map;
    use super::*;

    fn base(table: &Table) -> Settings {
        let parameters = [("datestyle", "Postgres"), ("timezone", "UTC")];
        table.hold(Map::of_startup(parameters))
    }

    fn owed(done: &[(&str, &[u8])]) -> String {
        let mut tracking = Tracking::default();
        for (sql, tag) in done {
            tracking.expect(sql.as_bytes());
            let is_known = match *tag {
                b"SET" => tracking.set(),
                b"RESET" => tracking.reset(),
                b"ROLLBACK" => {
                    tracking.rolled_back();
                    true
                }
                _ => {
                    tracking.discard();
                    true
                }
            };
            assert!(is_known, "{sql}");
        }
        let script = tracking.owed(&base(&Table::default()));
        assert!(tracking.owed(&base(&Table::default())).is_empty());
        String::from_utf8(script).expect("SQL is text")
    }

    #[test]
    fn answers_belong_to_their_segment() {
        let mut tracking = Tracking::default();
        assert!(!tracking.segment_sent());
        tracking.expect(b"RESET datestyle");
        assert!(tracking.segment_sent(), "it may reset");
        tracking.expect(b"SET timezone = 'CET'");
        assert!(!tracking.segment_sent());
        // The first segment has no SET in it: what it answers is not what the others asked for.
        assert!(!tracking.set());
        tracking.next_segment();
        assert!(tracking.reset());
        tracking.next_segment();
        assert!(tracking.set());
        tracking.next();
        assert!(!tracking.set());
    }

    #[test]
    fn what_is_reset_is_owed_what_the_login_gave() {
        const SET: &[u8] = b"SET";
        const RESET: &[u8] = b"RESET";
        let style = "SET \"datestyle\" TO 'Postgres';";
        let both = "SET \"datestyle\" TO 'Postgres';SET \"timezone\" TO 'UTC';";
        for (done, expected) in [
            (&[("RESET datestyle", RESET)][..], style),
            (&[("SET DateStyle TO DEFAULT", SET)], style),
            (
                &[("SET LOCAL DateStyle TO DEFAULT", SET)],
                "SET LOCAL \"datestyle\" TO 'Postgres';",
            ),
            (&[("RESET work_mem", RESET)], ""),
            (&[("RESET ALL", RESET)], both),
            (&[("DISCARD ALL", b"DISCARD ALL")], both),
            (
                &[("RESET ALL", RESET), ("SET timezone = 'CET'", SET)],
                style,
            ),
            (
                &[("SET datestyle = 'ISO'", SET), ("RESET datestyle", RESET)],
                style,
            ),
            (&[("RESET datestyle", RESET), ("ROLLBACK", b"ROLLBACK")], ""),
            (&[("SET datestyle = 'ISO'", SET)], ""),
        ] {
            assert_eq!(owed(done), expected, "{done:?}");
        }
    }
}
