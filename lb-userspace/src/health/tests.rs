//! Checkers against real servers on loopback.
//!
//! Nothing here asserts how long something took, only in which order it came and after how many
//! probes: the machine may be busy. What must happen is waited for.

mod holds;
mod leaks;
mod server;
mod verdicts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// How long something that must happen may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// An interval that does not pass within a test.
const NEVER: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

/// Quick probes that pass or fail by their answer: the timeout is far away.
fn settings(probe: Probe) -> Settings {
    Settings {
        probe,
        interval: 10 * MS,
        timeout: 10_000 * MS,
        rise: 1,
        fall: 1,
        jitter: 0.0,
        hold: false,
    }
}

fn http() -> Probe {
    Probe::Http(HttpProbe {
        path: "/readyz".into(),
        host: None,
        expect: Statuses::default(),
    })
}

/// A checker and what it reports.
struct Checked {
    checker: Checker,
    reports: mpsc::Receiver<Report>,
}

impl Checked {
    fn start(address: SocketAddr, settings: Settings) -> Self {
        Self::start_within(address, settings, &Arc::new(Budget::new(10_000)))
    }

    fn start_within(address: SocketAddr, settings: Settings, budget: &Arc<Budget>) -> Self {
        let (verdicts, reports) = mpsc::channel(64);
        let target = Target {
            id: BackendKey(7),
            address,
        };
        let checker = Checker::spawn(target, settings, budget.clone(), verdicts);
        Self { checker, reports }
    }

    async fn report(&mut self) -> Report {
        let report = timeout(PATIENCE, self.reports.recv()).await;
        report
            .expect("a report in time")
            .expect("a running checker")
    }

    async fn until_up(&mut self) -> Report {
        let report = self.report().await;
        assert_eq!(report.verdict, Verdict::Up);
        report
    }

    async fn until_down(&mut self) -> (Report, ProbeError) {
        let report = self.report().await;
        let Verdict::Down { reason } = report.verdict.clone() else {
            panic!("expected down, got {report:?}")
        };
        (report, reason)
    }

    /// Waits until the counts satisfy `condition`.
    async fn until(&self, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let reached = async {
            loop {
                let counters = self.checker.counters();
                if condition(&counters) {
                    return counters;
                }
                tokio::time::sleep(MS).await;
            }
        };
        match timeout(PATIENCE, reached).await {
            Ok(counters) => counters,
            Err(_) => panic!("never came to pass: {:?}", self.checker.counters()),
        }
    }

    async fn stop(self) -> Snapshot {
        self.checker.stop();
        let counters = self.checker.counters();
        timeout(PATIENCE, self.checker.join())
            .await
            .expect("the checker ends");
        counters
    }
}
