//! A thread that notices when the machine itself stalls, so that a timing measured then is void.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often it wants to run.
const TICK: Duration = Duration::from_millis(1);
/// A delay beyond which a timing trial says more about the machine than about us.
pub const DELAY_MAX: Duration = Duration::from_millis(20);

/// A ticking thread; it ends on drop.
#[derive(Debug)]
pub struct Canary {
    worst: Arc<Mutex<Duration>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Canary {
    /// Starts it.
    pub fn start() -> Canary {
        let worst = Arc::new(Mutex::new(Duration::ZERO));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (worst, is_over) = (Arc::clone(&worst), Arc::clone(&is_over));
            move || tick(&worst, &is_over)
        });
        Canary {
            worst,
            is_over,
            thread: Some(thread),
        }
    }

    /// The worst delay since the last call, and begins anew. Call it at the end of a trial and
    /// void the trial if the answer is more than [`DELAY_MAX`].
    pub fn take_worst(&self) -> Duration {
        let mut worst = self.worst.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *worst)
    }
}

fn tick(worst: &Mutex<Duration>, is_over: &AtomicBool) {
    let mut last = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        let now = Instant::now();
        let delay = (now - last).saturating_sub(TICK);
        last = now;
        let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
        *worst = delay.max(*worst);
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_the_worst_delay_begins_anew() {
        let canary = Canary::start();
        crate::wait::until("a tick", Duration::from_secs(5), || {
            !canary.take_worst().is_zero()
        })
        .unwrap();
    }
}
