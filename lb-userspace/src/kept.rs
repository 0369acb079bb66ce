//! What a daemon keeps on disk, one small file each: a file is whole, or the one before.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes aside and renames into place, so that a crash leaves the old or the new; makes the directory
/// if it is not there.
///
/// # Errors
/// The file system's.
pub fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let aside = file.with_added_extension("new");
    let mut new = fs::File::create(&aside)?;
    new.write_all(text)?;
    new.sync_all()?;
    fs::rename(&aside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_takes_the_place_of_what_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("state").join("one.json");
        for text in [&b"first, and longer"[..], b"second"] {
            write(&file, text).expect("room for it");
            assert_eq!(fs::read(&file).expect("just written"), text);
        }
        let there = file.parent().expect("it has one").read_dir();
        assert_eq!(
            there.expect("it is there").count(),
            1,
            "nothing else is left"
        );
    }
}
