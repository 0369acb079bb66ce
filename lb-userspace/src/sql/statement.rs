//! Says what one statement is by its first words; queries are read by [`query`].

mod transaction;

use super::catalog::Catalog;
use super::class::{Class, Kind, Marks, Why};
use super::query;
use super::scan::{Scanner, Token};
use super::word;

/// Reads one statement up to its semicolon, or to the end.
pub(super) fn class(scanner: &mut Scanner<'_>, catalog: &Catalog) -> Class {
    let first = match scanner.peek() {
        Some(Token::Open) => return query::class(scanner, catalog),
        Some(Token::Word(word)) => word::code(word),
        _ => {
            let rest = Rest::read(scanner);
            return rest.finish(Class::unknown(Why::Unreadable));
        }
    };
    if matches!(
        first,
        word::SELECT | word::WITH | word::VALUES | word::TABLE
    ) {
        return query::class(scanner, catalog);
    }
    scanner.advance();
    if matches!(
        first,
        word::BEGIN
            | word::START
            | word::COMMIT
            | word::END
            | word::ROLLBACK
            | word::ABORT
            | word::SAVEPOINT
            | word::RELEASE
    ) || (first == word::PREPARE && next_is(scanner, word::TRANSACTION))
    {
        let class = transaction::class(first, scanner);
        return Rest::read(scanner).finish(class);
    }
    let second = scanner.peek();
    let rest = Rest::read(scanner);
    rest.finish(other(first, second, &rest, catalog))
}

fn next_is(scanner: &Scanner<'_>, code: word::Code) -> bool {
    matches!(scanner.peek(), Some(Token::Word(word)) if word::code(word) == code)
}

/// What is neither a query nor of transactions.
fn other(first: word::Code, second: Option<Token<'_>>, rest: &Rest, catalog: &Catalog) -> Class {
    let of = Class::of;
    match first {
        word::SET => match second {
            // Ends with the transaction, or belongs to one.
            Some(Token::Word(word))
                if matches!(
                    word::code(word),
                    word::LOCAL | word::TRANSACTION | word::CONSTRAINTS
                ) =>
            {
                of(Kind::Set).with(Marks::TRANSACTION)
            }
            _ => of(Kind::Set),
        },
        word::RESET => of(Kind::Reset),
        word::DISCARD => of(Kind::Discard),
        word::SHOW => of(Kind::Show),
        word::PREPARE => of(Kind::Prepare).with(Marks::SESSION),
        word::EXECUTE => of(Kind::Execute),
        word::DEALLOCATE => of(Kind::Deallocate),
        word::DECLARE if rest.holds => of(Kind::Cursor).with(Marks::SESSION),
        word::DECLARE | word::FETCH | word::MOVE | word::CLOSE => of(Kind::Cursor),
        word::LISTEN | word::UNLISTEN => of(Kind::Listen).with(Marks::SESSION),
        word::COPY if rest.from_client => of(Kind::CopyIn).with(catalog.writes()),
        word::COPY if rest.to_client => of(Kind::CopyOut).with(catalog.writes()),
        word::COPY => of(Kind::Write).with(catalog.writes()),
        // What they run is not known, and may be anything.
        word::CALL | word::DO => of(Kind::Call).with(Marks::SESSION | Marks::SCHEMA),
        word::INSERT | word::UPDATE | word::DELETE | word::MERGE | word::TRUNCATE => {
            of(Kind::Write).with(catalog.writes())
        }
        word::LOCK
        | word::NOTIFY
        | word::VACUUM
        | word::ANALYZE
        | word::ANALYSE
        | word::CHECKPOINT
        | word::CLUSTER
        | word::REINDEX
        | word::REFRESH => of(Kind::Write),
        // A library of this one server process.
        word::LOAD => of(Kind::Unknown).with(Marks::SESSION),
        word::CREATE if rest.is_temporary => of(Kind::Write).with(Marks::SCHEMA | Marks::SESSION),
        word::CREATE
        | word::ALTER
        | word::DROP
        | word::COMMENT
        | word::GRANT
        | word::REVOKE
        | word::SECURITY
        | word::REASSIGN
        | word::IMPORT => of(Kind::Write).with(Marks::SCHEMA),
        // EXPLAIN shows the plan of the server that it runs on; ANALYZE runs the statement.
        _ => of(Kind::Unknown),
    }
}

/// What the rest of a statement mentions; read by words, whatever they stand for.
#[derive(Default)]
struct Rest {
    is_temporary: bool,
    holds: bool,
    from_client: bool,
    to_client: bool,
    is_unreadable: bool,
}

impl Rest {
    /// Reads to the semicolon. One that stands in a body (BEGIN ATOMIC …; END) ends it too: what
    /// follows is then taken for a statement, and the whole for several.
    fn read(scanner: &mut Scanner<'_>) -> Self {
        let mut rest = Self::default();
        while let Some(token) = scanner.peek() {
            match token {
                Token::Semicolon => break,
                Token::Unreadable => rest.is_unreadable = true,
                Token::Word(text) => match word::code(text) {
                    word::TEMP | word::TEMPORARY => rest.is_temporary = true,
                    word::HOLD => rest.holds = true,
                    word::STDIN => rest.from_client = true,
                    word::STDOUT => rest.to_client = true,
                    _ if text.eq_ignore_ascii_case(b"pg_temp") => rest.is_temporary = true,
                    _ => {}
                },
                _ => {}
            }
            scanner.advance();
        }
        rest
    }

    /// Where the end is not sure, something may follow that leaves anything behind.
    fn finish(&self, class: Class) -> Class {
        if self.is_unreadable {
            return Class {
                why: Why::Unreadable,
                ..class.with(Marks::SEVERAL)
            };
        }
        class
    }
}
