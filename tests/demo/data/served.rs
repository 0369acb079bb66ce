//! Who answered how many requests, by the servers' own counts: clients of a proxy cannot tell. Each
//! count is looked at a few times a second, past everything else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::console::Rates;
use crate::picture::{BUCKET, Series};
use crate::stage::Seen;

/// A server's count since it was started.
pub struct Count {
    name: String,
    count: Box<dyn FnMut() -> Option<u64> + Send>,
}

impl Count {
    /// Of a server; `count` says how many requests it has answered, if it says it now.
    pub fn new(name: &str, count: impl FnMut() -> Option<u64> + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            count: Box::new(count),
        }
    }
}

/// Requests that a server answered up to an instant, since the look before.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    answers: u64,
}

#[derive(Debug)]
struct Server {
    name: String,
    looks: Mutex<Vec<Look>>,
}

/// Threads that look; they end on drop.
pub struct Served {
    servers: Vec<Arc<Server>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Served {
    /// Starts to look at these counts.
    pub fn start(counts: Vec<Count>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut servers, mut threads) = (Vec::new(), Vec::new());
        for Count { name, mut count } in counts {
            let looks = Mutex::default();
            let server = Arc::new(Server { name, looks });
            servers.push(Arc::clone(&server));
            let is_over = Arc::clone(&is_over);
            threads.push(thread::spawn(move || server.look(&mut count, &is_over)));
        }
        Self {
            servers,
            is_over,
            threads,
        }
    }

    /// The servers' names.
    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(|it| it.name.clone()).collect()
    }

    /// Requests answered in that time, by server.
    pub fn between(&self, from: Instant, until: Instant) -> BTreeMap<String, usize> {
        let servers = self.servers.iter();
        servers
            .map(|server| (server.name.clone(), server.between(from, until)))
            .collect()
    }

    /// Requests per second over time, by server.
    pub fn series(&self, (start, end): (Instant, Instant)) -> Vec<Series> {
        let one = |server: &Arc<Server>| {
            let looks = server.looks.lock().unwrap_or_else(PoisonError::into_inner);
            let answers = looks
                .iter()
                .flat_map(|look| std::iter::repeat_n(look.at, count(look.answers)));
            Series::count(&server.name, answers, (start, end))
        };
        self.servers.iter().map(one).collect()
    }
}

impl Seen for Served {
    fn rates(&self, now: Instant) -> Rates {
        let from = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        Rates {
            answered: self.between(from, now),
            failed: None,
        }
    }

    fn servers(&self) -> Vec<String> {
        self.names()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Server {
    fn look(&self, count: &mut dyn FnMut() -> Option<u64>, is_over: &AtomicBool) {
        let mut before = None;
        while !is_over.load(Ordering::Relaxed) {
            if let Some(now) = count() {
                // A server that was started anew counts from nothing.
                let since = before.replace(now);
                let answers = since.map_or(0, |since| now.checked_sub(since).unwrap_or(now));
                let at = Instant::now();
                let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
                looks.push(Look { at, answers });
            }
            thread::sleep(BUCKET);
        }
    }

    fn between(&self, from: Instant, until: Instant) -> usize {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let then = looks.iter().filter(|look| (from..until).contains(&look.at));
        then.map(|look| count(look.answers)).sum()
    }
}

fn count(answers: u64) -> usize {
    usize::try_from(answers).unwrap_or(usize::MAX)
}
