//! Cuts SQL into tokens as PostgreSQL's lexer does. Where that depends on settings of the session
//! (`standard_conforming_strings`), it says so instead of guessing.

/// A piece of SQL. Comments and white space are between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or a keyword, as written.
    Word(&'a [u8]),
    /// An identifier in quotes, without them; a quote in it is still doubled.
    Quoted(&'a [u8]),
    /// A string of any kind; as written where it is a plain one, without the quotes.
    Text(&'a [u8]),
    /// As written.
    Number(&'a [u8]),
    /// `$1`.
    Parameter,
    /// A run of characters that operators are made of. It may be more than one operator.
    Operator(&'a [u8]),
    /// `::`
    Cast,
    Open,
    Close,
    Comma,
    Dot,
    Semicolon,
    /// `[`, `]` or `:`.
    Bracket,
    /// From here on nothing is sure. It is the last token.
    Unreadable,
}

/// The tokens of a text, each of which can be looked at before it is taken.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Token<'a>>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut lexer = Lexer { text, at: 0 };
        let ahead = lexer.next();
        Self { lexer, ahead }
    }

    /// The next token, which stays the next.
    pub(super) const fn peek(&self) -> Option<Token<'a>> {
        self.ahead
    }

    /// Goes past the next token.
    pub(super) fn advance(&mut self) {
        self.ahead = self.lexer.next();
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.ahead;
        self.advance();
        token
    }
}

#[derive(Clone)]
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Goes to the end of the text.
    fn give_up(&mut self) -> Token<'a> {
        self.at = self.text.len();
        Token::Unreadable
    }

    fn byte(&self, at: usize) -> u8 {
        // No text holds a zero byte, so it can stand for the end.
        self.text.get(at).copied().unwrap_or(0)
    }

    /// White space and comments; false if a comment does not end.
    fn skip_blanks(&mut self) -> bool {
        loop {
            match self.byte(self.at) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.byte(self.at + 1) == b'-' => {
                    let rest = &self.text[self.at..];
                    // Both end a line for PostgreSQL.
                    let end = memchr::memchr2(b'\n', b'\r', rest);
                    self.at = end.map_or(self.text.len(), |end| self.at + end);
                }
                b'/' if self.byte(self.at + 1) == b'*' => match self.comment_end() {
                    Some(end) => self.at = end,
                    None => return false,
                },
                _ => return true,
            }
        }
    }

    /// Behind the comment that begins here; comments nest.
    fn comment_end(&self) -> Option<usize> {
        let mut depth = 0_u32;
        let mut at = self.at;
        loop {
            at += memchr::memchr2(b'*', b'/', self.text.get(at..)?)?;
            match (self.byte(at), self.byte(at + 1)) {
                (b'/', b'*') => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        while is_of_word(self.byte(self.at)) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        match (word, self.byte(self.at)) {
            (b"e" | b"E", b'\'') => self.escape_string(),
            (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", b'\'') => self.string(),
            (b"u" | b"U", b'&') if matches!(self.byte(self.at + 1), b'\'') => {
                self.at += 1;
                self.string()
            }
            // An identifier with escapes: its name would have to be decoded.
            (b"u" | b"U", b'&') if self.byte(self.at + 1) == b'"' => self.give_up(),
            _ => Token::Word(word),
        }
    }

    /// A string that may or may not take backslashes as escapes: readable if both ways agree.
    fn string(&mut self) -> Token<'a> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            let Some(rest) = self.text.get(at..) else {
                return self.give_up();
            };
            let Some(found) = memchr::memchr2(b'\'', b'\\', rest) else {
                return self.give_up();
            };
            at += found;
            match (self.byte(at), self.byte(at + 1)) {
                (b'\'', b'\'') | (b'\\', b'\\') => at += 2,
                (b'\'', _) => break,
                // The end of the string for one, a quote within it for the other.
                (_, b'\'') => return self.give_up(),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Token::Text(&self.text[start..at])
    }

    /// A string that takes backslashes as escapes.
    fn escape_string(&mut self) -> Token<'a> {
        let mut at = self.at + 1;
        loop {
            let Some(rest) = self.text.get(at..) else {
                return self.give_up();
            };
            let Some(found) = memchr::memchr2(b'\'', b'\\', rest) else {
                return self.give_up();
            };
            at += found;
            match (self.byte(at), self.byte(at + 1)) {
                (b'\'', b'\'') | (b'\\', _) => at += 2,
                _ => break,
            }
        }
        self.at = at + 1;
        Token::Text(&[])
    }

    fn quoted(&mut self) -> Token<'a> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            let Some(found) = self
                .text
                .get(at..)
                .and_then(|rest| memchr::memchr(b'"', rest))
            else {
                return self.give_up();
            };
            at += found;
            if self.byte(at + 1) != b'"' {
                break;
            }
            at += 2;
        }
        self.at = at + 1;
        Token::Quoted(&self.text[start..at])
    }

    /// A parameter, or a string in dollar quotes.
    fn dollar(&mut self) -> Token<'a> {
        let mut at = self.at + 1;
        if self.byte(at).is_ascii_digit() {
            while self.byte(at).is_ascii_digit() {
                at += 1;
            }
            self.at = at;
            return if is_of_word(self.byte(at)) {
                self.give_up()
            } else {
                Token::Parameter
            };
        }
        while is_of_word(self.byte(at)) && self.byte(at) != b'$' {
            at += 1;
        }
        if self.byte(at) != b'$' {
            return self.give_up();
        }
        let tag = &self.text[self.at..=at];
        let body = at + 1;
        match memchr::memmem::find(&self.text[body..], tag) {
            Some(end) => {
                self.at = body + end + tag.len();
                Token::Text(&self.text[body..body + end])
            }
            None => self.give_up(),
        }
    }

    fn number(&mut self) -> Token<'a> {
        let start = self.at;
        let mut at = start;
        let digits = |mut at: usize| {
            while self.byte(at).is_ascii_digit() {
                at += 1;
            }
            at
        };
        at = digits(at);
        if self.byte(at) == b'.' {
            at = digits(at + 1);
        }
        if matches!(self.byte(at), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            if self.byte(at + 1 + sign).is_ascii_digit() {
                at = digits(at + 1 + sign);
            }
        }
        self.at = at;
        // `1from` is two tokens up to PostgreSQL 14 and an error later; `1_000` is one since 16.
        if is_of_word(self.byte(at)) {
            return self.give_up();
        }
        Token::Number(&self.text[start..at])
    }

    fn operator(&mut self) -> Token<'a> {
        let start = self.at;
        while is_of_operator(self.byte(self.at)) {
            let pair = (self.byte(self.at), self.byte(self.at + 1));
            if pair == (b'-', b'-') || pair == (b'/', b'*') {
                break;
            }
            self.at += 1;
        }
        Token::Operator(&self.text[start..self.at])
    }

    fn single(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        if !self.skip_blanks() {
            return Some(self.give_up());
        }
        let byte = *self.text.get(self.at)?;
        Some(match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 128.. => self.word(),
            b'0'..=b'9' => self.number(),
            b'\'' => self.string(),
            b'"' => self.quoted(),
            b'$' => self.dollar(),
            b'(' => self.single(Token::Open),
            b')' => self.single(Token::Close),
            b',' => self.single(Token::Comma),
            b'.' if self.byte(self.at + 1).is_ascii_digit() => self.number(),
            b'.' => self.single(Token::Dot),
            b';' => self.single(Token::Semicolon),
            b'[' | b']' => self.single(Token::Bracket),
            b':' if self.byte(self.at + 1) == b':' => {
                self.at += 2;
                Token::Cast
            }
            // `:=` and `=>` name arguments; the former is an operator to nobody.
            b':' => self.single(Token::Bracket),
            byte if is_of_operator(byte) => self.operator(),
            _ => self.give_up(),
        })
    }
}

const fn is_of_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 128..)
}

const fn is_of_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
    )
}
