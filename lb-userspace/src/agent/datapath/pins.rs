//! Where program links and maps are pinned, so that packets flow whether an agent runs or not.
//!
//! ```text
//! <pin>/v<ABI>/maps/<MAP>         the maps
//! <pin>/v<ABI>/links/<interface>  one link per interface that the program is attached to
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lb_common::maps::ABI_VERSION;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where distributions mount the BPF filesystem.
const BPFFS: &str = "/sys/fs/bpf";

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The path is on another kind of filesystem.
    #[error(
        "{path} is not on a BPF filesystem; mount one (mount -t bpf bpf {BPFFS}) or set \
         [agent].pin to a path below one"
    )]
    NotBpffs {
        /// The path.
        path: PathBuf,
    },
    /// The BPF filesystem could not be mounted.
    #[error("cannot mount a BPF filesystem at {BPFFS}: {source}; mount it by hand and try again")]
    Mount {
        /// What the kernel said.
        source: io::Error,
    },
    /// Another agent holds the lock.
    #[error(
        "an agent already serves the data plane pinned at {path}; stop it first (packets keep \
         flowing), or reload it"
    )]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// A file or directory could not be made or removed.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The pinned paths of one agent.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

/// The right to write to a pinned data plane; given up when dropped.
#[derive(Debug)]
pub struct PinLock {
    _directory: fs::File,
}

impl Pins {
    /// The paths below `[agent].pin`, whether they exist or not.
    #[must_use]
    pub fn at(pin: &Path) -> Self {
        Self {
            root: pin.join(format!("v{ABI_VERSION}")),
        }
    }

    /// Mounts the BPF filesystem if it is missing at its usual place, and makes the directories.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn prepare(pin: &Path) -> Result<Self, PinError> {
        let pins = Self::at(pin);
        if !is_bpffs(pin) {
            if !pin.starts_with(BPFFS) {
                return Err(PinError::NotBpffs {
                    path: pin.to_owned(),
                });
            }
            mount_bpffs()?;
        }
        for directory in [pins.maps(), pins.links()] {
            fs::create_dir_all(&directory).map_err(|source| PinError::Io {
                path: directory,
                source,
            })?;
        }
        Ok(pins)
    }

    /// Makes this process the one that writes to what is pinned here, until the lock is dropped
    /// or the process ends in any way.
    ///
    /// # Errors
    /// [`PinError::Taken`] by another agent; [`PinError::Io`].
    pub fn lock(&self) -> Result<PinLock, PinError> {
        let failed = |source| PinError::Io {
            path: self.root.clone(),
            source,
        };
        let directory = fs::File::open(&self.root).map_err(failed)?;
        match directory.try_lock() {
            Ok(()) => Ok(PinLock {
                _directory: directory,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(PinError::Taken {
                path: self.root.clone(),
            }),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether an agent has pinned maps here.
    #[must_use]
    pub fn exist(&self) -> bool {
        fs::read_dir(self.maps()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Where the map `name` is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where the link to `interface` is pinned. bpffs allows no dots in names; interfaces do
    /// (`eth0.100`).
    #[must_use]
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface.replace('.', ":"))
    }

    /// The interfaces to which a link is pinned.
    #[must_use]
    pub fn linked_interfaces(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.links()) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().replace(':', "."))
            .collect()
    }

    fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }
}

/// Removes every link and map below `pin`: the program is detached and its memory given back. Links
/// go first, so that no packet meets a program without maps.
///
/// # Errors
/// The first file that could not be removed.
pub fn remove(pin: &Path) -> Result<(), PinError> {
    let pins = Pins::at(pin);
    for directory in [pins.links(), pins.maps(), pins.root.clone(), pin.to_owned()] {
        remove_directory(&directory).map_err(|source| PinError::Io {
            path: directory,
            source,
        })?;
    }
    Ok(())
}

/// Removes the files of a directory and then itself; one that is not there, or that holds
/// directories of others, is left alone.
fn remove_directory(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            return Ok(());
        }
        fs::remove_file(entry.path())?;
    }
    match fs::remove_dir(directory) {
        // The root of the filesystem itself, if that is what `pin` names.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        result => result,
    }
}

/// Whether `path`, or the nearest part of it that exists, lies on a BPF filesystem.
fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find_map(|ancestor| statfs(ancestor).ok())
        .is_some_and(|filesystem| filesystem.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_bpffs() -> Result<(), PinError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700")).map_err(|errno| {
        PinError::Mount {
            source: errno.into(),
        }
    })
}
