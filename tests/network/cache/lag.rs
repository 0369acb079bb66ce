//! The lag that logic servers show of each copy, over the time of a history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lb_tests::logic::{Counted, Logic};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// What is shown is as old as that at most, and so is what we have seen of it; in microseconds.
const OLD: u64 = 300_000;
const SERVERS: usize = 3;

/// What was shown when, the most of all logic servers, in microseconds.
#[derive(Default)]
pub struct Lags(Vec<(u64, [u64; SERVERS])>);

/// Somebody looks.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Lags>,
}

impl Lags {
    /// Looks until it is told to stop.
    pub fn watch(logics: &[Logic], began: Instant) -> Watch {
        let counted: Vec<Counted> = logics.iter().map(Logic::counted).collect();
        let is_over = Arc::<AtomicBool>::default();
        let until = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let at = began.elapsed().as_micros() as u64;
                all.push((at, look(&counted)));
                thread::sleep(LOOK);
            }
            Lags(all)
        });
        Watch { is_over, thread }
    }

    /// The most that was shown of a server's copy (of any, if it is not known whose) around that
    /// time.
    pub fn shown(&self, server: Option<usize>, at: u64) -> u64 {
        let near = self.0.iter().filter(|(then, _)| then.abs_diff(at) <= OLD);
        let of = |lags: &[u64; SERVERS]| match server {
            Some(server) => lags[server],
            None => lags.iter().copied().max().unwrap_or_default(),
        };
        near.map(|(_, lags)| of(lags)).max().unwrap_or_default() + OLD
    }
}

impl Watch {
    pub fn stop(self) -> Lags {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

fn look(counted: &[Counted]) -> [u64; SERVERS] {
    let mut most = [0; SERVERS];
    for counted in counted {
        let Ok(text) = counted.text() else {
            continue;
        };
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("lb_logic_cache_lag_seconds{") else {
                continue;
            };
            for (number, most) in most.iter_mut().enumerate() {
                let is_it = rest.contains(&format!("server=\"cache-{}\"", number + 1));
                let seconds = rest.rsplit(' ').next().and_then(|value| value.parse().ok());
                let seconds: f64 = seconds.filter(|_| is_it).unwrap_or_default();
                *most = (*most).max((seconds * 1e6) as u64);
            }
        }
    }
    most
}
