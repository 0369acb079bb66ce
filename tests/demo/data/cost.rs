//! What each fault of a data tier cost, computed from the requests. Pure.
//!
//! A request counts for the fault after which it *ended*, as at the gateway. The times are:
//!
//! - **detection**: from right before the fault was made until every logic server knew;
//! - **recovery** of what was lost: to the end of the last request that failed, or that took longer
//!   than [`HELD`]: from then on no client notices anything;
//! - **recovery** of what returned, or was fenced: its detection;
//! - **failed after detection**: failed requests that began after that.
//!
//! Reads never fail. A write may fail that was under way when its server was lost, if its client is
//! told so, or that nobody knows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lb_tests::load::{Failure, Outcome};

use super::clients::Asked;
use crate::measure::{Cost, Fault, Kind, in_words};

/// A request that takes longer was held up by the fault: others take a thousandth of that.
pub const HELD: Duration = Duration::from_millis(100);

/// What a fault cost up to `until`.
pub fn cost(
    fault: &Fault,
    until: Instant,
    asked: &[Asked],
    answered_by: BTreeMap<String, usize>,
) -> Cost {
    let ours = || {
        let ended_then = |asked: &&Asked| (fault.at..until).contains(&asked.record.end);
        asked.iter().filter(ended_then)
    };
    let failed = || ours().filter(|asked| asked.record.outcome.is_failure());
    let is_late = |asked: &&Asked| asked.record.start >= fault.stored;
    let is_unexpected = |asked: &&Asked| !asked.is_write || is_late(asked);
    let is_unknown = |asked: &&Asked| asked.record.outcome == Outcome::Failed(Failure::Unknown);
    let of_whom = answered_by.get(&fault.whom).copied().unwrap_or(0);
    let unexpected = match fault.kind {
        Kind::Fenced if of_whom > 0 => Some(format!("were {of_whom} that it answered")),
        _ => failed()
            .find(is_unexpected)
            .map(|asked| in_words(&asked.record, fault.at)),
    };
    let recovered = recovered(fault, ours());
    Cost {
        detection: fault.stored.saturating_duration_since(fault.at),
        recovery: Some(recovered.saturating_duration_since(fault.at)),
        requests: ours().count(),
        failed: failed().count(),
        failed_after_detection: failed().filter(is_late).count(),
        unknown: failed().filter(is_unknown).count(),
        unexpected,
        strayed: 0,
        answered_by,
    }
}

fn recovered<'a>(fault: &Fault, ours: impl Iterator<Item = &'a Asked>) -> Instant {
    if fault.kind != Kind::Lost {
        return fault.stored;
    }
    let is_struck = |asked: &&Asked| {
        let took = asked.record.end - asked.record.start;
        took > HELD || asked.record.outcome.is_failure()
    };
    let struck = ours.filter(is_struck).map(|asked| asked.record.end);
    struck.fold(fault.stored, Instant::max)
}

/// The longest that a read and a write took, of those that ended then.
pub fn longest(asked: &[Asked], from: Instant, until: Instant) -> (Duration, Duration) {
    let of = |is_write| {
        let those = asked.iter().filter(|asked| {
            asked.is_write == is_write && (from..until).contains(&asked.record.end)
        });
        let took = those.map(|asked| asked.record.end - asked.record.start);
        took.max().unwrap_or_default()
    };
    (of(false), of(true))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_tests::load::Record;

    use super::*;

    struct Clock(Instant);

    impl Clock {
        fn ms(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }

        fn asked(&self, start: u64, end: u64, is_write: bool, by: Result<(), Failure>) -> Asked {
            let outcome = match by {
                Ok(()) => Outcome::Answered { by: Arc::from("") },
                Err(failure) => Outcome::Failed(failure),
            };
            let record = Record {
                start: self.ms(start),
                end: self.ms(end),
                from: None,
                outcome,
            };
            Asked { record, is_write }
        }

        fn fault(&self, kind: Kind) -> Fault {
            Fault {
                tier: "database",
                name: "fault",
                whom: "a".into(),
                kind,
                at: self.ms(100),
                stored: self.ms(120),
                stall: Duration::ZERO,
            }
        }
    }

    #[test]
    fn a_loss_is_over_with_the_last_request_that_was_held_up() {
        let clock = Clock(Instant::now());
        let asked = [
            clock.asked(90, 99, false, Err(Failure::Reset)), // before the fault
            clock.asked(98, 105, true, Err(Failure::Unknown)),
            clock.asked(130, 900, true, Ok(())),
            clock.asked(901, 902, false, Ok(())),
        ];
        let fault = clock.fault(Kind::Lost);
        let cost = cost(&fault, clock.ms(2000), &asked, BTreeMap::new());
        assert_eq!(cost.recovery, Some(Duration::from_millis(800)));
        assert_eq!((cost.requests, cost.failed, cost.unknown), (3, 1, 1));
        assert_eq!(cost.complaint(&fault), None);
    }

    #[test]
    fn a_failed_read_and_a_late_failure_are_complained_about() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::Lost);
        for asked in [
            clock.asked(99, 105, false, Err(Failure::Reset)),
            clock.asked(121, 125, true, Err(Failure::Reset)),
        ] {
            let cost = cost(&fault, clock.ms(2000), &[asked], BTreeMap::new());
            assert!(cost.complaint(&fault).is_some());
        }
    }

    #[test]
    fn an_answer_of_a_fenced_server_is_complained_about() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::Fenced);
        let complaint = |by: &str| {
            let answered_by = BTreeMap::from([(by.to_owned(), 1)]);
            cost(&fault, clock.ms(2000), &[], answered_by).complaint(&fault)
        };
        assert_eq!(complaint("b"), None);
        assert!(complaint("a").is_some());
    }
}
