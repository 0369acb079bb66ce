//! One thread that serves: it waits in the kernel, for its sockets and for whoever wakes it.
//!
//! It is a thread and no task: between a socket that is ready and the engine stands one system call and
//! no scheduler.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mio::{Poll, Token, Waker};
use tokio::sync::{oneshot, watch};

use super::Resp;
use super::engine::Engine;
use super::peers::Peer;
use crate::logic::{Phase, Worker};

/// How often a thread looks after silences and queues while anything is under way.
const TICK_MS: u64 = 5;
/// The same while nothing is.
const TICK_IDLE_MS: u64 = 100;

/// Somebody has news for the thread.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Serves until [`Phase::Stopped`].
///
/// # Errors
/// If the kernel gives no thread or no descriptors, or the thread fails.
pub(super) async fn run(resp: Arc<Resp>, worker: Worker) -> anyhow::Result<()> {
    let (place, listeners) = resp.own_listeners();
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let peer = resp.peers.get(place).context("it has no place")?;
    peer.meet(Arc::clone(&waker));
    let (mut views, mut settings) = (resp.view.subscribe(), resp.settings.subscribe());
    let mut phase = worker.phase;
    let (ended, mut end) = oneshot::channel();
    let (shared, watched) = (Arc::clone(&resp), phase.clone());
    std::thread::Builder::new()
        .name(format!("lb-resp-{place}"))
        .spawn(move || {
            let engine = Engine::new(shared, place, listeners, poll);
            let _ = ended.send(engine.and_then(|engine| turns(engine, &watched)));
        })?;
    loop {
        tokio::select! {
            outcome = &mut end => return outcome.context("it panicked")?,
            Ok(()) = views.changed() => {}
            Ok(()) = settings.changed() => {}
            Ok(()) = phase.changed() => {}
        }
        waker.wake()?;
    }
}

fn turns(mut engine: Engine, phase: &watch::Receiver<Phase>) -> anyhow::Result<()> {
    engine.open_lanes();
    let mut events = Engine::events();
    let mut tick_at = engine.now_ms;
    let mut is_busy = true;
    loop {
        let pause = Duration::from_millis(tick_at.saturating_sub(engine.now_ms));
        let is_woken = engine.turn(&mut events, pause)?;
        if is_woken {
            engine.take_view();
            engine.take_settings();
            engine.take_letters();
            let phase = *phase.borrow();
            if phase >= Phase::Draining {
                engine.drain();
            }
            if phase == Phase::Stopped {
                return Ok(());
            }
            engine.settle();
        }
        // Out of a long pause: silences are looked for at once.
        if !is_busy && engine.is_waiting() {
            is_busy = true;
            tick_at = tick_at.min(engine.now_ms + TICK_MS);
        }
        if engine.now_ms >= tick_at {
            engine.tick();
            is_busy = engine.is_waiting() || engine.is_draining;
            tick_at = engine.now_ms + if is_busy { TICK_MS } else { TICK_IDLE_MS };
        }
    }
}

impl Peer {
    /// Its thread is there, and is woken by this.
    fn meet(&self, waker: Arc<Waker>) {
        // A thread meets its peer once.
        let _ = self.waker.set(waker);
    }
}
