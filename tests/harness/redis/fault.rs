//! What happens to servers.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Redis, Reply};

/// What a server's disk held at some time.
#[derive(Debug, Clone)]
pub struct Kept(PathBuf);

impl Redis {
    /// Kills it (SIGKILL): its memory is lost, its kernel answers with resets.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill();
        self.process = None;
        Ok(())
    }

    /// Freezes it (SIGSTOP): its sockets stay open, nobody answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn freeze(&mut self) -> Result<()> {
        self.process()?.freeze()
    }

    /// Lets a frozen server go on, with everything that it knew.
    ///
    /// # Errors
    /// If it does not run.
    pub fn thaw(&mut self) -> Result<()> {
        self.process()?.thaw()
    }

    /// Saves its data now, and keeps them aside.
    ///
    /// # Errors
    /// If it does not save.
    pub fn keep_data(&self) -> Result<Kept> {
        let reply = self.command(&["SAVE"])?;
        ensure!(
            reply == Reply::Simple("OK".into()),
            "{}: {reply:?}",
            self.name
        );
        let kept = self.directory().join("kept.rdb");
        fs::copy(self.data(), &kept).context("keep the data aside")?;
        self.forget_data()?;
        Ok(Kept(kept))
    }

    /// Starts a server that was killed, empty and configured as at first: it knows nothing of what
    /// happened meanwhile.
    ///
    /// # Errors
    /// If it runs, or does not start.
    pub fn start_empty(&mut self) -> Result<()> {
        self.forget_data()?;
        self.write_settings()?;
        self.start()
    }

    /// Starts a server that was killed, with what its disk holds and configured as at first.
    ///
    /// # Errors
    /// If it runs, or does not start.
    pub fn start_as_first(&mut self) -> Result<()> {
        self.write_settings()?;
        self.start()
    }

    /// Starts a server that was killed, with data of earlier and configured as at first.
    ///
    /// # Errors
    /// If it runs, or does not start.
    pub fn start_with(&mut self, kept: &Kept) -> Result<()> {
        fs::copy(&kept.0, self.data()).context("bring back old data")?;
        self.write_settings()?;
        self.start()
    }

    fn data(&self) -> PathBuf {
        self.directory().join("dump.rdb")
    }

    fn forget_data(&self) -> Result<()> {
        match fs::remove_file(self.data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("remove the data")
            }
            _ => Ok(()),
        }
    }
}
