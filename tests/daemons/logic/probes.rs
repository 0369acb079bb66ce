//! Sessions read what they wrote themselves, while standbys lag, are restarted, promoted and rewound:
//! no read is older than its session's last acknowledged write, and standbys answer most of what they
//! could.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_tests::postgres::{Postgres, Replication};
use lb_tests::{scale, wait};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

use super::site::Cluster;
use crate::setup::{SOON, connect};

const SESSIONS: u64 = 16;
/// Reads in the suite, and in the long run.
const PROBES: u64 = 20_000;
const PROBES_LONG: u64 = 10_000_000;
/// Reads after each write.
const READS: u32 = 20;
/// How far standbys lag, in turn.
const LAGS: [&str; 8] = ["0", "0", "20ms", "0", "200ms", "0", "1s", "5s"];
/// Between two changes.
const STEP: Duration = Duration::from_millis(400);
/// Of what a standby could have answered, so much at least was answered by one, in the long run.
const SHARE_MIN: f64 = 0.7;
/// A commit's record lies at most so far behind the position that its statement saw.
const COMMIT_BYTES_MAX: u64 = 512;

/// What the sessions saw.
#[derive(Default)]
struct Seen {
    probes: AtomicU64,
    by_standbys: AtomicU64,
    /// Reads that some standby could have answered when they were asked, and those of them that one did.
    could: AtomicU64,
    could_and_did: AtomicU64,
    /// Writes that were told to be in doubt, and reads that were told that their floor is.
    in_doubt: AtomicU64,
    failovers: AtomicU64,
    restarts: AtomicU64,
    is_over: AtomicBool,
    /// By server: how far it has replayed, a moment ago; 0 if it is no standby.
    replayed: [AtomicU64; 3],
}

impl Seen {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn words(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} probes, {} answered by standbys; of {} that one could have answered, {} were; {} in doubt; \
             {} failovers, {} restarts",
            of(&self.probes),
            of(&self.by_standbys),
            of(&self.could),
            of(&self.could_and_did),
            of(&self.in_doubt),
            of(&self.failovers),
            of(&self.restarts),
        )
    }

    /// Follows how far a standby is.
    async fn watch(self: Arc<Self>, number: usize, words: String) {
        let sql = "SELECT CASE WHEN pg_is_in_recovery() \
                   THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn ELSE 0 END::bigint";
        while !self.is_over() {
            if let Ok((client, connection)) = tokio_postgres::connect(&words, NoTls).await {
                tokio::spawn(async move { drop(connection.await) });
                while let Ok(row) = client.query_one(sql, &[]).await
                    && !self.is_over()
                {
                    let replayed = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
                    self.replayed[number].store(replayed, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            self.replayed[number].store(0, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn has_a_standby(&self, position: u64) -> bool {
        let mut replayed = self.replayed.iter();
        replayed.any(|replayed| replayed.load(Ordering::Relaxed) >= position)
    }
}

/// One session with a row of its own.
struct Session {
    id: u64,
    client: Client,
    seen: Arc<Seen>,
    /// What it wrote last, for sure.
    written: i64,
    /// What it perhaps wrote after that.
    perhaps: Option<i64>,
    /// Where in the log that is; `None` if it is not known.
    position: Option<u64>,
}

impl Session {
    async fn new(seen: &Arc<Seen>, port: u16, id: u64) -> Result<Self> {
        Ok(Self {
            id,
            client: connect(port, "").await?,
            seen: Arc::clone(seen),
            written: 0,
            perhaps: None,
            position: None,
        })
    }

    async fn run(mut self) -> Result<()> {
        while !self.seen.is_over() {
            self.write().await?;
            for _ in 0..READS {
                self.read().await?;
                if fastrand::u32(..16) == 0 {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..8))).await;
                }
            }
            ensure!(!self.client.is_closed(), "session {} was closed", self.id);
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let next = self.perhaps.unwrap_or(self.written) + 1;
        let sql = format!(
            "UPDATE probe SET n = {next} WHERE id = {} RETURNING pg_current_wal_insert_lsn() - '0/0'::pg_lsn",
            self.id
        );
        self.position = None;
        match self.client.simple_query(&sql).await {
            Ok(rows) => {
                (self.written, self.perhaps) = (next, None);
                let position = first(&rows, 0).context("a position")?.parse::<u64>()?;
                self.position = Some(position + COMMIT_BYTES_MAX);
            }
            Err(error) => match code(&error) {
                Some("40003" | "08007") => {
                    Seen::add(&self.seen.in_doubt);
                    self.perhaps = Some(next);
                }
                Some("08006" | "57P03") => {}
                _ => bail!("session {} writes: {error:?}", self.id),
            },
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let could = self
            .position
            .is_some_and(|position| self.seen.has_a_standby(position));
        let sql = format!("SELECT n, by_a_standby() FROM probe WHERE id = {}", self.id);
        let rows = match self.client.simple_query(&sql).await {
            Ok(rows) => rows,
            // It is not known where the last write is: it may be lost. (It is not, with a standby that is
            // waited for.)
            Err(error) if code(&error) == Some("08007") => {
                Seen::add(&self.seen.in_doubt);
                return Ok(());
            }
            Err(error) => bail!("session {} reads: {error:?}", self.id),
        };
        let n: i64 = first(&rows, 0).context("a row")?.parse()?;
        let is_by_standby = first(&rows, 1) == Some("t");
        if self.perhaps == Some(n) {
            (self.written, self.perhaps) = (n, None);
        }
        ensure!(
            n == self.written,
            "session {} wrote {} and perhaps {:?}, and read {n} of a {}",
            self.id,
            self.written,
            self.perhaps,
            if is_by_standby { "standby" } else { "primary" }
        );
        Seen::add(&self.seen.probes);
        if is_by_standby {
            Seen::add(&self.seen.by_standbys);
        }
        if could {
            Seen::add(&self.seen.could);
            if is_by_standby {
                Seen::add(&self.seen.could_and_did);
            }
        }
        Ok(())
    }
}

fn first(rows: &[SimpleQueryMessage], column: usize) -> Option<&str> {
    rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(column),
        _ => None,
    })
}

fn code(error: &Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// Changes one thing after the other.
struct Changes {
    step: usize,
    primary: usize,
}

impl Changes {
    fn standbys(&self) -> impl Iterator<Item = usize> + use<> {
        let primary = self.primary;
        (0..3).filter(move |&server| server != primary)
    }

    fn next(&mut self, cluster: &mut Cluster, seen: &Seen) -> Result<()> {
        self.step += 1;
        match self.step % 24 {
            6 | 14 => {
                let standby = self.standbys().nth(self.step / 24 % 2).context("two")?;
                let standby = &mut cluster.servers[standby];
                if self.step % 24 == 6 {
                    standby.stop()?;
                } else {
                    standby.kill()?;
                }
                // What was killed may hold its memory for another moment.
                wait::until("it starts", SOON, || standby.start().is_ok())?;
                Seen::add(&seen.restarts);
                Ok(())
            }
            20 => self.fail_over(cluster, seen),
            step => {
                let lag = LAGS[step % LAGS.len()];
                let standby = self.standbys().nth(self.step / LAGS.len() % 2);
                lag_by(&cluster.servers[standby.context("two")?], lag)
            }
        }
    }

    /// The primary is killed, a standby promoted; the others follow it.
    fn fail_over(&mut self, cluster: &mut Cluster, seen: &Seen) -> Result<()> {
        let old = self.primary;
        for standby in self.standbys() {
            lag_by(&cluster.servers[standby], "0")?;
        }
        cluster.servers[old].kill()?;
        let new = most_advanced(cluster, self.standbys())?;
        cluster.servers[new].promote()?;
        self.primary = new;
        let other = (0..3)
            .find(|server| *server != old && *server != new)
            .context("three")?;
        let [old, new, other] = cluster.servers.get_disjoint_mut([old, new, other])?;
        other.follow(new)?;
        other.sql("SELECT pg_reload_conf()")?;
        old.rewind(new)?;
        other.wait_until_streaming(new)?;
        Seen::add(&seen.failovers);
        Ok(())
    }
}

fn lag_by(standby: &Postgres, lag: &str) -> Result<()> {
    standby.sql(&format!(
        "ALTER SYSTEM SET recovery_min_apply_delay = '{lag}'"
    ))?;
    standby.sql("SELECT pg_reload_conf()").map(drop)
}

/// The one that has most of the log, once none gets any more of it.
fn most_advanced(cluster: &Cluster, standbys: impl Iterator<Item = usize>) -> Result<usize> {
    let standbys: Vec<_> = standbys.collect();
    let mut before = Vec::new();
    wait::until("the standbys have got what they will get", SOON, || {
        let received = |&standby: &usize| -> Result<(u64, usize)> {
            let sql = "SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn";
            Ok((cluster.servers[standby].sql(sql)?.parse()?, standby))
        };
        let now: Vec<_> = standbys.iter().filter_map(|s| received(s).ok()).collect();
        let is_settled = now == before && now.len() == standbys.len();
        before = now;
        is_settled
    })?;
    let best = before.into_iter().max().context("a standby")?;
    Ok(best.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_reads_less_than_it_wrote_whatever_becomes_of_the_servers() -> Result<()> {
    let mut cluster = Cluster::new(2, ", failover_timeout = \"20s\"")?;
    cluster.psql(
        "CREATE TABLE probe (id int PRIMARY KEY, n bigint) WITH (fillfactor = 20);
         CREATE FUNCTION by_a_standby() RETURNS bool STABLE LANGUAGE plpgsql AS
           $$ BEGIN RETURN pg_is_in_recovery(); END $$",
    )?;
    cluster.psql(&format!(
        "INSERT INTO probe SELECT g, 0 FROM generate_series(1, {SESSIONS}) g"
    ))?;
    let names = ["db-1", "db-2", "db-3"];
    for server in &cluster.servers {
        server.replicate(Replication::Synchronous, &names)?;
    }
    for standby in [1, 2] {
        cluster.servers[0].wait_until_synchronous(&cluster.servers[standby])?;
    }
    wait::until("a standby answers", SOON, || {
        cluster
            .psql("SELECT by_a_standby() FROM probe LIMIT 1")
            .is_ok_and(|said| said == "t")
    })?;
    let seen = Arc::new(Seen::default());
    for (number, server) in cluster.servers.iter().enumerate() {
        let words = format!(
            "host={} port={} user=postgres dbname=postgres",
            server.socket_directory().display(),
            server.port()
        );
        tokio::spawn(Arc::clone(&seen).watch(number, words));
    }
    let probes = if scale::is_long() {
        PROBES_LONG
    } else {
        PROBES
    };
    let mut sessions = tokio::task::JoinSet::new();
    for id in 1..=SESSIONS {
        sessions.spawn(Session::new(&seen, cluster.port(), id).await?.run());
    }
    let mut changes = Changes {
        step: 0,
        primary: 0,
    };
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    while count(&seen.probes) < probes || count(&seen.failovers) == 0 {
        match tokio::time::timeout(STEP, sessions.join_next()).await {
            // None ends by itself, unless something is wrong.
            Ok(ended) => ended
                .context("no session")??
                .with_context(|| seen.words())?,
            Err(_) => changes
                .next(&mut cluster, &seen)
                .with_context(|| seen.words())?,
        }
        if scale::is_long() && changes.step.is_multiple_of(100) {
            println!("{}", seen.words());
        }
    }
    seen.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = sessions.join_next().await {
        ended?.with_context(|| seen.words())?;
    }
    println!("{}", seen.words());
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    ensure!(
        of(&seen.could) > 0.0 && of(&seen.by_standbys) > 0.0,
        "no standby was of any use"
    );
    let share = of(&seen.could_and_did) / of(&seen.could);
    ensure!(
        share >= SHARE_MIN || !scale::is_long(),
        "standbys answered {share:.2} of what they could: {}",
        seen.words()
    );
    Ok(())
}
