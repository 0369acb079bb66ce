//! Primaries that become standbys of another: `pg_rewind`, and which timeline a server is on.

use anyhow::{Context, Result, ensure};

use super::{Postgres, READY_MAX, USER, said, tool_as_postgres};
use crate::wait;

impl Postgres {
    /// Lets an old primary, which was killed or stopped, come back as a standby of the new one: what it
    /// wrote after they parted is undone. Returns when it streams on the new primary's timeline.
    ///
    /// # Errors
    /// If it still runs, `pg_rewind` fails, or it does not stream.
    pub fn rewind(&mut self, primary: &Self) -> Result<()> {
        ensure!(self.process.is_none(), "{} still runs", self.name);
        // pg_rewind compares the control files, and the new timeline enters there with a checkpoint.
        primary.sql("CHECKPOINT")?;
        let mut rewind = tool_as_postgres("pg_rewind")?;
        rewind
            .arg("--target-pgdata")
            .arg(self.data())
            .arg("--no-sync");
        rewind.arg(format!(
            "--source-server=host={} port={} user={USER} dbname=postgres",
            primary.directory.display(),
            primary.port
        ));
        said(&mut rewind).with_context(|| format!("rewind {}", self.name))?;
        // The configuration was copied along.
        self.follow(primary)?;
        self.start()?;
        self.wait_until_streaming(primary)
    }

    /// Waits until this standby streams from `primary`, on its timeline.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_until_streaming(&self, primary: &Self) -> Result<()> {
        let timeline = primary.timeline()?;
        let what = format!("{} to stream on timeline {timeline}", self.name);
        wait::until(&what, READY_MAX, || {
            let streams = self
                .sql("SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'");
            streams.is_ok_and(|received| received == timeline.to_string())
        })
    }

    /// Waits until this primary counts `standby` among those that it waits for.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_until_synchronous(&self, standby: &Self) -> Result<()> {
        let what = format!("{} to wait for {}", self.name, standby.name);
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND sync_state IN ('sync', 'quorum')",
            standby.name
        );
        wait::until(&what, READY_MAX, || {
            self.sql(&sql).is_ok_and(|count| count == "1")
        })
    }

    /// The timeline that a primary writes on. (The control file lags behind a promotion.)
    ///
    /// # Errors
    /// If it is no primary, or does not answer.
    pub fn timeline(&self) -> Result<u32> {
        let file = self.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")?;
        let timeline = file.get(..8).context("the name of a WAL file is longer")?;
        u32::from_str_radix(timeline, 16).with_context(|| format!("{file} names no timeline"))
    }
}
