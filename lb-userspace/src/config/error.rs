//! What is wrong with a configuration, for people: every mistake at once, one line each.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeTable};

use super::{
    FILE_BYTES_MAX,
    suggest::{bare, shown},
};

/// The most mistakes that are reported one by one; the rest are counted.
const DIAGNOSTICS_MAX: usize = 100;

/// Why there is no [`Config`](super::Config).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read as text.
    #[error("{}: {}", path.display(), unreadable(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read, and is wrong; never empty, in the order of the file.
    #[error("{}", lines(.0))]
    Refused(Vec<Diagnostic>),
}

impl ConfigError {
    /// The mistakes in the file, in its order; none if the file could not be read.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Refused(diagnostics) => diagnostics,
        }
    }
}

fn unreadable(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => "there is no such file; name one with --config FILE".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "reading it is not permitted; make it readable for this user".to_owned()
        }
        io::ErrorKind::IsADirectory => "is a directory; name the file in it".to_owned(),
        io::ErrorKind::InvalidData => "is not UTF-8 text; write it as TOML in UTF-8".to_owned(),
        io::ErrorKind::FileTooLarge => {
            format!("has more than {FILE_BYTES_MAX} bytes; name a configuration file")
        }
        _ => format!("cannot be read: {source}; make it a readable file"),
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The key's full path, such as `pool "logic".check.interval`; `TOML` where the text is none.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            key,
            wrong,
            right,
        } = self;
        write!(
            f,
            "{}:{line}:{column}: {key}: {wrong}; {right}",
            file.display()
        )
    }
}

/// Collects the mistakes of one text.
pub(super) struct Diagnostics<'t> {
    file: &'t Path,
    text: &'t str,
    found: Vec<(usize, Diagnostic)>,
    more: usize,
}

impl<'t> Diagnostics<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Self {
            file,
            text,
            found: Vec::new(),
            more: 0,
        }
    }

    /// Reports a mistake at a place in the text.
    pub(super) fn refuse(
        &mut self,
        span: &Range<usize>,
        key: impl Into<String>,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        if self.found.len() == DIAGNOSTICS_MAX {
            self.more += 1;
            return;
        }
        let (line, column) = position(self.text, span.start);
        let diagnostic = Diagnostic {
            file: self.file.to_owned(),
            line,
            column,
            key: key.into(),
            wrong: wrong.into(),
            right: right.into(),
        };
        self.found.push((span.start, diagnostic));
    }

    /// The text as a TOML tree, or `None` after reporting why it is not TOML.
    pub(super) fn parse_toml(&mut self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.text) {
            Ok(root) => Some(root),
            // One only: what follows it is guesswork, and would mislead.
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let (wrong, right) = explain(error.message(), self.text.get(span.clone()));
                self.refuse(&span, "TOML", wrong, right);
                None
            }
        }
    }

    /// The configuration if nothing was reported, otherwise all that was.
    pub(super) fn finish<T>(mut self, config: Option<T>) -> Result<T, ConfigError> {
        if let (Some(config), true) = (config, self.found.is_empty()) {
            return Ok(config);
        }
        self.found.sort_by_key(|&(at, _)| at);
        let mut diagnostics: Vec<_> = self.found.into_iter().map(|(_, found)| found).collect();
        debug_assert!(
            !diagnostics.is_empty(),
            "whoever refuses a configuration says why"
        );
        if let (Some(last), 1..) = (diagnostics.last_mut(), self.more) {
            last.right
                .push_str(&format!(" (and {} more mistakes)", self.more));
        }
        Err(ConfigError::Refused(diagnostics))
    }
}

/// The parser's message, parted into what is wrong and what would be right.
fn explain(message: &str, found: Option<&str>) -> (String, String) {
    // A message of the parser is one line today; nothing promises that it stays so.
    let message = message.replace('\n', " ");
    let found = found.unwrap_or_default().trim();
    if message == "duplicate key" {
        let wrong = format!("the key `{}` is written twice", bare(found));
        return (wrong, "keep one of the two".to_owned());
    }
    if message.starts_with("string values must be quoted") {
        return match found {
            "" => (
                "the value is missing".to_owned(),
                "write `key = value`".to_owned(),
            ),
            text => (
                format!("{} is no value", bare(text)),
                format!("write strings in quotes: {}", shown(text)),
            ),
        };
    }
    match message.split_once(", expected ") {
        Some((wrong, right)) => (wrong.to_owned(), format!("expected {right}")),
        None => (
            message,
            "write `key = value`, `[section]` or `[[section]]`".to_owned(),
        ),
    }
}

/// Line and column of a byte of the text, both counted from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    // Bytes 10xxxxxx continue a character that was counted by its first byte.
    let characters = before[line_start..]
        .iter()
        .filter(|&&byte| byte & 0xC0 != 0x80)
        .count();
    (line, characters + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nbé = 1\n";
        for (at, expected) in [
            (0, (1, 1)),
            (2, (2, 1)),
            (5, (2, 3)),
            (9, (2, 7)),
            (99, (3, 1)),
        ] {
            assert_eq!(position(text, at), expected, "byte {at}");
        }
        assert_eq!(position("", 0), (1, 1));
    }
}
