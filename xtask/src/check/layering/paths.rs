//! Finds the paths in code that has no comments and strings any more. Not a parser: it knows how a
//! `use` nests and how `super` climbs, which is all that imports are made of.

use std::collections::BTreeSet;

/// The top-level modules of the crate that `code`, the file of `module`, names by a path.
pub(super) fn top_level_modules(module: &str, code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate", "lb_userspace"] {
        for at in occurrences(code, root) {
            found.extend(
                after_separator(&code[at + root.len()..])
                    .map(first_names)
                    .unwrap_or_default(),
            );
        }
    }
    for at in occurrences(code, "super") {
        found.extend(above(module, &code[..at], &code[at..]));
    }
    found
}

/// Whether `path`, such as `tokio` or `Instant::now`, is named.
pub(super) fn names(code: &str, path: &str) -> bool {
    occurrences(code, path).next().is_some()
}

/// Where `word` stands by itself, and not as a part of a longer name.
fn occurrences<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let (before, after) = (&code[..*at], &code[at + word.len()..]);
            !before.ends_with(is_name) && !after.starts_with(is_name)
        })
}

fn after_separator(code: &str) -> Option<&str> {
    code.trim_start().strip_prefix("::").map(str::trim_start)
}

/// What a chain of `super`s that climbs to the crate's root names there.
fn above(module: &str, before: &str, chain: &str) -> Vec<String> {
    // The chain's own later links are occurrences too.
    if before.trim_end().ends_with("::") {
        return Vec::new();
    }
    let mut rest = chain;
    let mut climbed = 0;
    while let Some(after) = rest.strip_prefix("super").and_then(after_separator) {
        climbed += 1;
        rest = after;
    }
    // An inline module climbs one less than it seems to; what it then names is no top-level module.
    if climbed == module.split('/').count() {
        first_names(rest)
    } else {
        Vec::new()
    }
}

/// `a` of `a::b`, or of `{a::b, c}` both `a` and `c`.
fn first_names(code: &str) -> Vec<String> {
    let Some(group) = code.strip_prefix('{') else {
        return first_name(code).into_iter().collect();
    };
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut is_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                names.extend(first_name(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

fn first_name(code: &str) -> Option<String> {
    let end = code
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(code.len());
    (end > 0).then(|| code[..end].to_owned())
}
