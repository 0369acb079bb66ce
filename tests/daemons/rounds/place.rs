//! Takes every connection that a server gives, away from whoever has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::postgres::Postgres;
use lb_tests::wait;

use crate::setup::SOON;

const NAME: &str = "lbt-taker";
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Connections that are held until this is dropped.
pub(super) struct Taken {
    is_over: Arc<AtomicBool>,
    takers: Vec<JoinHandle<()>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for taker in self.takers.drain(..) {
            let _ = taker.join();
        }
    }
}

/// Holds all of the server's `count` connections. Who has one now is thrown out.
pub(super) fn take_all(server: &Postgres, count: usize) -> Result<Taken> {
    let words = format!(
        "host={} port={} user=postgres dbname=postgres application_name={NAME}",
        server.socket_directory().display(),
        server.port()
    );
    let (is_over, held) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let takers = (0..count).map(|_| {
        let (words, is_over, held) = (words.clone(), Arc::clone(&is_over), Arc::clone(&held));
        thread::spawn(move || take_one(&words, &is_over, &held))
    });
    let taken = Taken {
        takers: takers.collect(),
        is_over,
    };
    let all = || held.load(Ordering::Relaxed) == count;
    wait::until("all connections to be taken", SOON, all).context("take the server's places")?;
    Ok(taken)
}

fn take_one(words: &str, is_over: &AtomicBool, held: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a thread can have a runtime");
    let others = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND application_name <> '{NAME}'"
    );
    runtime.block_on(async {
        while !is_over.load(Ordering::Relaxed) {
            let Ok((client, connection)) =
                tokio_postgres::connect(words, tokio_postgres::NoTls).await
            else {
                tokio::time::sleep(TRY_EVERY).await;
                continue;
            };
            let connection = tokio::spawn(async move { drop(connection.await) });
            held.fetch_add(1, Ordering::Relaxed);
            // What a place is freed of goes to another taker, or back to whom it belonged, who loses it again.
            while !is_over.load(Ordering::Relaxed) && client.batch_execute(&others).await.is_ok() {
                tokio::time::sleep(TRY_EVERY).await;
            }
            held.fetch_sub(1, Ordering::Relaxed);
            drop(client);
            let _ = connection.await;
        }
    });
}
