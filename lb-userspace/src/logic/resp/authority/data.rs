//! Whether a server's data may be read: pure decisions about the marker that is kept beside the data.
//!
//! The marker names the process that had the data last with everybody's knowledge. A process that
//! finds another's name in its data was restarted with an old snapshot, and is emptied: by whoever
//! exchanges the marker, once. A copy that was promoted has its primary's marker, and the primary's
//! replication id, and keeps its data.

use super::info::Info;

/// What is written beside the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub run_id: String,
    /// Sentinel's epoch when it was written.
    pub epoch: u64,
    /// The replication id of the data.
    pub replid: String,
    /// Differs with each emptying, and stays the same for as long as the data is good.
    pub token: u64,
}

impl Marker {
    pub fn of(info: &Info, epoch: u64, token: u64) -> Self {
        Self {
            run_id: info.run_id.clone(),
            epoch,
            replid: info.replid.clone(),
            token,
        }
    }

    pub fn text(&self) -> String {
        let Self {
            run_id,
            epoch,
            replid,
            token,
        } = self;
        format!("{run_id} {epoch} {replid} {token:016x}")
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            run_id: words.next()?.to_owned(),
            epoch: words.next()?.parse().ok()?,
            replid: words.next()?.to_owned(),
            token: u64::from_str_radix(words.next()?, 16).ok()?,
        })
    }
}

/// What a daemon remembers of a server's data.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The marker that it had last.
    pub marker: Option<Marker>,
    /// The token of the marker that it had when its keys went elsewhere.
    pub stale: Option<u64>,
    /// The replication id of the data when it was last good.
    pub replid: String,
    /// The process that was last looked at and good, and has been since, without a break.
    pub running: Option<String>,
}

/// What is to be done before a server's data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Serve,
    /// Write a marker; the data is good.
    Adopt,
    /// Write a marker, and empty the server in the same breath.
    Empty,
}

/// Decides about a server that says `info` and has that marker.
pub(super) fn step(info: &Info, marker: Option<&Marker>, epoch: u64, known: &Known) -> Step {
    let Some(marker) = marker else {
        return without_marker(info, known);
    };
    if known.stale == Some(marker.token) {
        return Step::Empty;
    }
    if marker.run_id == info.run_id {
        // A server takes another replication id when its first copy comes: the copy's data is known
        // by that one.
        let is_current = marker.replid == info.replid;
        return if is_current { Step::Serve } else { Step::Adopt };
    }
    let was_promoted = epoch > marker.epoch && info.replid_before == marker.replid;
    if was_promoted {
        Step::Adopt
    } else {
        Step::Empty
    }
}

/// A server that was never looked at has no marker, and one that somebody emptied past lb, marker and all.
/// Anything else without one is a snapshot from before the marker.
fn without_marker(info: &Info, known: &Known) -> Step {
    let is_new = known.marker.is_none();
    if is_new || !info.has_keys || known.descends(info) {
        Step::Adopt
    } else {
        Step::Empty
    }
}

impl Known {
    /// Whether the data is what was good, or its copy.
    fn descends(&self, info: &Info) -> bool {
        let is_running = self.running.as_ref() == Some(&info.run_id);
        is_running || !self.replid.is_empty() && info.replid_before == self.replid
    }
}

/// The token of the next marker: the same for as long as the data is.
pub(super) fn next_token(step: Step, info: &Info, marker: Option<&Marker>, known: &Known) -> u64 {
    let before = known.marker.as_ref().filter(|_| known.descends(info));
    let kept = marker.or(before).filter(|_| step == Step::Adopt);
    kept.map_or_else(|| fastrand::u64(..), |marker| marker.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(run_id: &str, replid: &str, before: &str) -> Info {
        Info {
            run_id: run_id.into(),
            is_primary: true,
            replid: replid.into(),
            replid_before: before.into(),
            has_keys: true,
            ..Info::default()
        }
    }

    fn known(marker: &Marker) -> Known {
        Known {
            marker: Some(marker.clone()),
            replid: marker.replid.clone(),
            ..Known::default()
        }
    }

    #[test]
    fn old_data_is_emptied_and_a_promoted_copy_keeps_its_own() {
        let first = info("a", "x", "0");
        let marker = Marker::of(&first, 1, 7);
        assert_eq!(Marker::parse(&marker.text()), Some(marker.clone()));
        let known = known(&marker);
        let is = |info: &Info, epoch| step(info, Some(&marker), epoch, &known);
        assert_eq!(is(&first, 1), Step::Serve);
        let with_first_copy = info("a", "w", "0");
        assert_eq!(is(&with_first_copy, 1), Step::Adopt);
        let restarted = info("b", "y", "x");
        assert_eq!(is(&restarted, 1), Step::Empty, "an old snapshot");
        let promoted = info("c", "z", "x");
        assert_eq!(is(&promoted, 2), Step::Adopt);
        let of_another = info("c", "z", "w");
        assert_eq!(is(&of_another, 2), Step::Empty, "a copy of something else");
    }

    #[test]
    fn data_whose_keys_were_elsewhere_is_emptied_whoever_wrote_the_marker_again() {
        let first = info("a", "x", "0");
        let marker = Marker::of(&first, 1, 7);
        let elsewhere = Known {
            stale: Some(marker.token),
            ..known(&marker)
        };
        assert_eq!(step(&first, Some(&marker), 1, &elsewhere), Step::Empty);
        // Another daemon, to which it was never lost, writes a marker anew.
        let running = Known {
            running: Some("a".into()),
            ..known(&marker)
        };
        let token = next_token(Step::Adopt, &first, None, &running);
        let again = Marker::of(&first, 1, token);
        assert_eq!(step(&first, Some(&again), 1, &elsewhere), Step::Empty);
        for (adopted, marker) in [(Step::Empty, Some(&marker)), (Step::Adopt, None)] {
            let token = next_token(adopted, &first, marker, &elsewhere);
            let fresh = Marker::of(&first, 1, token);
            assert_eq!(step(&first, Some(&fresh), 1, &elsewhere), Step::Serve);
        }
    }

    #[test]
    fn data_that_lost_its_marker_is_kept_where_it_is_known_to_descend_from_good_data() {
        let first = info("a", "x", "0");
        let marker = Marker::of(&first, 1, 7);
        let seen = known(&marker);
        let is = |info: &Info, known: &Known| step(info, None, 2, known);
        assert_eq!(is(&first, &Known::default()), Step::Adopt, "met first");
        assert_eq!(is(&info("b", "y", "0"), &seen), Step::Empty, "a snapshot");
        assert_eq!(is(&first, &seen), Step::Empty, "it was away");
        let running = Known {
            running: Some("a".into()),
            ..seen.clone()
        };
        assert_eq!(is(&first, &running), Step::Adopt);
        assert_eq!(is(&info("c", "z", "x"), &seen), Step::Adopt, "promoted");
    }
}
