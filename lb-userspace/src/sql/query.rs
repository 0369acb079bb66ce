//! Reads a query (SELECT, WITH, VALUES, TABLE) and says whether it surely only reads.
//!
//! It follows parentheses and the few words that tell relations, calls and columns apart. Whatever it
//! does not understand it denies: [`Walk::deny`] is the only way from "read" to anything else, and
//! there is no way back.

mod level;
mod names;

use self::level::{In, Level, With};
use self::names::Pending;
use super::catalog::{Catalog, Function, Relation};
use super::class::{Class, Kind, Marks, Why};
use super::name::Name;
use super::scan::{Scanner, Token};
use super::word::{self, Code, LONG};

/// Parentheses within each other that are followed.
const DEPTH_MAX: usize = 64;

/// Reads one query up to its semicolon, or to the end.
pub(super) fn class(scanner: &mut Scanner<'_>, catalog: &Catalog) -> Class {
    let mut walk = Walk {
        scanner,
        catalog,
        levels: [Level::NEW; DEPTH_MAX],
        depth: 0,
        last: Last::Start,
        before: (LONG, LONG),
        denied: None,
        marks: Marks::NONE,
        pending: Pending::default(),
    };
    while let Some(token) = walk.scanner.peek() {
        if token == Token::Semicolon {
            break;
        }
        walk.scanner.advance();
        walk.step(token);
    }
    walk.verdict()
}

/// What stood before, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing yet.
    Start,
    Open,
    Close,
    /// `::`
    Cast,
    /// A word that is no name.
    Keyword,
    Other,
}

struct Walk<'w, 'a> {
    scanner: &'w mut Scanner<'a>,
    catalog: &'w Catalog,
    levels: [Level; DEPTH_MAX],
    /// Which of them is the innermost.
    depth: usize,
    last: Last,
    /// The two words before, the nearer first; [`LONG`] where something else stood.
    before: (Code, Code),
    denied: Option<Why>,
    marks: Marks,
    pending: Pending<'a>,
}

impl<'a> Walk<'_, 'a> {
    fn step(&mut self, token: Token<'a>) {
        if self.level().with != With::Not && self.with(token) {
            return;
        }
        match token {
            Token::Word(text) => self.word(text),
            Token::Quoted(_) => self.names(token, LONG),
            Token::Open => self.open(),
            Token::Close => self.close(),
            Token::Comma => {
                let level = self.level();
                level.expects_relation = level.is_from_list;
                level.is_behind_item = false;
                self.saw(Last::Other);
            }
            Token::Dot => self.attribute(),
            Token::Cast => self.saw(Last::Cast),
            Token::Operator(operator) => {
                if self.catalog.hides_operator(operator) {
                    self.deny(Why::Hidden);
                }
                self.saw(Last::Other);
            }
            Token::Unreadable => self.deny(Why::Unreadable),
            Token::Text(_) | Token::Number(_) | Token::Parameter | Token::Bracket => {
                self.saw(Last::Other);
            }
            Token::Semicolon => {}
        }
    }

    fn word(&mut self, text: &'a [u8]) {
        let code = word::code(text);
        let begins = matches!(self.last, Last::Start | Last::Open);
        let begins_query =
            begins && matches!(code, word::SELECT | word::VALUES | word::TABLE | word::WITH);
        let is_before_name = matches!(code, word::ONLY | word::LATERAL);
        if self.level().expects_relation && !begins_query && !is_before_name {
            return self.names(Token::Word(text), code);
        }
        let is_call = self.level().within == In::Call;
        match code {
            word::SELECT => self.level().begin_query(),
            word::VALUES if begins => self.level().begin_query(),
            word::TABLE => {
                self.level().begin_query();
                self.level().expects_relation = true;
            }
            word::WITH if begins => {
                self.level().begin_query();
                self.level().with = With::Name;
            }
            word::FROM if !is_call && !self.is_distinct_from() => self.level().begin_from(),
            word::JOIN => self.level().begin_from(),
            word::WHERE
            | word::GROUP
            | word::HAVING
            | word::WINDOW
            | word::ORDER
            | word::LIMIT
            | word::OFFSET
            | word::FETCH
            | word::UNION
            | word::INTERSECT
            | word::EXCEPT => self.level().end_from(),
            word::FOR if !is_call => self.deny(Why::Locks),
            word::INTO => self.into(),
            word::INSERT | word::UPDATE | word::DELETE | word::MERGE
                if begins || self.last == Last::Close =>
            {
                self.deny(Why::Modifies);
            }
            word::AS | word::ONLY | word::LATERAL => {}
            _ => return self.names(Token::Word(text), code),
        }
        self.saw_keyword(code);
    }

    /// `IS DISTINCT FROM`; but `SELECT DISTINCT FROM t` is a query of no columns.
    fn is_distinct_from(&self) -> bool {
        let (last, before_it) = self.before;
        last == word::DISTINCT && matches!(before_it, word::IS | word::NOT)
    }

    /// SELECT INTO makes a table, and perhaps one of the session.
    fn into(&mut self) {
        self.deny(Why::Into);
        if self.denied == Some(Why::Modifies) {
            return;
        }
        self.marks |= Marks::SCHEMA;
        if let Some(Token::Word(next)) = self.scanner.peek()
            && matches!(
                word::code(next),
                word::TEMP | word::TEMPORARY | word::LOCAL | word::GLOBAL
            )
        {
            self.marks |= Marks::SESSION;
        }
    }

    /// A name, with what belongs to it: `a`, `a.b.c`, `a.*`, and whether it is called.
    fn names(&mut self, first: Token<'a>, code: Code) {
        let mut schema = None;
        let mut name = first;
        while self.scanner.peek() == Some(Token::Dot) {
            self.scanner.advance();
            let Some(next @ (Token::Word(_) | Token::Quoted(_))) = self.scanner.peek() else {
                break;
            };
            self.scanner.advance();
            self.hidden_attribute(next);
            (schema, name) = (Some(name), next);
        }
        let code = if schema.is_some() { LONG } else { code };
        let is_called = self.scanner.peek() == Some(Token::Open);
        if is_called {
            return self.call(schema, name, code);
        }
        if self.level().expects_relation {
            self.relation(schema, name);
        } else {
            let is_still_item = matches!(code, word::WITH | word::ORDINALITY);
            self.level().is_behind_item &= is_still_item;
            self.hidden_type(schema, name);
        }
        self.saw_keyword(code);
    }

    /// A name before a parenthesis: a call, or one of the things that look like it.
    fn call(&mut self, schema: Option<Token<'a>>, name: Token<'a>, code: Code) {
        let level = self.level();
        let is_alias = level.is_behind_item;
        let is_relation = level.expects_relation;
        level.expects_relation = false;
        level.is_behind_item = is_relation;
        let is_type = self.last == Last::Cast || self.before.0 == word::AS;
        let is_clause =
            self.last == Last::Close && matches!(code, word::OVER | word::FILTER | word::WITHIN);
        let within = if code != LONG && word::is_syntax(code) {
            match code {
                word::EXTRACT | word::SUBSTRING | word::TRIM | word::OVERLAY => In::Call,
                _ => In::Other,
            }
        } else if is_alias || is_type || is_clause {
            self.hidden_type(schema, name);
            In::Other
        } else {
            self.called(schema, name, code)
        };
        self.scanner.advance();
        self.push(Level::within(within));
    }

    fn called(&mut self, schema: Option<Token<'a>>, name: Token<'a>, code: Code) -> In {
        let Some(name) = names::full(schema, name) else {
            self.deny(Why::TooComplex);
            return In::Call;
        };
        match self.catalog.function(&name) {
            Function::Clean => {}
            Function::Volatile => self.deny(Why::Volatile),
            Function::Local => self.deny(Why::Local),
            Function::Session => {
                self.deny(Why::Volatile);
                self.marks |= Marks::SESSION;
            }
            Function::Hidden => self.deny(Why::Hidden),
            Function::Unknown if code != LONG && word::may_be_syntax(code) => return In::Other,
            Function::Unknown => self.deny(Why::UnknownFunction),
        }
        In::Call
    }

    fn relation(&mut self, schema: Option<Token<'a>>, name: Token<'a>) {
        let level = self.level();
        level.expects_relation = false;
        level.is_behind_item = level.is_from_list;
        let Some(full) = names::full(schema, name) else {
            return self.deny(Why::TooComplex);
        };
        match self.catalog.relation(&full) {
            Relation::Clean => {}
            Relation::Hidden => self.deny(Why::HiddenInRelation),
            // It may be a query of WITH.
            Relation::Unknown if schema.is_none() => {
                if !self.pending.wants(name) {
                    self.deny(Why::TooComplex);
                }
            }
            Relation::Unknown => self.deny(Why::UnknownRelation),
        }
    }

    /// What stands behind a dot that follows a parenthesis or a subscript.
    fn attribute(&mut self) {
        while let Some(next @ (Token::Word(_) | Token::Quoted(_))) = self.scanner.peek() {
            self.scanner.advance();
            self.hidden_attribute(next);
            if self.scanner.peek() != Some(Token::Dot) {
                break;
            }
            self.scanner.advance();
        }
        if self.scanner.peek() == Some(Token::Open) {
            self.deny(Why::UnknownFunction);
        }
        self.saw(Last::Other);
    }

    /// `row.f` calls `f(row)` if there is no such column.
    fn hidden_attribute(&mut self, token: Token<'a>) {
        if self.catalog.hides_names()
            && !Name::of(token).is_some_and(|name| self.catalog.is_plain_attribute(&name))
        {
            self.deny(Why::Hidden);
        }
    }

    /// Any name may be that of a type.
    fn hidden_type(&mut self, schema: Option<Token<'a>>, name: Token<'a>) {
        let tokens = [schema, Some(name)].into_iter().flatten();
        for token in tokens {
            if self.catalog.hides_names()
                && !Name::of(token).is_some_and(|name| self.catalog.is_plain_type(&name))
            {
                self.deny(Why::Hidden);
            }
        }
    }

    fn open(&mut self) {
        let level = self.level();
        let inner = if level.expects_relation {
            level.expects_relation = false;
            level.is_behind_item = true;
            Level::FROM_GROUP
        } else {
            Level::within(In::Other)
        };
        self.push(inner);
    }

    fn push(&mut self, level: Level) {
        self.saw(Last::Open);
        if self.depth + 1 == DEPTH_MAX {
            // The levels are no longer told apart; what is denied stays denied.
            return self.deny(Why::TooComplex);
        }
        self.depth += 1;
        self.levels[self.depth] = level;
    }

    fn close(&mut self) {
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => self.deny(Why::Unreadable),
        }
        self.saw(Last::Close);
    }

    /// A token of the list of WITH; false if the list is over, and the token belongs to what follows.
    fn with(&mut self, token: Token<'a>) -> bool {
        let code = match token {
            Token::Word(text) => word::code(text),
            _ => LONG,
        };
        let next = match (self.level().with, token) {
            (With::Name, Token::Word(_)) if code == word::RECURSIVE => With::Name,
            (With::Name, Token::Word(_) | Token::Quoted(_)) => {
                if !self.pending.defines(token) {
                    self.deny(Why::TooComplex);
                }
                With::Columns
            }
            (With::Columns, Token::Open) => {
                self.level().with = With::As;
                self.push(Level::within(In::Other));
                return true;
            }
            (With::Columns | With::As, Token::Word(_)) if code == word::AS => With::Body,
            (With::Body, Token::Word(_)) if matches!(code, word::NOT | word::MATERIALIZED) => {
                With::Body
            }
            (With::Body, Token::Open) => {
                self.level().with = With::Behind;
                self.push(Level::within(In::Other));
                return true;
            }
            (With::Behind, Token::Comma) => With::Name,
            (With::Behind, Token::Open) => {
                self.level().with = With::Not;
                return false;
            }
            (With::Behind, Token::Word(_))
                if matches!(
                    code,
                    word::SELECT
                        | word::VALUES
                        | word::TABLE
                        | word::INSERT
                        | word::UPDATE
                        | word::DELETE
                        | word::MERGE
                ) =>
            {
                self.level().with = With::Not;
                return false;
            }
            // SEARCH, CYCLE, or nothing that is valid.
            _ => {
                self.deny(Why::TooComplex);
                self.level().with = With::Not;
                return false;
            }
        };
        self.level().with = next;
        self.saw_keyword(code);
        true
    }

    fn level(&mut self) -> &mut Level {
        &mut self.levels[self.depth]
    }

    fn saw(&mut self, last: Last) {
        self.last = last;
        self.before = (LONG, self.before.0);
    }

    fn saw_keyword(&mut self, code: Code) {
        self.last = Last::Keyword;
        self.before = (code, self.before.0);
    }

    fn deny(&mut self, why: Why) {
        // What surely writes counts more than what may; what cannot be read, more than all.
        let weight = |why| match why {
            Why::Unreadable => 3,
            Why::Locks | Why::Into | Why::Modifies => 2,
            _ => 1,
        };
        if self
            .denied
            .is_none_or(|denied| weight(denied) < weight(why))
        {
            self.denied = Some(why);
        }
    }

    fn verdict(mut self) -> Class {
        if self.depth > 0 {
            self.deny(Why::Unreadable);
        }
        if !self.pending.are_defined() {
            self.deny(Why::UnknownRelation);
        }
        let class = match self.denied {
            None => Class::of(Kind::Read),
            Some(why @ (Why::Locks | Why::Into | Why::Modifies)) => Class {
                kind: Kind::Write,
                marks: Marks::NONE,
                why,
            },
            Some(why) => Class::unknown(why),
        };
        class.with(self.marks)
    }
}
