//! Clients of a data tier: threads that ask one thing after another, reads and writes, and keep
//! what became of each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lb_tests::load::{Failure, Outcome, Record};
use lb_tests::redis::Place;

use super::CLIENTS;

/// What a client waits between two requests, so that two processors have some time left.
const PAUSE: Duration = Duration::from_millis(2);
/// One request of so many writes.
const WRITE_EVERY: u64 = 5;

/// A request, and whether it wrote.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What became of it.
    pub record: Record,
    /// Whether it wrote.
    pub is_write: bool,
}

/// How to ask.
pub trait Client {
    /// Asks for the `number`th time.
    ///
    /// # Errors
    /// Why there is no answer; the next request may need a new connection.
    fn ask(&mut self, number: u64, is_write: bool) -> Result<(), Failure>;
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// One list for each client, so that they do not wait for each other.
    asked: [Mutex<Vec<Asked>>; CLIENTS],
}

/// Clients at work; they stop on drop.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them on a host; `make` makes the client of a number, on its own thread.
    pub fn start<C: Client>(
        place: &Place,
        make: impl Fn(usize) -> C + Clone + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        // Threads stay in the namespace of the thread that started them.
        let threads = place.run(|| {
            let one = |number| {
                let (shared, make) = (Arc::clone(&shared), make.clone());
                thread::spawn(move || work(&shared, number, make(number)))
            };
            (0..CLIENTS).map(one).collect()
        });
        Self { shared, threads }
    }

    /// Everything that was asked so far, in the order of its beginning.
    pub fn so_far(&self) -> Vec<Asked> {
        let lists = self.shared.asked.iter();
        let mut all: Vec<Asked> = lists
            .flat_map(|list| list.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect();
        all.sort_by_key(|asked| asked.record.start);
        all
    }

    /// Lets requests under way finish; everything that was asked.
    pub fn stop(&mut self) -> Vec<Asked> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.so_far()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, list: usize, mut client: impl Client) {
    // Which server answered is not for a proxy's client to know.
    let nobody: Arc<str> = Arc::from("");
    for number in 0.. {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let is_write = number % WRITE_EVERY == 0;
        let start = Instant::now();
        let outcome = match client.ask(number, is_write) {
            Ok(()) => Outcome::Answered {
                by: Arc::clone(&nobody),
            },
            Err(failure) => Outcome::Failed(failure),
        };
        let record = Record {
            start,
            end: Instant::now(),
            from: None,
            outcome,
        };
        let mut asked = shared.asked[list]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        asked.push(Asked { record, is_write });
        drop(asked);
        thread::sleep(PAUSE);
    }
}
