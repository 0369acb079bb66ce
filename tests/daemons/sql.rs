//! What `lb` calls reads, against what PostgreSQL says of the same statements: its grammar and its own
//! analysis (tests/clients/sql_oracle.py), and a standby that is asked to run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_tests::clients;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;
use lb_userspace::sql::{Catalog, Class, LOAD, Row, VERSION, classify};

const ORACLE_MAX: Duration = Duration::from_secs(120);
const REPLAY_MAX: Duration = Duration::from_secs(10);
/// Between statements in files, and between columns: in no statement of the corpus.
const END: &str = "\u{1e}";

/// A line of the corpus.
struct Statement {
    kind: String,
    why: String,
    sql: String,
}

#[test]
fn reads_are_reads_to_postgresql_too() -> Result<()> {
    let run = RunDirectory::new()?;
    let primary = Postgres::start_new(&run, "sql", "")?;
    primary.sql(&fs::read_to_string(corpus("schema.sql"))?)?;
    let catalog = catalog(&primary)?;
    let statements = statements()?;
    ensure!(statements.len() >= 500, "{} statements", statements.len());

    let class = |sql: &str| classify(sql.as_bytes(), &catalog);
    let wrong: Vec<String> = statements
        .iter()
        .filter(|statement| name(&class(&statement.sql)) != statement.kind)
        .map(|Statement { kind, why, sql }| format!("{sql}: not {kind} ({why}): {:?}", class(sql)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let queries: Vec<&str> = statements.iter().map(|one| one.sql.as_str()).collect();
    let verdicts = oracle(&run, &primary, &queries)?;
    let (mut both, mut oracles, mut skipped) = (0, 0, 0);
    for (sql, verdict) in queries.iter().zip(&verdicts) {
        let is_read = class(sql).is_read();
        assert!(!is_read || !verdict.starts_with("not"), "{sql}: {verdict}");
        skipped += u32::from(is_read && verdict.starts_with("skipped"));
        oracles += u32::from(verdict == "read");
        both += u32::from(is_read && verdict == "read");
    }
    println!("{both} of PostgreSQL's {oracles} reads are called reads; {skipped} not analysed");
    assert!(
        both > 150 && skipped < 10,
        "{both} reads, {skipped} skipped"
    );

    let standby = primary.standby(&run, "sql-standby")?;
    let end = primary.sql("SELECT pg_current_wal_lsn()")?;
    let has_replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", end.trim());
    wait::until("the standby has replayed everything", REPLAY_MAX, || {
        standby
            .sql(&has_replayed)
            .is_ok_and(|has| has.trim() == "t")
    })?;
    for sql in queries.iter().filter(|sql| class(sql).is_read()) {
        // Nobody gives values here.
        if !sql.contains("$1") && !sql.contains("$2") {
            standby.sql(sql)?;
        }
    }
    Ok(())
}

#[test]
fn catalog_follows_the_schema() -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "sql-catalog", "")?;
    server.sql("CREATE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'")?;
    server.sql("CREATE VIEW v AS SELECT 1 AS one")?;
    let is_read =
        |sql: &str| Ok::<_, anyhow::Error>(classify(sql.as_bytes(), &catalog(&server)?).is_read());
    assert!(is_read("SELECT f() FROM v")?);
    for (change, sql) in [
        ("ALTER FUNCTION f() VOLATILE", "SELECT f()"),
        (
            "CREATE OR REPLACE VIEW v AS SELECT 1 AS one FROM (SELECT random()) x",
            "SELECT * FROM v",
        ),
        (
            "CREATE SCHEMA s; CREATE VIEW s.pg_class AS SELECT random()",
            "SELECT * FROM pg_class",
        ),
    ] {
        assert!(is_read(sql)? || sql.contains("f()"), "{sql} before");
        let before = server.sql(VERSION)?;
        server.sql(change)?;
        assert_ne!(server.sql(VERSION)?, before, "{change}");
        assert!(!is_read(sql)?, "{sql} after {change}");
    }
    Ok(())
}

/// Printed, not asserted: how long a look takes.
#[test]
fn looks_are_timed() -> Result<()> {
    const LOOKS: u32 = 20_000;
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "sql-timing", "")?;
    server.sql("CREATE TABLE pgbench_accounts (aid int, bid int, abalance int, filler text)")?;
    let catalog = catalog(&server)?;
    for sql in [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4242;",
        "UPDATE pgbench_accounts SET abalance = abalance + 5 WHERE aid = 12;",
        "BEGIN;",
    ] {
        let began = Instant::now();
        for _ in 0..LOOKS {
            std::hint::black_box(classify(std::hint::black_box(sql.as_bytes()), &catalog));
        }
        println!("{:?} for {sql}", began.elapsed() / LOOKS);
    }
    assert!(classify(b"SELECT abalance FROM pgbench_accounts", &catalog).is_read());
    Ok(())
}

fn corpus(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("daemons/sql")
        .join(file)
}

fn statements() -> Result<Vec<Statement>> {
    let text = fs::read_to_string(corpus("statements.tsv"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.splitn(3, '\t').map(str::to_owned);
            match (columns.next(), columns.next(), columns.next()) {
                (Some(kind), Some(why), Some(sql)) => Ok(Statement { kind, why, sql }),
                _ => bail!("no line of the corpus: {line}"),
            }
        })
        .collect()
}

/// The kind as the corpus writes it.
fn name(class: &Class) -> String {
    let name = format!("{:?}", class.kind).to_ascii_lowercase();
    name.split(' ').next().unwrap_or_default().to_owned()
}

/// Asks a server as the listener would; in hexadecimal, since psql's output has separators.
fn catalog(server: &Postgres) -> Result<Catalog> {
    let load = LOAD.trim_end().trim_end_matches(';');
    let rows = server.sql(&format!(
        "SELECT encode(convert_to(concat_ws(E'\\x1e', kind, schema, name, flags, definition), 'UTF8'), 'hex')
         FROM ({load}\n) AS loaded"
    ))?;
    let rows: Vec<Vec<u8>> = rows.lines().map(unhex).collect::<Result<_>>()?;
    let rows = rows.iter().map(|row| {
        let mut columns = row.split(|byte| *byte == END.as_bytes()[0]);
        let mut next = || columns.next().unwrap_or_default();
        Row {
            kind: next(),
            schema: next(),
            name: next(),
            flags: next(),
            definition: columns.next(),
        }
    });
    Ok(Catalog::load(rows)?)
}

fn unhex(line: &str) -> Result<Vec<u8>> {
    let digits = line.trim().as_bytes();
    let pair = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair)?;
        u8::from_str_radix(pair, 16).with_context(|| format!("{pair} is no byte"))
    };
    digits.chunks(2).map(pair).collect()
}

/// One verdict for each statement.
fn oracle(run: &RunDirectory, server: &Postgres, statements: &[&str]) -> Result<Vec<String>> {
    let file = run.join("statements");
    fs::write(&file, statements.join(END))?;
    let mut command = clients::script("sql_oracle.py")?;
    command.arg(format!(
        "host={} port={} user=postgres dbname=postgres",
        server.socket_directory().display(),
        server.port()
    ));
    command.arg(&file);
    let said = clients::run(run, &mut command, ORACLE_MAX)?;
    let verdicts: Vec<String> = said.lines().map(str::to_owned).collect();
    ensure!(
        verdicts.len() == statements.len(),
        "{} verdicts of {} statements",
        verdicts.len(),
        statements.len()
    );
    Ok(verdicts)
}
