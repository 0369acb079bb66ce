//! What each fault of the gateway's tier cost, computed from the requests. Pure.
//!
//! A request counts for the fault after which it *ended*: one that was under way when a fault
//! struck was struck by it. The times are:
//!
//! - **detection**: from right before the fault was made to the store of the new state in the data
//!   plane (0 for the agent: nothing has to be detected for packets to go on);
//! - **recovery** of a lost server (killed, silenced, drained): to the end of the first request
//!   that began after the last failed one began, on a flow whose slot belongs to the lost server
//!   (`lb route` says so), and that another server answered;
//! - **recovery** of a returned server: to the end of the first request that it answered;
//! - **recovery** of the agent: from its kill until a new one says that it serves, the time that
//!   nobody restarted it included;
//! - **failed after detection**: failed requests that began after the store.
//!
//! For a lost server it also looks at flows of the others: they must stay where they are.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_tests::canary::DELAY_MAX;
use lb_tests::load::{Outcome, Record};

/// How many requests of servers that stay are looked at after each loss. Asking whose they are
/// takes the agent a fraction of a millisecond each.
const LOOKED_AT_MAX: usize = 500;

/// What was done to the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A server takes no new flows any more.
    Lost,
    /// A server takes its flows again.
    Returned,
    /// The agent was killed, and another one started.
    AgentRestarted,
    /// A server came back that must not be used as it is.
    Fenced,
}

/// One thing done to the site.
#[derive(Clone, Debug)]
pub struct Fault {
    /// In which tier: `gateway`, `logic`, `cache` or `database`.
    pub tier: &'static str,
    /// What, in the words of the report.
    pub name: &'static str,
    /// To whom: a backend, a server, or `agent`.
    pub whom: String,
    /// Of which kind.
    pub kind: Kind,
    /// Taken right before it was done.
    pub at: Instant,
    /// When it was known: to the data plane, or to every logic server of a data tier; for the
    /// agent, when the new one served.
    pub stored: Instant,
    /// The longest that a thread with nothing to do was kept from running between this fault and
    /// the next: what the machine itself did to the requests.
    pub stall: Duration,
}

/// What it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// From the fault to the store.
    pub detection: Duration,
    /// From the fault to the recovery; `None` if it did not come before the next fault.
    pub recovery: Option<Duration>,
    /// Requests, failed ones included.
    pub requests: usize,
    /// Requests that failed.
    pub failed: usize,
    /// Those of them that began after the store.
    pub failed_after_detection: usize,
    /// Requests of which nobody knows whether they were done; they are among the failed.
    pub unknown: usize,
    /// The first failure that should not have been, in words.
    pub unexpected: Option<String>,
    /// Of the requests that servers which stay should have answered, those that others did.
    pub strayed: usize,
    /// Requests answered, by server.
    pub answered_by: BTreeMap<String, usize>,
}

impl Cost {
    /// What is wrong with it: nothing, or a line for people.
    pub fn complaint(&self, fault: &Fault) -> Option<String> {
        let complaint = self.own_complaint(fault)?;
        let stall = fault.stall;
        Some(if stall > DELAY_MAX {
            format!("{complaint} (but this machine itself stalled for {stall:.0?}: try again)")
        } else {
            complaint
        })
    }

    fn own_complaint(&self, fault: &Fault) -> Option<String> {
        let what = format!("{} ({})", fault.name, fault.whom);
        if self.recovery.is_none() {
            Some(format!("{what}: not recovered before the next fault"))
        } else if let Some(unexpected) = &self.unexpected {
            let late = self.failed_after_detection;
            Some(format!(
                "{what}: {late} requests failed that began after detection; the first of those \
                 that should not have {unexpected}"
            ))
        } else if self.strayed > 0 {
            let strayed = self.strayed;
            Some(format!(
                "{what}: {strayed} flows of other servers were moved"
            ))
        } else {
            None
        }
    }
}

/// What a fault cost, told by the requests, in the order of their beginning; `until` is the next
/// fault. `owner` names the primary that a flow's slot belongs to.
pub fn cost(
    fault: &Fault,
    until: Instant,
    requests: &[Record],
    owner: &mut dyn FnMut(SocketAddr) -> Option<String>,
) -> Cost {
    let ours: Vec<&Record> = requests
        .iter()
        .filter(|request| (fault.at..until).contains(&request.end))
        .collect();
    let detected = match fault.kind {
        Kind::AgentRestarted => fault.at,
        Kind::Lost | Kind::Returned | Kind::Fenced => fault.stored,
    };
    let failed = || {
        let ours = ours.iter().copied();
        ours.filter(|request| request.outcome.is_failure())
    };
    let is_late = |request: &&Record| request.start >= detected;
    // Packets must not need the agent: nothing of its end may show.
    let is_unexpected = |request: &&Record| is_late(request) || fault.kind == Kind::AgentRestarted;
    let mut answered_by = BTreeMap::new();
    for by in ours.iter().filter_map(|request| answerer(request)) {
        *answered_by.entry(by.to_owned()).or_default() += 1;
    }
    Cost {
        detection: detected.saturating_duration_since(fault.at),
        recovery: recovered(fault, &ours, owner).map(|at| at.saturating_duration_since(fault.at)),
        requests: ours.len(),
        failed: failed().count(),
        failed_after_detection: failed().filter(is_late).count(),
        unknown: 0,
        unexpected: failed()
            .find(is_unexpected)
            .map(|request| in_words(request, fault.at)),
        strayed: match fault.kind {
            Kind::Lost => strayed(fault, until, requests, owner),
            Kind::Returned | Kind::AgentRestarted | Kind::Fenced => 0,
        },
        answered_by,
    }
}

/// A request for people.
pub fn in_words(request: &Record, fault: Instant) -> String {
    let after = request.start.saturating_duration_since(fault);
    let took = request.end.saturating_duration_since(request.start);
    let result = match &request.outcome {
        Outcome::Failed(failure) => failure.to_string(),
        Outcome::Answered { by } => format!("answered by {by}"),
    };
    format!("began {after:.1?} after the fault: {result} after {took:.1?}")
}

/// A flow whose ports come again, soon after, goes where it went before: its record still stands
/// (docs/flows.md). So a server is one of its own that has answered it last, or that owns its slot.
fn strayed(
    fault: &Fault,
    until: Instant,
    requests: &[Record],
    owner: &mut dyn FnMut(SocketAddr) -> Option<String>,
) -> usize {
    let mut answered_last: HashMap<SocketAddr, &str> = HashMap::new();
    let (mut looked_at, mut strayed) = (0, 0);
    for request in requests.iter().filter(|request| request.end < until) {
        let (Some(from), Some(by)) = (request.from, answerer(request)) else {
            continue;
        };
        let before = answered_last.insert(from, by);
        if request.start < fault.at || looked_at == LOOKED_AT_MAX {
            continue;
        }
        looked_at += 1;
        if before != Some(by) {
            let owner = owner(from);
            strayed += usize::from(owner.is_some_and(|owner| owner != fault.whom && owner != by));
        }
    }
    strayed
}

fn recovered(
    fault: &Fault,
    ours: &[&Record],
    owner: &mut dyn FnMut(SocketAddr) -> Option<String>,
) -> Option<Instant> {
    let first_end = |mut is_it: Box<dyn FnMut(&Record) -> bool + '_>| {
        let found = ours.iter().find(|request| is_it(request));
        found.map(|request| request.end)
    };
    match fault.kind {
        Kind::AgentRestarted | Kind::Fenced => Some(fault.stored),
        Kind::Returned => first_end(Box::new(|request| {
            request.start >= fault.at && answerer(request) == Some(&fault.whom)
        })),
        Kind::Lost => {
            let failures = ours.iter().filter(|request| request.outcome.is_failure());
            let last_failed = failures.map(|request| request.start).max();
            let after = last_failed.map_or(fault.at, |last| last.max(fault.at));
            first_end(Box::new(|request| {
                request.start > after
                    && answerer(request).is_some_and(|by| by != fault.whom)
                    && request.from.and_then(&mut *owner).as_ref() == Some(&fault.whom)
            }))
        }
    }
}

/// Who answered a request.
pub fn answerer(request: &Record) -> Option<&str> {
    match &request.outcome {
        Outcome::Answered { by } => Some(by),
        Outcome::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use lb_tests::load::Failure;

    use super::*;

    /// Port 1 belongs to `a`, every other to `b`.
    fn owner(from: SocketAddr) -> Option<String> {
        Some(if from.port() == 1 { "a" } else { "b" }.to_owned())
    }

    struct Clock(Instant);

    impl Clock {
        fn ms(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }

        fn request(&self, start: u64, end: u64, port: u16, by: &str) -> Record {
            Record {
                start: self.ms(start),
                end: self.ms(end),
                from: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                outcome: match by {
                    "" => Outcome::Failed(Failure::Reset),
                    by => Outcome::Answered { by: Arc::from(by) },
                },
            }
        }

        fn fault(&self, kind: Kind, at: u64, stored: u64) -> Fault {
            Fault {
                tier: "logic",
                name: "fault",
                whom: "a".into(),
                kind,
                at: self.ms(at),
                stored: self.ms(stored),
                stall: Duration::ZERO,
            }
        }
    }

    #[test]
    fn a_loss_is_over_with_the_first_displaced_flow_answered_after_the_last_failure() {
        let clock = Clock(Instant::now());
        let requests = [
            clock.request(5, 9, 1, "a"),
            clock.request(8, 11, 1, ""), // under way: struck by the fault, though it began before
            clock.request(11, 12, 2, "b"),
            clock.request(12, 13, 1, ""),
            clock.request(13, 14, 2, "b"), // b's own flow proves nothing
            clock.request(16, 18, 1, "b"),
            clock.request(95, 101, 1, "b"), // ended after the next fault
        ];
        let fault = clock.fault(Kind::Lost, 10, 15);
        let cost = cost(&fault, clock.ms(100), &requests, &mut owner);
        assert_eq!(
            cost,
            Cost {
                detection: Duration::from_millis(5),
                recovery: Some(Duration::from_millis(8)),
                requests: 5,
                failed: 2,
                failed_after_detection: 0,
                unknown: 0,
                unexpected: None,
                strayed: 0,
                answered_by: BTreeMap::from([("b".to_owned(), 3)]),
            }
        );
        assert_eq!(cost.complaint(&fault), None);
    }

    #[test]
    fn a_failure_after_the_store_is_complained_about() {
        let clock = Clock(Instant::now());
        let requests = [clock.request(16, 17, 1, ""), clock.request(18, 19, 1, "b")];
        let fault = clock.fault(Kind::Lost, 10, 15);
        let cost = cost(&fault, clock.ms(100), &requests, &mut owner);
        assert_eq!((cost.failed, cost.failed_after_detection), (1, 1));
        assert!(cost.complaint(&fault).is_some());
    }

    #[test]
    fn a_loss_that_nobody_took_over_is_complained_about() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::Lost, 10, 15);
        let requests = [clock.request(11, 12, 2, "b")];
        let cost = cost(&fault, clock.ms(100), &requests, &mut owner);
        assert_eq!(cost.recovery, None);
        assert!(cost.complaint(&fault).is_some());
    }

    #[test]
    fn a_flow_of_another_server_that_moved_is_complained_about() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::Lost, 10, 15);
        let requests = [clock.request(16, 17, 1, "c"), clock.request(18, 19, 2, "c")];
        let cost = cost(&fault, clock.ms(100), &requests, &mut owner);
        assert_eq!(cost.strayed, 1);
        assert!(cost.complaint(&fault).is_some());
    }

    #[test]
    fn a_flow_that_was_elsewhere_before_may_be_there_again() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::Lost, 10, 15);
        let recorded = [clock.request(2, 3, 2, "c"), clock.request(18, 19, 2, "c")];
        let moved = [clock.request(2, 3, 2, "b"), clock.request(18, 19, 2, "c")];
        let strayed = |requests| cost(&fault, clock.ms(100), requests, &mut owner).strayed;
        assert_eq!((strayed(&recorded), strayed(&moved)), (0, 1));
    }

    #[test]
    fn a_return_is_over_with_the_first_answer_of_the_returned() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::Returned, 10, 15);
        let requests = [clock.request(11, 12, 1, "b"), clock.request(16, 17, 1, "a")];
        let cost = cost(&fault, clock.ms(100), &requests, &mut owner);
        assert_eq!(cost.recovery, Some(Duration::from_millis(7)));
    }

    #[test]
    fn packets_go_on_without_the_agent_or_there_is_a_complaint() {
        let clock = Clock(Instant::now());
        let fault = clock.fault(Kind::AgentRestarted, 10, 50);
        let whole = [clock.request(11, 12, 1, "a")];
        let good = cost(&fault, clock.ms(100), &whole, &mut owner);
        assert_eq!(good.detection, Duration::ZERO);
        assert_eq!(good.recovery, Some(Duration::from_millis(40)));
        assert_eq!(good.complaint(&fault), None);
        let broken = [clock.request(9, 12, 1, "")];
        let bad = cost(&fault, clock.ms(100), &broken, &mut owner);
        assert!(bad.complaint(&fault).is_some());
    }
}
