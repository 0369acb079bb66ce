//! A client that works while others misbehave, and tells whether it was disturbed.
//!
//! It shares the proxy, and the pool where user and database are the same, with those others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lb_tests::wait;

use crate::setup::{SOON, connect};

/// Operations after which it counts as undisturbed: each way of asking comes more than once.
const ENOUGH: u64 = 9;
/// Between two operations: others want the processor too.
const REST: Duration = Duration::from_millis(1);

/// A client at work on a thread of its own; stops on drop.
pub struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    done: AtomicU64,
    is_over: AtomicBool,
}

impl Bystander {
    /// Connects, with further words of a connection string, and begins to work.
    pub fn start(port: u16, words: &str) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (for_thread, words) = (Arc::clone(&shared), words.to_owned());
        let thread = thread::spawn(move || works(port, &words, &for_thread));
        let mut it = Self {
            shared,
            thread: Some(thread),
        };
        it.is_undisturbed().context("before anything happened")?;
        Ok(it)
    }

    /// Whether it got nothing but right answers so far, and goes on getting them.
    pub fn is_undisturbed(&mut self) -> Result<()> {
        let wanted = self.shared.done.load(Ordering::Relaxed) + ENOUGH;
        let thread = self.thread.as_ref().context("it was disturbed before")?;
        let waited = wait::until("another client to be served", SOON, || {
            thread.is_finished() || self.shared.done.load(Ordering::Relaxed) >= wanted
        });
        if thread.is_finished() {
            let thread = self.thread.take().context("there is one")?;
            let ended = thread.join().map_err(|_| anyhow!("the client panicked"))?;
            ended.context("another client was disturbed")?;
        }
        waited
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn works(port: u16, words: &str, shared: &Shared) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(async {
        let client = connect(port, words).await?;
        let statement = client.prepare("SELECT $1::bigint + 1").await?;
        for turn in 0_i64.. {
            if shared.is_over.load(Ordering::Relaxed) {
                break;
            }
            let answer: i64 = match turn % 3 {
                0 => client.query_one(&statement, &[&turn]).await?.get(0),
                1 => {
                    let rows = client.simple_query(&format!("SELECT {turn} + 1")).await?;
                    number(&rows)?
                }
                _ => {
                    client.batch_execute("BEGIN").await?;
                    let answer = client.query_one(&statement, &[&turn]).await?.get(0);
                    client.batch_execute("COMMIT").await?;
                    answer
                }
            };
            ensure!(answer == turn + 1, "asked for {}, got {answer}", turn + 1);
            shared.done.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(REST).await;
        }
        Ok(())
    })
}

fn number(messages: &[tokio_postgres::SimpleQueryMessage]) -> Result<i64> {
    let value = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(value.context("there is a row")?.parse()?)
}
