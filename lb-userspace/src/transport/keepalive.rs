//! Peers that went away without a word, as a host without power does: the kernel asks those that are
//! silent whether they are still there. Called for connections that may hold something of value.
//!
//! A peer that owes an acknowledgement is not asked: TCP itself gives it up, after minutes
//! (`tcp_retries2`). `TCP_USER_TIMEOUT` would be quicker, but ends also those that live and read nothing.

use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// Questions without an answer after which a peer is gone.
const QUESTIONS: u32 = 3;

/// Has a peer asked after so long a silence, and then three times as often, before it is taken for gone:
/// twice `silence` after its last sign of life. Whole seconds count.
pub fn ask_after(stream: &TcpStream, silence: Duration) {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
    // Without it the connection serves as well; it only may outlive its peer.
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &seconds(silence))
        .and_then(|()| {
            let between = seconds(silence / QUESTIONS);
            setsockopt(stream, sockopt::TcpKeepInterval, &between)
        })
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepCount, &QUESTIONS))
        .and_then(|()| setsockopt(stream, sockopt::KeepAlive, &true));
}
