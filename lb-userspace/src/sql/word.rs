//! Words of SQL as numbers, so that telling keywords apart takes no comparison of strings.

/// A word of up to sixteen bytes in lower case as a number; longer words are [`LONG`].
pub(super) type Code = u128;

/// Not a keyword: no keyword that matters here is longer than sixteen bytes.
pub(super) const LONG: Code = 0;

/// The number of a word as it stands in the text.
pub(super) fn code(word: &[u8]) -> Code {
    let mut bytes = [0; 16];
    let Some(head) = bytes.get_mut(..word.len()) else {
        return LONG;
    };
    head.copy_from_slice(word);
    bytes.make_ascii_lowercase();
    u128::from_le_bytes(bytes)
}

/// The number of a keyword, which is written in lower case.
const fn keyword(word: &str) -> Code {
    let word = word.as_bytes();
    let mut bytes = [0; 16];
    let mut at = 0;
    while at < word.len() {
        bytes[at] = word[at];
        at += 1;
    }
    u128::from_le_bytes(bytes)
}

macro_rules! keywords {
    ($($name:ident)*) => {
        $(pub(super) const $name: Code = lower(stringify!($name));)*
    };
}

const fn lower(name: &str) -> Code {
    let upper = keyword(name).to_le_bytes();
    let mut bytes = [0; 16];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = upper[at].to_ascii_lowercase();
        at += 1;
    }
    u128::from_le_bytes(bytes)
}

keywords! {
    ABORT ALTER ANALYSE ANALYZE AS BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT
    COMMITTED CONSTRAINTS COPY CREATE DEALLOCATE DECLARE DELETE DISCARD DISTINCT DO DROP END
    EXCEPT EXECUTE EXTRACT FETCH FILTER FOR FROM GLOBAL GRANT GROUP HAVING HOLD IMPORT INSERT
    INTERSECT INTO IS JOIN LATERAL LEVEL LIMIT LISTEN LOAD LOCAL LOCK MATERIALIZED MERGE MOVE
    NOT NOTIFY OFFSET ONLY ORDER ORDINALITY OVER OVERLAY PREPARE PREPARED READ REASSIGN RECURSIVE REFRESH
    REINDEX RELEASE REPEATABLE RESET REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SERIALIZABLE
    SESSION SET SHOW START STDIN STDOUT SUBSTRING TABLE TEMP TEMPORARY TO TRANSACTION TRIM
    TRUNCATE UNCOMMITTED UNION UNLISTEN UPDATE VACUUM VALUES WHERE WINDOW WITH WITHIN WRITE
}

/// Words after which a parenthesis opens no call, and which PostgreSQL does not take as a function's
/// name unless quoted: those of its reserved words, and of the words that may only name a column,
/// that can stand before one.
pub(super) fn is_syntax(code: Code) -> bool {
    SYNTAX.contains(code)
}

/// Words that stand before a parenthesis in clauses, and could name a function as well: no call if
/// the catalog knows no such function.
pub(super) fn may_be_syntax(code: Code) -> bool {
    SOFT.contains(code)
}

/// A sorted set of words, made when the program is compiled.
struct Words<const N: usize>([Code; N]);

impl<const N: usize> Words<N> {
    const fn new(words: [&str; N]) -> Self {
        let mut codes = [0; N];
        let mut at = 0;
        while at < N {
            let code = keyword(words[at]);
            // Insertion sort: few words, once.
            let mut to = at;
            while to > 0 && codes[to - 1] > code {
                codes[to] = codes[to - 1];
                to -= 1;
            }
            codes[to] = code;
            at += 1;
        }
        Self(codes)
    }

    fn contains(&self, code: Code) -> bool {
        self.0.binary_search(&code).is_ok()
    }
}

static SYNTAX: Words<85> = Words::new([
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "between",
    "bigint",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "coalesce",
    "collate",
    "dec",
    "decimal",
    "default",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "from",
    "greatest",
    "group",
    "grouping",
    "having",
    "in",
    "int",
    "integer",
    "intersect",
    "interval",
    "lateral",
    "leading",
    "least",
    "limit",
    "national",
    "nchar",
    "none",
    "normalize",
    "not",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "overlay",
    "position",
    "precision",
    "real",
    "row",
    "select",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "then",
    "time",
    "timestamp",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "using",
    "values",
    "varchar",
    "variadic",
    "when",
    "where",
    "with",
]);

static SOFT: Words<29> = Words::new([
    "by",
    "concurrently",
    "cross",
    "cube",
    "escape",
    "first",
    "freeze",
    "full",
    "ilike",
    "inner",
    "is",
    "isnull",
    "join",
    "left",
    "like",
    "materialized",
    "natural",
    "next",
    "notnull",
    "operator",
    "outer",
    "overlaps",
    "passing",
    "right",
    "rollup",
    "sets",
    "similar",
    "to",
    "zone",
]);
