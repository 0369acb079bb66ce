//! A bpffs of one's own: what a test pins there goes with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::run_directory::RunDirectory;

/// A private bpffs; unmounted on drop, which removes the pins in it.
#[derive(Debug)]
pub struct BpfFs {
    path: PathBuf,
    // Declared last: the directory goes after what is mounted in it.
    _run: Option<RunDirectory>,
}

impl BpfFs {
    /// Mounts one at `/run/lbt/<pid>-<n>/bpf`.
    ///
    /// # Errors
    /// If the kernel has no bpffs, or the caller may not mount.
    pub fn new() -> Result<BpfFs> {
        let run = RunDirectory::new()?;
        let mut bpffs = BpfFs::mounted_in(&run)?;
        bpffs._run = Some(run);
        Ok(bpffs)
    }

    /// Mounts one at `bpf` in a run directory that already exists and outlives it.
    ///
    /// # Errors
    /// As [`BpfFs::new`].
    pub fn mounted_in(run: &RunDirectory) -> Result<BpfFs> {
        let path = run.join("bpf");
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        mount(
            Some("bpf"),
            &path,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount a bpffs at {} (run as root)", path.display()))?;
        Ok(BpfFs { path, _run: None })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // Detached, not plain: a process that is just ending may still hold a pin open.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
