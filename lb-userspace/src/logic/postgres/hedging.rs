//! Reads of one thread that wait for their answer, and when each is worth a second copy. Sessions say
//! when a read begins and ends; one task wakes those that are late, so that no read needs a timer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::worker::Worker;
use crate::failover::Hedges;

/// How often it is looked who is late. Second copies are never worth it sooner.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The reads that are on their way.
pub(super) struct Hedging {
    /// By client: when a second copy is worth it.
    waiting: RefCell<HashMap<u32, Instant>>,
    /// By cluster.
    hedges: RefCell<Vec<Hedges>>,
    /// There is a read on its way.
    begun: Notify,
}

impl Hedging {
    pub fn new(clusters: usize) -> Self {
        Self {
            waiting: RefCell::default(),
            hedges: RefCell::new(vec![Hedges::default(); clusters]),
            begun: Notify::new(),
        }
    }

    /// A client's read was sent; returns when a second copy is worth it.
    pub fn begin(&self, cluster: usize, client: u32, now: Instant) -> Instant {
        let late = now + self.hedges.borrow()[cluster].delay();
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.begun.notify_one();
        }
        waiting.insert(client, late);
        late
    }

    /// A client's read is not on its way any more.
    pub fn over(&self, client: u32) {
        self.waiting.borrow_mut().remove(&client);
    }

    /// A read was answered after so long.
    pub fn answered(&self, cluster: usize, took: Duration) {
        self.hedges.borrow_mut()[cluster].answered(took);
    }

    /// Takes one second copy of what is allowed; false if there is none.
    pub fn take(&self, cluster: usize) -> bool {
        self.hedges.borrow_mut()[cluster].take()
    }

    /// The clients whose reads are late; each is named once.
    fn late(&self, now: Instant) -> Vec<u32> {
        let mut late = Vec::new();
        self.waiting.borrow_mut().retain(|client, at| {
            let is_late = *at <= now;
            if is_late {
                late.push(*client);
            }
            !is_late
        });
        late
    }
}

/// Wakes clients whose reads are late, for ever.
pub(super) async fn wake_late(worker: Rc<Worker>) {
    let hedging = &worker.hedging;
    loop {
        if hedging.waiting.borrow().is_empty() {
            hedging.begun.notified().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        for client in hedging.late(Instant::now()) {
            if let Some(client) = worker.clients.get(client) {
                client.wake();
            }
        }
    }
}
