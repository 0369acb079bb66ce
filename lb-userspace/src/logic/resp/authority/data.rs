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
    /// Differs with each emptying.
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

/// Decides about a server that says `info` and has that marker. `stale` is the marker that it had when
/// its keys went elsewhere; `is_known`: it has been seen with a marker before.
pub(super) fn step(
    info: &Info,
    marker: Option<&Marker>,
    epoch: u64,
    stale: Option<&str>,
    is_known: bool,
) -> Step {
    let Some(marker) = marker else {
        return if is_known && info.has_keys {
            Step::Empty
        } else {
            Step::Adopt
        };
    };
    if stale.is_some_and(|stale| stale == marker.text()) {
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

    #[test]
    fn old_data_is_emptied_and_a_promoted_copy_keeps_its_own() {
        let first = info("a", "x", "0");
        let marker = Marker::of(&first, 1, 7);
        assert_eq!(Marker::parse(&marker.text()), Some(marker.clone()));
        let is =
            |info: &Info, epoch, stale: Option<&str>| step(info, Some(&marker), epoch, stale, true);
        assert_eq!(is(&first, 1, None), Step::Serve);
        let with_first_copy = info("a", "w", "0");
        assert_eq!(is(&with_first_copy, 1, None), Step::Adopt);
        let restarted = info("b", "y", "x");
        assert_eq!(is(&restarted, 1, None), Step::Empty, "an old snapshot");
        let promoted = info("c", "z", "x");
        assert_eq!(is(&promoted, 2, None), Step::Adopt);
        let of_another = info("c", "z", "w");
        assert_eq!(
            is(&of_another, 2, None),
            Step::Empty,
            "a copy of something else"
        );
        let text = marker.text();
        assert_eq!(
            is(&first, 1, Some(&text)),
            Step::Empty,
            "its keys were elsewhere"
        );
        assert_eq!(
            step(&first, None, 1, None, false),
            Step::Adopt,
            "met for the first time"
        );
        assert_eq!(
            step(&first, None, 1, None, true),
            Step::Empty,
            "a snapshot from before"
        );
    }
}
