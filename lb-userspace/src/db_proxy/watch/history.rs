//! The history of a server's log: which timelines it went through, and where it left each. Decides
//! whether a server has what a floor stands for. Pure.

use crate::wire::postgres::link::{Epoch, Lsn};

/// A timeline that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    timeline: u32,
    at: Lsn,
}

/// The timelines of a server, up to the one that it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::db_proxy) struct History {
    system: u64,
    timeline: u32,
    /// The oldest first; `None` if the server does not tell.
    left: Option<Vec<Left>>,
}

/// How a server stands to a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db_proxy) enum Standing {
    /// It has what the floor stands for.
    Reached,
    /// It may have it later.
    Ahead,
    /// It never will.
    Lost,
}

impl History {
    /// Of a server on `timeline`, by the text of that timeline's history file: `None` if there is
    /// one that could not be had. The first timeline has none.
    pub fn new(system: u64, timeline: u32, file: Option<&str>) -> Self {
        let left = match file {
            _ if timeline <= 1 => Some(Vec::new()),
            Some(text) => parse(text),
            None => None,
        };
        Self {
            system,
            timeline,
            left,
        }
    }

    pub fn epoch(&self) -> Epoch {
        let last = self.left.as_ref().and_then(|left| left.last());
        Epoch {
            system: self.system,
            timeline: self.timeline,
            began: last.map_or(Lsn(0), |left| left.at),
        }
    }

    /// Whether this is the history of that server and timeline, so that it need not be read again.
    pub fn is_of(&self, system: u64, timeline: u32) -> bool {
        self.system == system && self.timeline == timeline && self.left.is_some()
    }

    /// How a server that has replayed (or inserted) up to `reached` stands to a floor.
    pub fn standing(&self, reached: Lsn, epoch: Epoch, floor: Lsn) -> Standing {
        if epoch.system != self.system {
            return Standing::Lost;
        }
        if epoch.timeline > self.timeline {
            return Standing::Ahead;
        }
        let Some(left) = &self.left else {
            // It may have left the floor's timeline before the floor, or on another branch.
            return Standing::Ahead;
        };
        // Where the floor's timeline began in this history, and where it ended.
        let (began, ended) = if epoch.timeline == self.timeline {
            (left.last().map(|left| left.at), None)
        } else {
            let place = left.iter().position(|l| l.timeline == epoch.timeline);
            let Some(place) = place else {
                return Standing::Lost;
            };
            let before = place.checked_sub(1).map(|before| left[before].at);
            (before, Some(left[place].at))
        };
        let is_other_branch = epoch.began != Lsn(0) && began.unwrap_or_default() != epoch.began;
        if is_other_branch || ended.is_some_and(|ended| floor > ended) {
            return Standing::Lost;
        }
        if reached >= floor {
            Standing::Reached
        } else {
            Standing::Ahead
        }
    }
}

/// Lines of `parent timeline`, `switch point`, `reason`, separated by tabs; `None` if one is not.
fn parse(text: &str) -> Option<Vec<Left>> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let left: Option<Vec<_>> = lines
        .map(|line| {
            let mut fields = line.split_ascii_whitespace();
            Some(Left {
                timeline: fields.next()?.parse().ok()?,
                at: Lsn::parse(fields.next()?)?,
            })
        })
        .collect();
    left.filter(|left| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: u64 = 7;
    const FILE: &str = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tno reason\n";

    fn epoch(timeline: u32, began: u64) -> Epoch {
        Epoch {
            system: SYSTEM,
            timeline,
            began: Lsn(began),
        }
    }

    #[test]
    fn an_epoch_begins_where_the_timeline_before_it_was_left() {
        let history = History::new(SYSTEM, 3, Some(FILE));
        assert_eq!(history.epoch(), epoch(3, 0x500_0000));
        assert!(history.is_of(SYSTEM, 3) && !history.is_of(SYSTEM, 2));
        assert_eq!(History::new(SYSTEM, 1, None).epoch(), epoch(1, 0));
        assert_eq!(History::new(SYSTEM, 2, None).epoch(), epoch(2, 0));
        assert!(!History::new(SYSTEM, 2, Some("nonsense")).is_of(SYSTEM, 2));
    }

    #[test]
    fn floors_are_judged_by_the_history_that_they_belong_to() {
        use Standing::{Ahead, Lost, Reached};
        let history = History::new(SYSTEM, 3, Some(FILE));
        let reached = Lsn(0x600_0000);
        for (what, floor_epoch, floor, expected) in [
            (
                "its own timeline",
                epoch(3, 0x500_0000),
                0x600_0000,
                Reached,
            ),
            ("its own, not yet", epoch(3, 0x500_0000), 0x600_0001, Ahead),
            (
                "its number, another branch",
                epoch(3, 0x400_0000),
                0x450_0000,
                Lost,
            ),
            (
                "its number, branch unknown",
                epoch(3, 0),
                0x600_0000,
                Reached,
            ),
            (
                "before the switch",
                epoch(2, 0x300_0000),
                0x500_0000,
                Reached,
            ),
            ("beyond the switch", epoch(2, 0x300_0000), 0x500_0001, Lost),
            ("an older branch", epoch(2, 0x200_0000), 0x250_0000, Lost),
            ("the first timeline", epoch(1, 0), 0x300_0000, Reached),
            ("beyond the first switch", epoch(1, 0), 0x300_0001, Lost),
            (
                "a timeline to come",
                epoch(4, 0x550_0000),
                0x100_0000,
                Ahead,
            ),
        ] {
            let standing = history.standing(reached, floor_epoch, Lsn(floor));
            assert_eq!(standing, expected, "{what}");
        }
        let other = Epoch {
            system: 8,
            ..epoch(3, 0)
        };
        assert_eq!(history.standing(reached, other, Lsn(0)), Lost);
    }

    #[test]
    fn without_its_history_file_a_server_is_trusted_with_nothing_older_than_its_timeline() {
        let history = History::new(SYSTEM, 3, None);
        let standing = |timeline| history.standing(Lsn(9), epoch(timeline, 0), Lsn(1));
        assert_eq!(standing(2), Standing::Ahead);
        assert_eq!(standing(3), Standing::Ahead);
    }
}
