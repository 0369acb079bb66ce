//! Transactions, sessions, shards, and the cache.

use std::borrow::Cow;

use super::super::*;
use super::{catalog, class};

#[test]
fn transactions_are_told_apart() {
    let begin = |access, isolation| Kind::Begin { access, isolation };
    for (sql, kind) in [
        ("BEGIN", begin(Access::Default, Isolation::Default)),
        (
            "begin work isolation level repeatable read, read only",
            begin(Access::ReadOnly, Isolation::RepeatableRead),
        ),
        (
            "START TRANSACTION READ WRITE, ISOLATION LEVEL SERIALIZABLE, DEFERRABLE",
            begin(Access::ReadWrite, Isolation::Serializable),
        ),
        (
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            begin(Access::ReadOnly, Isolation::ReadCommitted),
        ),
        ("COMMIT", Kind::Commit),
        ("END TRANSACTION", Kind::Commit),
        ("COMMIT AND CHAIN", Kind::Commit),
        ("PREPARE TRANSACTION 'x'", Kind::Commit),
        ("COMMIT PREPARED 'x'", Kind::Write),
        ("ROLLBACK PREPARED 'x'", Kind::Write),
        ("ROLLBACK", Kind::Rollback),
        ("ABORT", Kind::Rollback),
        ("ROLLBACK TO SAVEPOINT a", Kind::Savepoint),
        ("ROLLBACK WORK TO a", Kind::Savepoint),
        ("SAVEPOINT a", Kind::Savepoint),
        ("RELEASE a", Kind::Savepoint),
    ] {
        assert_eq!(class(sql).kind, kind, "{sql}");
    }
}

#[test]
fn what_a_session_keeps_is_marked() {
    for (sql, kind, marks) in [
        ("SET a = 1", Kind::Set, Marks::NONE),
        ("SET LOCAL a = 1", Kind::Set, Marks::TRANSACTION),
        ("RESET a", Kind::Reset, Marks::NONE),
        ("DISCARD ALL", Kind::Discard, Marks::NONE),
        ("SHOW a", Kind::Show, Marks::NONE),
        ("PREPARE p AS SELECT 1", Kind::Prepare, Marks::SESSION),
        ("EXECUTE p(1)", Kind::Execute, Marks::NONE),
        ("DEALLOCATE p", Kind::Deallocate, Marks::NONE),
        ("DECLARE c CURSOR FOR SELECT 1", Kind::Cursor, Marks::NONE),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            Kind::Cursor,
            Marks::SESSION,
        ),
        ("LISTEN x", Kind::Listen, Marks::SESSION),
        ("NOTIFY x", Kind::Write, Marks::NONE),
        ("COPY t FROM STDIN", Kind::CopyIn, Marks::NONE),
        ("COPY (SELECT 1) TO STDOUT", Kind::CopyOut, Marks::NONE),
        ("COPY t TO PROGRAM 'x'", Kind::Write, Marks::NONE),
        ("CALL p()", Kind::Call, Marks::SESSION | Marks::SCHEMA),
        (
            "DO $$ BEGIN END $$",
            Kind::Call,
            Marks::SESSION | Marks::SCHEMA,
        ),
        (
            "CREATE TEMP TABLE x (a int)",
            Kind::Write,
            Marks::SESSION | Marks::SCHEMA,
        ),
        ("CREATE TABLE x (a int)", Kind::Write, Marks::SCHEMA),
        (
            "SELECT 1 INTO TEMP x",
            Kind::Write,
            Marks::SESSION | Marks::SCHEMA,
        ),
        (
            "SELECT set_config('a', 'b', false)",
            Kind::Unknown,
            Marks::SESSION,
        ),
        (
            "SELECT random(), pg_advisory_lock(1)",
            Kind::Unknown,
            Marks::SESSION,
        ),
        (
            "SELECT pg_advisory_xact_lock(1)",
            Kind::Unknown,
            Marks::NONE,
        ),
        ("SELECT leaves()", Kind::Unknown, Marks::SESSION),
        ("SELECT writes()", Kind::Unknown, Marks::NONE),
        ("EXPLAIN ANALYZE SELECT 1", Kind::Unknown, Marks::NONE),
        ("INSERT INTO t VALUES (1)", Kind::Write, Marks::NONE),
        ("nonsense", Kind::Unknown, Marks::NONE),
    ] {
        let class = class(sql);
        assert_eq!((class.kind, class.marks), (kind, marks), "{sql}");
    }
}

#[test]
fn shards_are_named_by_comments_and_settings() {
    let session = |key: &'static str| Some(ShardKey::Session(Cow::Borrowed(key.as_bytes())));
    for (sql, expected) in [
        ("SELECT 1", None),
        (
            "/* lb.shard_key=42 */ SELECT 1",
            Some(ShardKey::Query(b"42")),
        ),
        (
            "SELECT 1 /* a='b', lb.shard_key = 'x y' , c */",
            Some(ShardKey::Query(b"x y")),
        ),
        ("SELECT '/* lb.shard_key=42 */'", None),
        ("/* lb.shard_key= */ SELECT 1", None),
        ("SET lb.shard_key = '7'", session("7")),
        ("SET \"lb\".\"shard_key\" TO '7'", session("7")),
        ("set session LB.Shard_Key to 7;", session("7")),
        ("SET lb.shard_key TO 'it''s'", session("it's")),
        ("SET lb.shard_key TO DEFAULT", Some(ShardKey::Unset)),
        ("RESET lb.shard_key", Some(ShardKey::Unset)),
        ("SET lb.shard_key = '7'; DELETE FROM t", None),
        ("SET LOCAL lb.shard_key = '7'", None),
    ] {
        assert_eq!(shard_key(sql.as_bytes()), expected, "{sql}");
    }
}

#[test]
fn cache_answers_as_without_it_and_stays_bounded() {
    let catalog = catalog();
    let mut cache = Cache::default();
    let long = |n: u32| {
        format!(
            "SELECT {} FROM t WHERE id = {n}",
            "abc, ".repeat(40) + "abc"
        )
    };
    for n in (0..50).chain(0..50) {
        assert!(cache.classify(long(n).as_bytes(), &catalog).is_read());
    }
    // A few share a slot.
    assert_eq!(cache.hits() + cache.misses(), 100);
    assert!(cache.hits() > 35, "{} hits", cache.hits());
    // Another catalog knows other things.
    assert!(
        !cache
            .classify(long(1).as_bytes(), &Catalog::empty())
            .is_read()
    );
    for n in 0..2_000 {
        let text = format!("SELECT '{n}{}'", "x".repeat(10_000));
        assert!(cache.classify(text.as_bytes(), &catalog).is_read());
        assert!(cache.bytes() <= CACHE_BYTES_MAX);
    }
}

#[test]
fn text_of_some_encodings_is_not_read() {
    assert!(is_readable("UTF8") && is_readable("LATIN1") && is_readable("SQL_ASCII"));
    assert!(!is_readable("SJIS") && !is_readable("gb18030"));
}
