//! SPDX licence expressions: `MIT OR (Apache-2.0 AND Zlib)`, and the old `MIT/Apache-2.0`.

/// Whether the expression can be met with the licences that `is_allowed` accepts. One that cannot be
/// read is not.
pub(super) fn is_satisfied(expression: &str, is_allowed: impl Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = Words {
        words: spaced.split_whitespace().collect(),
        at: 0,
        is_allowed: &is_allowed,
    };
    words.any_of() == Some(true) && words.at == words.words.len()
}

struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    is_allowed: &'a dyn Fn(&str) -> bool,
}

/// Each method reads one construct; `None` is something that is no expression.
impl<'a> Words<'a> {
    fn any_of(&mut self) -> Option<bool> {
        let mut is_met = self.all_of()?;
        while self.take("OR") {
            is_met |= self.all_of()?;
        }
        Some(is_met)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut is_met = self.one()?;
        while self.take("AND") {
            is_met &= self.one()?;
        }
        Some(is_met)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let is_met = self.any_of()?;
            return self.take(")").then_some(is_met);
        }
        let name = self
            .next()
            .filter(|name| !["AND", "OR", "WITH", ")"].contains(name))?;
        if self.take("WITH") {
            let exception = self.next()?;
            return Some((self.is_allowed)(&format!("{name} WITH {exception}")));
        }
        Some((self.is_allowed)(name))
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn take(&mut self, word: &str) -> bool {
        let is_it = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is_it);
        is_it
    }
}

#[cfg(test)]
mod tests {
    use super::is_satisfied;

    #[test]
    fn expressions_are_met_by_what_is_allowed() {
        let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"];
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0-only/MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT AND Zlib OR GPL-3.0-only", true),
            ("(MIT OR GPL-3.0-only) AND Zlib", true),
            ("(MIT OR Zlib) AND GPL-3.0-only", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("MIT Zlib", false),
        ] {
            assert_eq!(
                is_satisfied(expression, |name| allowed.contains(&name)),
                expected,
                "{expression:?}"
            );
        }
    }
}
