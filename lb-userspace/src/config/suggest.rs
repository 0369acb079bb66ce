//! Words for messages: what somebody may have meant, and their own text made fit for one line.

/// The most characters of somebody's own text that a message repeats.
const SHOWN_CHARS_MAX: usize = 64;
/// Longer words are not compared: no key, word or name is longer.
const COMPARED_CHARS_MAX: usize = 64;

/// Somebody's own text, quoted, escaped and cut, so that it cannot break a message's one line.
pub(super) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

/// A key as a message shows it: quoted only if it would not be read as one word.
pub(super) fn bare(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        shown(name)
    }
}

/// ``did you mean "x"?`` when one of `words` is near, the whole list otherwise.
pub(super) fn one_of(word: &str, words: &[&str]) -> String {
    match nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("write {}", list(words)),
    }
}

/// `"a", "b" or "c"`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => format!("{only:?}"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("{word:?}")).collect();
            format!("{} or {last:?}", first.join(", "))
        }
    }
}

/// The word that differs least from `word`, if it is near enough to be a slip of the hand.
pub(crate) fn nearest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let folded = fold(word);
    if folded.is_empty() || folded.len() > COMPARED_CHARS_MAX {
        return None;
    }
    // One slip in a short word, one more for every three letters.
    let slips_max = (folded.len() / 3).max(1);
    words
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|&(slips, candidate)| slips <= slips_max && slips < candidate.chars().count())
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}

/// Letters only as far as they tell words apart: case, `-` and `_` are the commonest slips.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .map(|letter| {
            if letter == '-' {
                '_'
            } else {
                letter.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, l) in left.iter().enumerate() {
        let mut current = vec![row + 1; right.len() + 1];
        for (column, r) in right.iter().enumerate() {
            let mut slips = (last[column] + usize::from(l != r))
                .min(last[column + 1] + 1)
                .min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *l == right[column - 1] && left[row - 1] == *r;
            if swapped {
                slips = slips.min(before_last[column - 1] + 1);
            }
            current[column + 1] = slips;
        }
        before_last = last;
        last = current;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_recognised() {
        let words = ["interval", "timeout", "rise", "fall"];
        for (word, meant) in [
            ("intervall", Some("interval")),
            ("itnerval", Some("interval")),
            ("Timeout", Some("timeout")),
            ("time-out", Some("timeout")),
            ("fal", Some("fall")),
            ("weight", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), meant, "{word}");
        }
    }

    #[test]
    fn shown_text_stays_on_one_line_and_short() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert!(shown(&"x".repeat(1000)).chars().count() < 80);
    }
}
