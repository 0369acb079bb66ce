//! One idea in a file: a file that outgrew a few screens has more.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::source;

const LINES_MAX: usize = 600;

pub(super) fn check() -> Result<()> {
    let mut too_long = Vec::new();
    for file in source::rust_files(Path::new(""))? {
        let lines = fs::read_to_string(&file.path)?.lines().count();
        if lines > LINES_MAX {
            too_long.push(format!("{} has {lines} lines", file.name));
        }
    }
    ensure!(
        too_long.is_empty(),
        "{}; split what is above {LINES_MAX}",
        too_long.join(", ")
    );
    Ok(())
}
