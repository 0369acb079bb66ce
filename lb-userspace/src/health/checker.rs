//! The task that watches one backend.
//!
//! Probes of one target never overlap. When they run is [`Pace`]'s to say; the hold and
//! [`Checker::trigger`] ask for one early.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::budget::Budget;
use super::counters::{Counters, Snapshot};
use super::error::ProbeError;
use super::hold::Hold;
use super::pace::Pace;
use super::probe::Prober;
use super::threshold::{Threshold, Verdict};
use super::{Cause, Report, Settings, Target};

/// A timer this late says that this host stood still, not the backend.
const STALL_MIN: Duration = Duration::from_millis(20);

/// A running health check of one backend. Dropping it stops it.
#[derive(Debug)]
pub struct Checker {
    target: Target,
    task: JoinHandle<()>,
    triggers: Arc<Notify>,
    counters: Arc<Counters>,
}

impl Checker {
    /// Starts checking `target`. Every changed verdict goes to `verdicts`; while that channel is
    /// full the checker waits, and when its receiver is gone the checker ends.
    ///
    /// The target counts as down until the first [`Verdict::Up`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(
        target: Target,
        settings: Settings,
        budget: Arc<Budget>,
        verdicts: mpsc::Sender<Report>,
    ) -> Self {
        let triggers = Arc::new(Notify::new());
        let counters = Arc::new(Counters::default());
        let watch = Watch::new(
            target,
            &settings,
            budget,
            verdicts,
            triggers.clone(),
            counters.clone(),
        );
        Self {
            target,
            task: tokio::spawn(watch.run()),
            triggers,
            counters,
        }
    }

    /// What is checked.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Asks for a probe now, or right after the one that is under way. Requests that come
    /// faster than probes may follow each other are one request.
    pub fn trigger(&self) {
        self.triggers.notify_one();
    }

    /// What the checker did so far.
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Tells the checker to stop; a probe under way is given up. [`Checker::join`] waits for it.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Waits until the checker has ended and its connections are closed, which without
    /// [`Checker::stop`] is when the receiver of the verdicts is gone.
    pub async fn join(mut self) {
        match (&mut self.task).await {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                tracing::error!(address = %self.target.address, %error, "health checker failed");
            }
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task's own half. It may be dropped at any await: everything it holds closes itself.
struct Watch {
    target: Target,
    pace: Pace,
    timeout: Duration,
    prober: Prober,
    threshold: Threshold,
    hold: Option<Hold>,
    budget: Arc<Budget>,
    verdicts: mpsc::Sender<Report>,
    triggers: Arc<Notify>,
    counters: Arc<Counters>,
    is_blind: bool,
}

impl Watch {
    fn new(
        target: Target,
        settings: &Settings,
        budget: Arc<Budget>,
        verdicts: mpsc::Sender<Report>,
        triggers: Arc<Notify>,
        counters: Arc<Counters>,
    ) -> Self {
        let pace = Pace::new(settings.interval, settings.jitter, Instant::now());
        let hold = settings
            .hold
            .then(|| Hold::new(target.address, pace.interval(), counters.clone()));
        Self {
            target,
            pace,
            timeout: settings.timeout,
            prober: Prober::new(&settings.probe, target.address),
            threshold: Threshold::new(settings.rise, settings.fall),
            hold,
            budget,
            verdicts,
            triggers,
            counters,
            is_blind: false,
        }
    }

    async fn run(mut self) {
        loop {
            let cause = self.until_due().await;
            if self.budget.take().await.is_some() {
                self.counters.deferred();
            }
            let began = Instant::now();
            let outcome = within(self.timeout, self.prober.run()).await;
            let ended = Instant::now();
            let probe = self.counters.probed(cause, &outcome, ended - began);
            self.pace.probed(cause, began, ended);
            let verdict = self.threshold.record(outcome.clone());
            let is_down = matches!(verdict, Some(Verdict::Down { .. }));
            // The verdict first: everything after it can wait, traffic cannot.
            if let Some(verdict) = verdict {
                let (id, began, ended) = (self.target.id, began.into_std(), ended.into_std());
                let report = Report {
                    id,
                    verdict,
                    cause,
                    probe,
                    began,
                    ended,
                };
                if self.verdicts.send(report).await.is_err() {
                    return;
                }
            }
            self.learn(outcome, began, is_down);
        }
    }

    /// Waits until the next probe is due, by its interval or earlier by an event.
    async fn until_due(&mut self) -> Cause {
        let mut event = None;
        loop {
            let due = self.pace.due(event.is_some());
            // Every branch is cancel-safe; an event seen is kept in `event`.
            tokio::select! {
                biased;
                () = ended(self.hold.as_mut()), if event.is_none() => event = Some(Cause::Hold),
                () = self.triggers.notified(), if event.is_none() => event = Some(Cause::Trigger),
                () = sleep_until(due) => return event.unwrap_or(Cause::Schedule),
            }
        }
    }

    fn learn(&mut self, outcome: Result<(), ProbeError>, began: Instant, is_down: bool) {
        if let Some(hold) = &mut self.hold {
            match &outcome {
                Ok(()) => hold.probe_passed(began),
                Err(error) => hold.probe_failed(error),
            }
            if is_down {
                hold.release();
            }
        }
        let was_blind = std::mem::replace(&mut self.is_blind, false);
        if let Err(error) = outcome
            && error.is_local()
        {
            self.is_blind = true;
            if !was_blind {
                tracing::warn!(
                    address = %self.target.address,
                    "{error}; the backend keeps its state meanwhile"
                );
            }
        }
    }
}

async fn ended(hold: Option<&mut Hold>) {
    match hold {
        Some(hold) => hold.ended().await,
        None => std::future::pending().await,
    }
}

/// Runs `probe` for at most `limit`; once more as long if it was this host that stood still.
async fn within(
    limit: Duration,
    probe: impl Future<Output = Result<(), ProbeError>>,
) -> Result<(), ProbeError> {
    let mut probe = std::pin::pin!(probe);
    let mut deadline = Instant::now() + limit;
    let mut may_extend = true;
    loop {
        if let Ok(outcome) = timeout_at(deadline, &mut probe).await {
            return outcome;
        }
        let now = Instant::now();
        // A suspended or starved process finds all its timers expired and would condemn every
        // backend at once for answers it did not come round to reading.
        if !may_extend || now - deadline < STALL_MIN {
            return Err(ProbeError::Timeout { after: limit });
        }
        may_extend = false;
        deadline = now + limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_stalled_process_gives_the_answer_that_waits_a_second_chance() {
        let (answer, probe) = tokio::sync::oneshot::channel();
        let probe = async move { probe.await.map_err(|_| ProbeError::Closed) };
        let stalled = within(5 * MS, probe);
        tokio::pin!(stalled);
        assert!(futures::poll!(&mut stalled).is_pending());
        // The whole runtime stands still here: nothing else runs on this thread.
        std::thread::sleep(5 * MS + 2 * STALL_MIN);
        assert!(futures::poll!(&mut stalled).is_pending());
        answer.send(()).unwrap();
        assert_eq!(stalled.await, Ok(()));
    }

    #[tokio::test]
    async fn silence_is_a_timeout_and_names_the_limit() {
        let silence = std::future::pending();
        assert_eq!(
            within(5 * MS, silence).await,
            Err(ProbeError::Timeout { after: 5 * MS })
        );
    }
}
