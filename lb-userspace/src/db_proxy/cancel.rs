//! Cancel requests: a client's key leads to the server that works for it at this moment.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Proxy;
use super::server;

/// How long the server may take to hear a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Cancel requests on their way to a server. Until they have arrived, it is given to nobody else:
/// they would hit the wrong client's query.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    on_their_way: Cell<usize>,
    arrived: Notify,
}

impl Cancels {
    pub fn is_any(&self) -> bool {
        self.on_their_way.get() > 0
    }

    /// Returns when none is on its way.
    pub async fn settle(&self) {
        while self.is_any() {
            self.arrived.notified().await;
        }
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

/// Does what a CancelRequest asks for, if its key is right.
pub(super) async fn forward(proxy: &Rc<Proxy>, process: u32, secret: &[u8]) {
    let client = proxy.clients.get(process);
    let Some(client) = client.filter(|client| client.has_secret(secret)) else {
        tracing::debug!(process, "a cancel request with an unknown key");
        return;
    };
    let Some((key, cancels)) = client.serving() else {
        return;
    };
    let on_its_way = OnItsWay::new(&cancels);
    proxy.stats.cancels.set(proxy.stats.cancels.get() + 1);
    let connector = proxy.connector.borrow().clone();
    let asked = server::cancel(&connector, &key);
    if tokio::time::timeout(CANCEL_TIMEOUT, asked).await.is_err() {
        tracing::warn!("the server does not take a cancel request");
    }
    drop(on_its_way);
}

/// Cancels what a server does whose client is gone.
pub(super) async fn abandoned(proxy: Rc<Proxy>, key: Rc<server::Key>) {
    let connector = proxy.connector.borrow().clone();
    let _ = tokio::time::timeout(CANCEL_TIMEOUT, server::cancel(&connector, &key)).await;
}
