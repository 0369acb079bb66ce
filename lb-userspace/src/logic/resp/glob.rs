//! Redis's patterns: `*`, `?`, `[a-c]`, `[^a]` and `\`.

/// Whether the whole of `text` is what `pattern` describes. Takes time in proportion to the product of
/// both lengths at most.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        match text.get(t).and_then(|byte| one(&pattern[p..], *byte)) {
            Some(length) => {
                p += length;
                t += 1;
            }
            None => match &mut star {
                Some((at, eaten)) if *eaten < text.len() => {
                    *eaten += 1;
                    (p, t) = (*at + 1, *eaten);
                }
                _ => return false,
            },
        }
    }
}

/// The length of the pattern's first element, if it takes `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', rest @ ..] => {
            let (is_negated, inside) = match rest {
                [b'^', inside @ ..] => (true, inside),
                inside => (false, inside),
            };
            let mut at = 0;
            let mut is_in = false;
            while let Some(&first) = inside.get(at) {
                if first == b']' {
                    break;
                }
                match inside.get(at..) {
                    Some([b'\\', escaped, ..]) => {
                        is_in |= *escaped == byte;
                        at += 2;
                    }
                    Some([low, b'-', high, ..]) => {
                        let (low, high) = (low.min(high), low.max(high));
                        is_in |= (*low..=*high).contains(&byte);
                        at += 3;
                    }
                    _ => {
                        is_in |= first == byte;
                        at += 1;
                    }
                }
            }
            let length = 1 + usize::from(is_negated) + at + 1;
            (is_in != is_negated).then_some(length.min(pattern.len()))
        }
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, is_match) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("a?c", "abc", true),
            ("a[b-d]c", "adc", true),
            ("a[^b]c", "abc", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("**a", "bba", true),
            ("h[a", "ha", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                is_match,
                "{pattern} {text}"
            );
        }
        let long = "a".repeat(10_000);
        assert!(!matches(b"*a*a*a*a*b", long.as_bytes()), "and soon");
    }
}
