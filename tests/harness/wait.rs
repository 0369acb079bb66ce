//! Waiting for an event that the kernel or another process brings about, always with a deadline.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition that cannot be waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Returns as soon as `condition` holds.
///
/// # Errors
/// After `deadline`, naming `what` was waited for.
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, deadline, || condition().then_some(()))
}

/// Returns the value of `look` as soon as there is one.
///
/// # Errors
/// After `deadline`, naming `what` was waited for.
pub fn until_some<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if started.elapsed() >= deadline {
            bail!("waited {deadline:?} in vain for: {what}");
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Returns as soon as `path` exists.
///
/// # Errors
/// After `deadline`.
pub fn for_path(path: &Path, deadline: Duration) -> Result<()> {
    until(&format!("{} to appear", path.display()), deadline, || {
        path.exists()
    })
}
