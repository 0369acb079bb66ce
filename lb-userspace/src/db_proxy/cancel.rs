//! Cancel requests: a client's key leads to the server that works for it at this moment.

use std::rc::Rc;

use super::Proxy;

/// Does what a CancelRequest asks for, if its key is right.
pub(super) async fn forward(proxy: &Rc<Proxy>, process: u32, secret: &[u8]) {
    let client = proxy.clients.get(process);
    let Some(client) = client.filter(|client| client.has_secret(secret)) else {
        tracing::debug!(process, "a cancel request with an unknown key");
        return;
    };
    if let Some(cancels) = client.serving() {
        proxy.stats.cancels.add(1);
        cancels.cancel().await;
    } else {
        client.cancel();
    }
}
