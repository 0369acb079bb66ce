//! One target: what was found last, what the reconciler heard of it, and what to do next. Pure: the
//! time is an argument.

use tokio::time::Instant;

use super::{
    NextHop, RESOLVE_TIMEOUT, RETRY_INTERVAL, Target, Unresolved,
    entry::EntryKey,
    lookup::{Answer, Found},
};

pub(super) type Reported = Result<NextHop, Unresolved>;

/// A target, and what was made of it.
pub(super) struct Tracked {
    pub(super) target: Target,
    /// The neighbour it depends on.
    pub(super) key: Option<EntryKey>,
    /// What the reconciler heard last.
    reported: Option<Reported>,
    /// Until when an unanswered question keeps `reported` as it is.
    pub(super) patience: Option<Instant>,
    /// When, and for which neighbour, the kernel was last asked to resolve.
    asked: Option<(Instant, EntryKey)>,
    pub(super) is_dirty: bool,
}

impl Tracked {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            key: None,
            reported: None,
            patience: None,
            asked: None,
            is_dirty: true,
        }
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.patience.is_some() || !matches!(self.reported, Some(Ok(_)))
    }

    /// The neighbour to have resolved now, if any; the same one at most once in [`RETRY_INTERVAL`].
    pub(super) fn due_question(&mut self, found: &Found, now: Instant) -> Option<EntryKey> {
        let key = found.key?;
        match &found.answer {
            Answer::Impossible(_) => return None,
            Answer::Known { is_kept: true, .. } => {
                // The question was answered: should the entry vanish, the next one is not too soon.
                self.asked = None;
                return None;
            }
            Answer::Known { .. } | Answer::Asking(_) | Answer::Silent(_) => {}
        }
        if self
            .asked
            .is_some_and(|(at, asked)| asked == key && now < at + RETRY_INTERVAL)
        {
            return None;
        }
        self.asked = Some((now, key));
        Some(key)
    }

    /// What the reconciler should hear of it, if anything.
    pub(super) fn judge(&mut self, found: Found, now: Instant) -> Option<Reported> {
        self.key = found.key;
        let result = match found.answer {
            Answer::Known { next_hop, .. } => Ok(next_hop),
            Answer::Silent(reason) | Answer::Impossible(reason) => Err(reason),
            Answer::Asking(reason) => {
                let is_loss = !matches!(self.reported, Some(Err(_)));
                let patience = *self.patience.get_or_insert(now + RESOLVE_TIMEOUT);
                if is_loss && now < patience {
                    return None;
                }
                Err(reason)
            }
        };
        self.patience = None;
        if self.reported.as_ref() == Some(&result) {
            return None;
        }
        self.reported = Some(result.clone());
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::interface::Mac;

    fn tracked() -> Tracked {
        let address = "192.0.2.1".parse().unwrap();
        Tracked::new(Target {
            id: 1,
            address,
            on_link_required: true,
        })
    }

    fn found(answer: Answer) -> Found {
        Found {
            key: Some((3, "192.0.2.1".parse().unwrap())),
            answer,
        }
    }

    fn known() -> Answer {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let next_hop = NextHop {
            interface_index: 3,
            mac,
            gateway: None,
            source: None,
        };
        Answer::Known {
            next_hop,
            is_kept: false,
        }
    }

    fn reason() -> Unresolved {
        let neighbour = "192.0.2.1".parse().unwrap();
        Unresolved::NoNeighbour {
            neighbour,
            interface: "eth0".to_owned(),
        }
    }

    #[test]
    fn a_neighbour_that_is_asked_anew_keeps_its_answer_for_a_while() {
        let (mut tracked, start) = (tracked(), Instant::now());
        assert!(matches!(tracked.judge(found(known()), start), Some(Ok(_))));
        assert_eq!(tracked.judge(found(Answer::Asking(reason())), start), None);
        assert!(tracked.is_unsettled());
        let later = start + RESOLVE_TIMEOUT;
        assert_eq!(
            tracked.judge(found(Answer::Asking(reason())), later),
            Some(Err(reason()))
        );
    }

    #[test]
    fn a_silent_neighbour_is_reported_at_once_and_once() {
        let (mut tracked, now) = (tracked(), Instant::now());
        assert!(tracked.judge(found(known()), now).is_some());
        assert_eq!(
            tracked.judge(found(Answer::Silent(reason())), now),
            Some(Err(reason()))
        );
        // Asking it again makes the kernel forget that it was silent; the news is the same.
        assert_eq!(tracked.judge(found(Answer::Asking(reason())), now), None);
        assert_eq!(tracked.judge(found(Answer::Silent(reason())), now), None);
    }

    #[test]
    fn the_kernel_is_asked_once_in_an_interval() {
        let (mut tracked, start) = (tracked(), Instant::now());
        let silent = || found(Answer::Silent(reason()));
        assert!(tracked.due_question(&silent(), start).is_some());
        assert!(tracked.due_question(&silent(), start).is_none());
        assert!(
            tracked
                .due_question(&silent(), start + RETRY_INTERVAL)
                .is_some()
        );
    }

    #[test]
    fn a_neighbour_that_is_kept_already_is_not_asked() {
        let mut tracked = tracked();
        let Answer::Known { next_hop, .. } = known() else {
            panic!("known() is known")
        };
        let answer = Answer::Known {
            next_hop,
            is_kept: true,
        };
        assert!(
            tracked
                .due_question(&found(answer), Instant::now())
                .is_none()
        );
    }
}
