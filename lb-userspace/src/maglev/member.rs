//! A candidate as the tables see it: a number in place of an id, and what is hashed.

use super::{Candidate, CandidateKey};

/// No candidate: what the end of a short ladder holds.
pub(super) const NONE: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its place among all serving candidates in the order of their keys.
    pub(super) index: u16,
    pub(super) key: CandidateKey,
    pub(super) weight: u32,
}

/// The candidates that `belongs` accepts, in the order of their keys.
pub(super) fn members(serving: &[&Candidate], belongs: impl Fn(&Candidate) -> bool) -> Vec<Member> {
    (0..)
        .zip(serving)
        .filter(|(_, candidate)| belongs(candidate))
        .map(|(index, candidate)| Member {
            index,
            key: candidate.key,
            weight: candidate.weight,
        })
        .collect()
}
