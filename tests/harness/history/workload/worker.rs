//! One client: a connection, batches of commands, and what came of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use super::{Versions, Workload, micros, number, otherwise, outcome_of, value_of, version_of};
use crate::history::{Key, Operation, Outcome, What};
use crate::redis::{Connection, Reply};

/// How long a client waits for an answer before it gives the connection up: longer than any wait
/// that a logic server promises.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(5);

pub(super) struct Worker {
    workload: Arc<Workload>,
    client: u16,
    began: Instant,
    rng: Rng,
    connection: Option<Connection>,
    written: Versions,
    operations: Vec<Operation>,
}

/// A command under way.
enum Sent {
    Wrote(Key, u64),
    Read(Key),
    Counted(Key),
}

impl Worker {
    pub fn new(workload: Arc<Workload>, client: u16, began: Instant) -> Self {
        let rng = Rng::with_seed(workload.seed ^ u64::from(client));
        Self {
            workload,
            client,
            began,
            rng,
            connection: None,
            written: Versions::new(),
            operations: Vec::new(),
        }
    }

    /// Writes the first version of each of its registers.
    pub fn fill(&mut self) -> Result<()> {
        let own: Vec<_> = self.own(self.workload.registers).collect();
        for numbers in own.chunks(64) {
            let sent = numbers.iter().map(|number| Key::Register(*number));
            let sent: Vec<_> = sent.map(|key| self.write(key)).collect();
            self.round(sent);
        }
        let is_filled = self.operations.iter().all(|operation| {
            matches!(
                operation.what,
                What::Wrote {
                    outcome: Outcome::Acknowledged,
                    ..
                }
            )
        });
        ensure!(
            is_filled,
            "a first write failed: {:?}",
            self.operations.last()
        );
        Ok(())
    }

    /// Sends a batch and reads its answers; how many commands it had.
    pub fn batch(&mut self) -> usize {
        let count = if self.only_reads() {
            1
        } else {
            self.workload.batch
        };
        let sent: Vec<_> = (0..count).map(|_| self.choose()).collect();
        self.round(sent);
        if !self.workload.pause.is_zero() {
            std::thread::sleep(self.workload.pause);
        }
        count
    }

    pub fn finish(self) -> Vec<Operation> {
        self.operations
    }

    fn choose(&mut self) -> Sent {
        let (registers, lists, counters) = (
            self.workload.registers,
            self.workload.lists,
            self.workload.counters,
        );
        if self.only_reads() || self.rng.u32(0..100) >= self.workload.writes {
            return Sent::Read(Key::Register(self.rng.u32(0..registers)));
        }
        match self.rng.u32(0..6) {
            0 if counters > 0 => Sent::Counted(Key::Counter(self.rng.u32(0..counters))),
            1 => match self.pick_own(lists) {
                Some(number) => self.write(Key::List(number)),
                None => Sent::Read(Key::Register(self.rng.u32(0..registers))),
            },
            _ => match self.pick_own(registers) {
                Some(number) => self.write(Key::Register(number)),
                None => Sent::Read(Key::Register(self.rng.u32(0..registers))),
            },
        }
    }

    fn only_reads(&self) -> bool {
        self.client >= self.writers()
    }

    fn writers(&self) -> u16 {
        self.workload.clients.saturating_sub(self.workload.readers)
    }

    /// Numbers below `count` that are this client's to write.
    fn own(&self, count: u32) -> impl Iterator<Item = u32> + use<> {
        let end = if self.only_reads() { 0 } else { count };
        (u32::from(self.client)..end).step_by(usize::from(self.writers().max(1)))
    }

    fn pick_own(&mut self, count: u32) -> Option<u32> {
        let own = self.own(count).count();
        let index = (own > 0).then(|| self.rng.usize(0..own))?;
        self.own(count).nth(index)
    }

    fn write(&mut self, key: Key) -> Sent {
        let version = self.written.entry(key).or_default();
        *version += 1;
        Sent::Wrote(key, *version)
    }

    /// Sends commands with one write, and reads the answers in their order.
    fn round(&mut self, sent: Vec<Sent>) {
        let start = micros(self.began.elapsed());
        let Some(mut connection) = self.connection.take().or_else(|| self.open()) else {
            std::thread::sleep(AGAIN);
            for sent in sent {
                self.never_sent(&sent, start);
            }
            return;
        };
        for sent in &sent {
            sent.queue(&mut connection);
        }
        let mut is_open = connection.flush().is_ok();
        let mut told = Versions::new();
        for sent in sent {
            let reply = if is_open {
                connection.answer().ok()
            } else {
                None
            };
            is_open = reply.is_some();
            let end = micros(self.began.elapsed());
            let (key, what) = self.what(&sent, reply.as_ref(), &mut told);
            self.operations.push(Operation {
                client: self.client,
                key,
                start,
                end,
                what,
            });
        }
        // What is not read to its end belongs to nobody.
        self.connection = is_open.then_some(connection);
    }

    fn open(&self) -> Option<Connection> {
        let targets = &self.workload.targets;
        let target = targets.get(usize::from(self.client) % targets.len())?;
        let connection = Connection::open(&target.place, target.address).ok()?;
        connection.patience(ANSWER_MAX).context("patience").ok()?;
        Some(connection)
    }

    fn what(&self, sent: &Sent, reply: Option<&Reply>, told: &mut Versions) -> (Key, What) {
        let outcome = match reply {
            None => Outcome::Unknown,
            Some(Reply::Error(error)) => outcome_of(error, self.workload.unknown),
            Some(_) => Outcome::Acknowledged,
        };
        match *sent {
            Sent::Wrote(key, version) => {
                if outcome == Outcome::Acknowledged && matches!(key, Key::Register(_)) {
                    told.insert(key, version);
                }
                (key, What::Wrote { version, outcome })
            }
            Sent::Counted(key) => {
                let version = reply.and_then(number).unwrap_or(0);
                (key, What::Counted { version, outcome })
            }
            Sent::Read(key) => {
                let after = told.get(&key).copied().unwrap_or(0);
                let saw = reply.map(|reply| {
                    version_of(key, reply)
                        .map_or_else(|| otherwise(reply), |saw| What::Read { saw, after })
                });
                let lost = || What::Failed {
                    error: "the connection ended".into(),
                };
                (key, saw.unwrap_or_else(lost))
            }
        }
    }

    /// Nobody could be reached: nothing was done.
    fn never_sent(&mut self, sent: &Sent, start: u64) {
        let (key, what) = match *sent {
            Sent::Wrote(key, version) => (
                key,
                What::Wrote {
                    version,
                    outcome: Outcome::Refused,
                },
            ),
            Sent::Counted(key) => (
                key,
                What::Counted {
                    version: 0,
                    outcome: Outcome::Refused,
                },
            ),
            Sent::Read(key) => (
                key,
                What::Failed {
                    error: "nobody could be reached".into(),
                },
            ),
        };
        self.operations.push(Operation {
            client: self.client,
            key,
            start,
            end: micros(self.began.elapsed()),
            what,
        });
    }
}

impl Sent {
    fn queue(&self, connection: &mut Connection) {
        match self {
            Sent::Wrote(key @ Key::List(_), version) => {
                connection.queue(&["RPUSH", &key.to_string(), &version.to_string()]);
            }
            Sent::Wrote(key, version) => {
                connection.queue(&["SET", &key.to_string(), &value_of(*key, *version)]);
            }
            Sent::Read(key) => connection.queue(&["GET", &key.to_string()]),
            Sent::Counted(key) => connection.queue(&["INCR", &key.to_string()]),
        }
    }
}
