//! Programs of PostgreSQL's package do their ordinary work through the proxy.

use anyhow::Result;

use crate::setup::{Site, printed};

#[test]
fn psql_describes_and_copies() -> Result<()> {
    let site = Site::new("pool = { size = 1 }")?;
    site.psql("CREATE TABLE t (a int PRIMARY KEY, b text)")?;
    let mut psql = site.proxy.client("psql")?;
    let script = "\\copy t from program 'printf \"1,one\\n2,two\\n\"' csv\n\\d t\n\\copy t to stdout csv\nSELECT * FROM t \\gdesc\n";
    let path = site.run.join("script.sql");
    std::fs::write(&path, script)?;
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&path);
    let text = printed(&mut psql)?;
    for line in ["1,one", "2,two", "a|integer", "b|text"] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn pgbench_works_in_its_three_protocols() -> Result<()> {
    let site = Site::new("pool = { size = 4 }")?;
    let mut init = site.proxy.client("pgbench")?;
    init.args(["-i", "-s", "1", "-q"]);
    printed(&mut init)?;
    // pgbench prepares its statements while other clients of the same thread wait for it: each
    // client needs a thread of its own where there are fewer servers than clients.
    for protocol in ["simple", "extended", "prepared"] {
        for workload in ["select-only", "tpcb-like"] {
            let mut bench = site.proxy.client("pgbench")?;
            bench.args([
                "-n", "-M", protocol, "-b", workload, "-c", "20", "-j", "20", "-t", "50",
            ]);
            let text = printed(&mut bench)?;
            assert!(text.contains("processed: 1000/1000"), "{text}");
        }
    }
    // Money neither came nor went.
    let sums = ["a:accounts", "b:branches", "t:tellers"].map(|name| {
        let (letter, table) = name.split_once(':').expect("both are there");
        site.psql(&format!("SELECT sum({letter}balance) FROM pgbench_{table}"))
    });
    let [accounts, branches, tellers] = sums;
    let accounts = accounts?;
    assert_eq!(accounts, branches?);
    assert_eq!(accounts, tellers?);
    Ok(())
}

#[test]
fn pg_dump_goes_through_and_comes_back() -> Result<()> {
    let site = Site::new("pool = { size = 2 }")?;
    site.psql("CREATE TABLE t AS SELECT a, repeat('z', a) AS b FROM generate_series(1, 500) AS a")?;
    let before = site.psql("SELECT md5(string_agg(a || b, '' ORDER BY a)) FROM t")?;
    let path = site.run.join("dump.sql");
    let mut dump = site.proxy.client("pg_dump")?;
    dump.arg("-f").arg(&path).args(["-t", "t"]);
    printed(&mut dump)?;
    site.psql("DROP TABLE t")?;
    let mut restore = site.proxy.client("psql")?;
    restore
        .args(["-Xq", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&path);
    printed(&mut restore)?;
    assert_eq!(
        site.psql("SELECT md5(string_agg(a || b, '' ORDER BY a)) FROM public.t")?,
        before
    );
    Ok(())
}
