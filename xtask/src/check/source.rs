//! Rust sources as the checks read them: which files there are, and their code without the rest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell;

/// A file of the workspace.
pub(super) struct SourceFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The same from the workspace's root, as messages name it.
    pub(super) name: String,
}

/// All Rust files below a directory of the workspace, in the order of their names.
pub(super) fn rust_files(below: &Path) -> Result<Vec<SourceFile>> {
    let root = shell::workspace();
    let mut files = Vec::new();
    let mut directories = vec![root.join(below)];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                // Hidden directories and what cargo built are nobody's source.
                if !name.starts_with('.') && name != "target" {
                    directories.push(path);
                }
            } else if name.ends_with(".rs") {
                files.push(SourceFile { path, name });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The code with comments, strings and characters blanked out; line breaks stay where they are.
pub(super) fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = blank_length(rest);
        let (taken, left) = rest.split_at(if length == 0 {
            first.len_utf8()
        } else {
            length
        });
        if length == 0 {
            code.push_str(taken);
            // `r` of `for"` starts no raw string: names are taken whole.
            if first.is_alphanumeric() || first == '_' {
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                let end = left.find(|c| !is_name(c)).unwrap_or(left.len());
                code.push_str(&left[..end]);
                rest = &left[end..];
                continue;
            }
        } else {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = left;
    }
    code
}

/// How many bytes at the start of `rest` are a comment, a string or a character; 0 for code.
fn blank_length(rest: &str) -> usize {
    let until = |end: &str, from: usize| {
        rest[from..]
            .find(end)
            .map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment_length(rest)
    } else if let Some((prefix, hashes)) = raw_string_start(rest) {
        until(&format!("\"{}", "#".repeat(hashes)), prefix)
    } else if rest.starts_with('"') || rest.starts_with("b\"") || rest.starts_with("c\"") {
        quoted_length(rest, '"')
    } else if rest.starts_with('\'') || rest.starts_with("b'") {
        character_length(rest)
    } else {
        0
    }
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of `r##"` and the like, and how many hashes there are.
fn raw_string_start(rest: &str) -> Option<(usize, usize)> {
    let letters = ["r", "br", "cr"].into_iter().find(|letters| {
        rest.strip_prefix(letters)
            .is_some_and(|rest| rest.starts_with(['"', '#']))
    })?;
    let after = &rest[letters.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    // `r#type` is a name.
    after[hashes..]
        .starts_with('"')
        .then_some((letters.len() + hashes + 1, hashes))
}

/// Up to and with the closing quote; a backslash takes the next character with it.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_open = false;
    let mut is_escaped = false;
    for (at, c) in rest.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            if is_open {
                return at + c.len_utf8();
            }
            is_open = true;
        }
    }
    rest.len()
}

/// 0 for a lifetime, which begins alike.
fn character_length(rest: &str) -> usize {
    let inside = rest
        .trim_start_matches('b')
        .strip_prefix('\'')
        .unwrap_or_default();
    let mut characters = inside.chars();
    let is_character = match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    };
    if is_character {
        quoted_length(rest, '\'')
    } else {
        0
    }
}

/// The code without its `#[cfg(test)] mod … { … }` blocks.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        kept.push_str(before);
        rest = &marked[item_length(marked)..];
    }
    kept + rest
}

/// Up to the end of the item that begins here: its block, or its semicolon.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (c == '}' || c == ';') {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_stays() {
        for (source, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"let a = "b // \" c"; d"#, "let a =            ; d"),
            (r##"r#"a " b"# c"##, "           c"),
            ("r#type r", "r#type r"),
            ("'a' 'b: &'static str", "    'b: &'static str"),
            (r"'\'' b'\n' x", "           x"),
            ("for\"a\"", "for   "),
            ("\"open", "     "),
        ] {
            assert_eq!(code_only(source), expected, "{source}");
        }
    }

    #[test]
    fn test_modules_are_left_out() {
        let code = "a;\n#[cfg(test)]\nmod tests { fn b() { c } }\nd;\n#[cfg(test)]\nmod e;\nf";
        let kept: String = without_tests(code).split_whitespace().collect();
        assert_eq!(kept, "a;d;f");
    }
}
