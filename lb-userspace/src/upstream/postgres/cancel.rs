//! Cancel requests on their way to a server. Until they have arrived, its connection is given to
//! nobody else: they would hit the wrong client's query.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Key;
use super::connect::{self, Connector};

/// How long the server may take to hear a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How what one connection does can be cancelled.
#[derive(Debug)]
pub struct Cancels {
    connector: Rc<Connector>,
    key: Key,
    on_their_way: Cell<usize>,
    arrived: Notify,
}

impl Cancels {
    pub fn new(connector: &Rc<Connector>, key: Key) -> Rc<Self> {
        Rc::new(Self {
            connector: Rc::clone(connector),
            key,
            on_their_way: Cell::new(0),
            arrived: Notify::new(),
        })
    }

    /// The server's process, as BackendKeyData said.
    pub fn process(&self) -> u32 {
        self.key.process
    }

    pub fn is_any(&self) -> bool {
        self.on_their_way.get() > 0
    }

    /// Returns when none is on its way.
    pub async fn settle(&self) {
        while self.is_any() {
            self.arrived.notified().await;
        }
    }

    /// Asks the server to cancel what the connection does; returns when it has heard.
    pub async fn cancel(self: Rc<Self>) {
        let on_its_way = OnItsWay::new(&self);
        let asked = connect::cancel(&self.connector, &self.key);
        match tokio::time::timeout(CANCEL_TIMEOUT, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a cancel request was lost"),
            Err(_) => tracing::warn!("the server does not take a cancel request"),
        }
        drop(on_its_way);
    }
}

struct OnItsWay(Rc<Cancels>);

impl OnItsWay {
    fn new(cancels: &Rc<Cancels>) -> Self {
        cancels.on_their_way.set(cancels.on_their_way.get() + 1);
        Self(Rc::clone(cancels))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.on_their_way.set(self.0.on_their_way.get() - 1);
        self.0.arrived.notify_waiters();
    }
}
