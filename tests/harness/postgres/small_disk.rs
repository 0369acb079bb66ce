//! Servers whose disk is small: a file system in memory that really ends (ENOSPC).

use std::fs::{self, File, create_dir_all};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Postgres;
use crate::place::Place;
use crate::run_directory::RunDirectory;

/// Room for what initdb makes, a few WAL segments of 1 MiB, and what a workload writes.
const DISK_MIB: u32 = 120;
/// The file that takes all the room.
const BALLAST: &str = "ballast";

/// The file system; unmounted on drop.
#[derive(Debug)]
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Result<Self> {
        create_dir_all(path)?;
        let options = format!("size={DISK_MIB}m,mode=0777");
        mount(
            Some("lbt-disk"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(&*options),
        )
        .with_context(|| format!("mount a file system at {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be ending.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

impl Postgres {
    /// Like [`Postgres::start_new`], with data and WAL on a small disk of its own.
    ///
    /// # Errors
    /// As there, and if nothing can be mounted.
    pub fn start_new_on_small_disk(run: &RunDirectory, name: &str, settings: &str) -> Result<Self> {
        let disk = SmallDisk::mount(&run.join(name))?;
        let mut server = Self::empty(run, &Place::here(), name)?;
        server.disk = Some(disk);
        // Every new segment has to be made, none is kept.
        let wal = "wal_recycle = off\nwal_init_zero = on\nwal_keep_size = 0\nmax_wal_size = 8MB\nmin_wal_size = 2MB\n";
        server.init_with(&["--wal-segsize=1"], &format!("{wal}{settings}"))?;
        server.start()?;
        Ok(server)
    }

    /// Takes all the room that is left on its disk now; the server may give some back and lose it to another call.
    ///
    /// # Errors
    /// If writing fails for another reason than that no room is left.
    pub fn fill_disk(&self) -> Result<()> {
        let path = self.directory.join(BALLAST);
        let file = File::options().append(true).create(true).open(&path);
        let mut file = file.with_context(|| format!("open {}", path.display()))?;
        let block = vec![0; 64 << 10];
        // The last bytes one by one would take long; pages are what is given away.
        for size in [block.len(), 4096] {
            loop {
                match file.write_all(&block[..size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("fill the disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn free_disk(&self) -> Result<()> {
        fs::remove_file(self.directory.join(BALLAST)).context("free the disk")
    }
}
