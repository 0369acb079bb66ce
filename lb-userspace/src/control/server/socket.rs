//! The socket file: who may open it, and what becomes of one that is already there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Binds a socket that only its owner may use, in the place of one that nobody listens on.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    refuse_what_is_not_ours(path)?;
    // Made beside its place and moved there: it never stands open to others, not even between bind
    // and chmod, and whoever connects meanwhile finds the old one or the new one.
    let beside = beside(path);
    remove_if_there(&beside)?;
    let listener = UnixListener::bind(&beside)?;
    let placed = fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&beside, path));
    if let Err(error) = placed {
        remove_if_there(&beside)?;
        return Err(error);
    }
    Ok(listener)
}

fn refuse_what_is_not_ours(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let text = "something else than a socket is there; move it away, or set another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text = "another daemon answers there; stop it first, or set another path";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    Ok(())
}

/// `agent.sock` is first made as `agent.sock~`: one byte more, as socket paths end at 107.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    beside.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
