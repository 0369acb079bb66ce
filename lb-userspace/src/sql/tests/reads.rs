//! What is a read, and what only looks like one.

use super::super::*;
use super::{catalog, class};

#[test]
fn reads_are_reads() {
    let catalog = catalog();
    for sql in [
        "SELECT 1",
        "select abalance from pgbench_accounts where aid = 42;",
        "SELECT t.*, u.a FROM t JOIN public.u ON t.id = u.id, t AS x (a, b) WHERE x.a IN (1, 2)",
        "SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b), left(a, 1) FROM t",
        "WITH x AS (SELECT * FROM t), y (a) AS MATERIALIZED (SELECT 1) SELECT * FROM x, y",
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n",
        "VALUES (1, 'a'), (2, 'b')",
        "TABLE t",
        "((SELECT 1) UNION (TABLE t)) ORDER BY 1",
        "SELECT EXTRACT(year FROM a), substring(b FROM 1 FOR 2), TRIM(BOTH 'x' FROM c) FROM t",
        "SELECT a IS NOT DISTINCT FROM b FROM t",
        "SELECT a::numeric(10, 2), CAST(b AS varchar(3)), date '2020-01-01' FROM t",
        "SELECT * FROM generate_series(1, 3) AS g (a), LATERAL (SELECT g.a) s, unnest(ARRAY[1]) WITH ORDINALITY q(x, y)",
        "SELECT * FROM (t JOIN u USING (id)) AS j, ONLY (t)",
        "SELECT a FROM v_of_v WHERE lower(b) LIKE ('x') AND EXISTS (SELECT FROM u)",
        "SELECT 'nextval(''s'')', E'it\\'s random()', $$writes()$$, $a$ $$ writes() $a$, U&'\\0041'",
        "SELECT 1 /* nested /* FOR UPDATE */ nextval('s') */ -- writes()\n",
        "SELECT \"a\"\"b\" FROM \"Mixed\"\"Case\"",
        "SELECT a.shared(1), stamped() FROM guarded",
        "SELECT 1; ; SELECT 2;",
        "SELECT now(), current_user, CURRENT_TIMESTAMP",
        "SELECT DISTINCT ON (a) lower(a) FROM t GROUP BY ROLLUP (a), b LIMIT (1) OFFSET 2",
        "SELECT CASE WHEN (a) THEN (b) ELSE (c) END FROM t FETCH FIRST (3) ROWS ONLY",
    ] {
        let class = classify(sql.as_bytes(), &catalog);
        assert_eq!((class.kind, class.why), (Kind::Read, Why::Plain), "{sql}");
        assert!(class.is_read() && !class.may_write(), "{sql}");
    }
}

#[test]
fn everything_else_has_a_reason() {
    for (sql, why) in [
        ("SELECT * FROM t FOR UPDATE", Why::Locks),
        (
            "SELECT * FROM (SELECT * FROM t FOR KEY SHARE) x",
            Why::Locks,
        ),
        ("SELECT * INTO n FROM t", Why::Into),
        (
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            Why::Modifies,
        ),
        (
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
            Why::Modifies,
        ),
        (
            "WITH x AS (SELECT 1) (WITH y AS (UPDATE t SET a = 1 RETURNING a) SELECT 1)",
            Why::Modifies,
        ),
        ("SELECT random()", Why::Volatile),
        ("SELECT \"nextval\"('s')", Why::Volatile),
        ("SELECT NextVal ('s')", Why::Volatile),
        ("SELECT DISTINCT ON (a) writes(a) FROM t", Why::Volatile),
        ("SELECT pg_catalog . random ( )", Why::Volatile),
        ("SELECT shared(1)", Why::Volatile),
        ("SELECT b.shared(1)", Why::Volatile),
        ("SELECT * FROM writes() AS x (a, b)", Why::Volatile),
        ("SELECT * FROM t x (a, b), writes(1)", Why::Volatile),
        ("SELECT * FROM t, LATERAL writes(1) AS x", Why::Volatile),
        ("SELECT random/**/()", Why::Volatile),
        ("SELECT random--\n()", Why::Volatile),
        ("SELECT 1+random()", Why::Volatile),
        ("SELECT EXTRACT(year FROM writes())", Why::Volatile),
        (
            "SELECT * FROM t WHERE id = (SELECT writes())",
            Why::Volatile,
        ),
        ("SELECT pg_is_in_recovery()", Why::Local),
        ("SELECT current_setting('in_hot_standby')", Why::Local),
        ("SELECT no_such_function(1)", Why::UnknownFunction),
        ("SELECT \"filter\"(1)", Why::UnknownFunction),
        ("SELECT * FROM missing", Why::UnknownRelation),
        ("SELECT * FROM other.t", Why::UnknownRelation),
        ("SELECT (SELECT 1 FROM x) FROM t", Why::UnknownRelation),
        ("SELECT DISTINCT FROM missing", Why::UnknownRelation),
        ("SELECT * FROM t CROSS JOIN missing", Why::UnknownRelation),
        (
            "SELECT * FROM t NATURAL JOIN (u JOIN missing ON true)",
            Why::UnknownRelation,
        ),
        ("SELECT ARRAY(TABLE missing)", Why::UnknownRelation),
        (
            "SELECT * FROM t, u, missing WHERE a = 1",
            Why::UnknownRelation,
        ),
        ("SELECT * FROM mixed", Why::UnknownRelation),
        (
            "WITH x AS (SELECT 1) SELECT * FROM public.x",
            Why::UnknownRelation,
        ),
        ("SELECT * FROM foreign_table", Why::HiddenInRelation),
        ("SELECT * FROM v_of_random", Why::HiddenInRelation),
        ("SELECT * FROM odd_guard", Why::HiddenInRelation),
        (
            "WITH foreign_table AS (SELECT 1) SELECT * FROM foreign_table",
            Why::HiddenInRelation,
        ),
        ("SELECT counted()", Why::Hidden),
        ("SELECT 'x'::odd_type", Why::Hidden),
        ("SELECT odd_type 'x'", Why::Hidden),
        ("SELECT t.full_name FROM t", Why::Hidden),
        ("SELECT (t).full_name FROM t", Why::Hidden),
        ("SELECT a ### b FROM t", Why::Hidden),
        ("SELECT a -### b FROM t", Why::Hidden),
        ("SELECT U&\"\\0072andom\"()", Why::Unreadable),
        ("SELECT 'a\\' , writes() --'", Why::Unreadable),
        ("SELECT 'never ends", Why::Unreadable),
        ("SELECT /* never ends /* */", Why::Unreadable),
        ("SELECT $a$ never ends $b$", Why::Unreadable),
        ("SELECT (1", Why::Unreadable),
        ("SELECT 1)", Why::Unreadable),
        ("SELECT 1from t", Why::Unreadable),
    ] {
        let class = class(sql);
        assert!(!class.is_read(), "{sql}");
        assert_eq!(class.why, why, "{sql}: {class:?}");
    }
}

#[test]
fn one_statement_that_is_no_read_makes_the_query_none() {
    for (sql, kind, marks) in [
        ("SELECT 1; SELECT random()", Kind::Unknown, Marks::SEVERAL),
        ("SELECT 1; DELETE FROM t", Kind::Write, Marks::SEVERAL),
        ("SET a = 1; SELECT 1", Kind::Unknown, Marks::SEVERAL),
        (
            "BEGIN; SELECT 1",
            Kind::Unknown,
            Marks::SEVERAL | Marks::TRANSACTION,
        ),
        (
            "BEGIN; COMMIT",
            Kind::Unknown,
            Marks::SEVERAL | Marks::TRANSACTION,
        ),
        (";; SELECT 1 ;", Kind::Read, Marks::NONE),
        ("", Kind::Empty, Marks::NONE),
        (" -- nothing\n ; ", Kind::Empty, Marks::NONE),
    ] {
        let class = class(sql);
        assert_eq!((class.kind, class.marks), (kind, marks), "{sql}");
    }
}

#[test]
fn without_a_catalog_only_constants_are_read() {
    let empty = Catalog::empty();
    assert!(classify(b"SELECT 1 + 2, 'x'", &empty).is_read());
    assert!(classify(b"SELECT lower('X')", &empty).lacks_names());
    assert!(classify(b"SELECT * FROM t", &empty).lacks_names());
}

#[test]
fn nesting_has_an_end() {
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(!class(&deep).is_read());
    let fine = format!("SELECT {}1{}", "(".repeat(60), ")".repeat(60));
    assert!(class(&fine).is_read());
}

#[test]
fn nothing_panics_on_any_text() {
    let catalog = catalog();
    let alphabet = b"'\"$\\();,.:=-/*[]eEuU&ax1_ \n\xffselect from with as for update t ";
    let mut random = 1_u64;
    for _ in 0..20_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let length = (random >> 33) as usize % 40;
        let mut bits = random;
        let text: Vec<u8> = std::iter::repeat_with(|| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
            alphabet[(bits >> 33) as usize % alphabet.len()]
        })
        .take(length)
        .collect();
        let _ = classify(&text, &catalog);
        let _ = shard_key(&text);
    }
}
