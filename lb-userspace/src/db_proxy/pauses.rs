//! Which databases are paused by the console, also for pools that are still to come.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// All databases, or some.
#[derive(Debug, Default)]
pub(super) struct Pauses(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    all: bool,
    /// Databases with which it is otherwise than with all others. No more than there are pools: others'
    /// names are refused.
    others: BTreeSet<String>,
}

impl Pauses {
    /// Whether servers of a database are kept back.
    pub fn is_paused(&self, database: &str) -> bool {
        self.0.borrow().is_paused(database)
    }

    /// Whether all databases are paused, but for those that were named since.
    pub fn all_are_paused(&self) -> bool {
        self.0.borrow().all
    }

    /// Pauses a database or ends its pause; `None` means all.
    pub fn set(&self, database: Option<&str>, is_paused: bool) {
        let mut state = self.0.borrow_mut();
        match database {
            None => {
                state.all = is_paused;
                state.others.clear();
            }
            Some(database) if state.all == is_paused => {
                state.others.remove(database);
            }
            Some(database) => {
                state.others.insert(database.to_owned());
            }
        }
    }
}

impl State {
    fn is_paused(&self, database: &str) -> bool {
        self.all != self.others.contains(database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_paused_by_itself_or_with_all() {
        let pauses = Pauses::default();
        for (database, is_paused, a, b) in [
            (Some("a"), true, true, false),
            (Some("b"), false, true, false),
            (None, true, true, true),
            (Some("b"), false, true, false),
            (Some("b"), true, true, true),
            (Some("a"), false, false, true),
            (None, false, false, false),
        ] {
            pauses.set(database, is_paused);
            let now = (pauses.is_paused("a"), pauses.is_paused("b"));
            assert_eq!(now, (a, b), "{database:?} {is_paused}");
        }
    }
}
