use super::*;

mod reads;
mod rest;

/// What a catalog of a server would say: a few functions of PostgreSQL's, and a schema of somebody's.
pub(super) fn catalog() -> Catalog {
    let function = |name, flags| row("function", "pg_catalog", name, flags, None);
    let made = |name, flags| row("function", "public", name, flags, None);
    let table = |name| row("relation", "public", name, "", None);
    let view = |name, query| row("relation", "public", name, "w", Some(query));
    let rows = [
        function("lower", ""),
        function("count", ""),
        function("left", ""),
        function("like", ""),
        function("now", ""),
        function("unnest", ""),
        function("generate_series", ""),
        function("pg_is_in_recovery", "v"),
        function("current_setting", ""),
        function("random", "v"),
        function("nextval", "v"),
        function("set_config", "v"),
        function("pg_advisory_lock", "v"),
        function("pg_advisory_xact_lock", "v"),
        row("function", "a", "shared", "m", None),
        row("function", "b", "shared", "mv", None),
        made("writes", "mv"),
        made("leaves", "mvs"),
        made("full_name", "mva"),
        row("function", "public", "stamped", "m", Some("now()")),
        row("function", "public", "counted", "m", Some("nextval('s')")),
        table("t"),
        table("u"),
        table("pgbench_accounts"),
        row("relation", "public", "Mixed\"Case", "", None),
        row("relation", "public", "foreign_table", "h", None),
        row(
            "relation",
            "public",
            "guarded",
            "p",
            Some("SELECT (owner = lower('x'))"),
        ),
        row(
            "relation",
            "public",
            "odd_guard",
            "p",
            Some("SELECT (writes() = 1)"),
        ),
        view("v_of_v", "SELECT id FROM public.v;"),
        view("v", "SELECT lower(name) AS id FROM public.t;"),
        view("v_random", "SELECT random() FROM t;"),
        view("v_of_random", "SELECT 1 FROM v_random;"),
        row("type", "public", "odd_type", "", None),
        row("operator", "", "###", "", None),
    ];
    Catalog::load(rows).expect("the rows are as load.sql returns them")
}

fn row(
    kind: &'static str,
    schema: &'static str,
    name: &'static str,
    flags: &'static str,
    definition: Option<&'static str>,
) -> Row<'static> {
    Row {
        kind: kind.as_bytes(),
        schema: schema.as_bytes(),
        name: name.as_bytes(),
        flags: flags.as_bytes(),
        definition: definition.map(str::as_bytes),
    }
}

pub(super) fn class(sql: &str) -> Class {
    classify(sql.as_bytes(), &catalog())
}
