//! SQL that psql runs says the same through session pooling as directly, byte for byte: a script of
//! ours in the suite, and with `--long` PostgreSQL's own regression tests, file by file.
//!
//! Each way has a server of its own, made alike. What both ways say alike passes, also where it is not
//! what PostgreSQL's authors expect: without their C library (no package has it) some tests cannot
//! do everything.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::place::Place;
use lb_tests::postgres::{Postgres, tool};
use lb_tests::run_directory::RunDirectory;
use lb_tests::{clients, scale};

const DATABASE: &str = "regression";
/// What the authors' own runner has in `postgresql.conf`, and room for sessions that rest in pools.
const SETTINGS: &str =
    "max_prepared_transactions = 2\nmax_connections = 200\nmax_worker_processes = 16";
/// Files that want sessions to be new to the server, which those of a pool are not: they go through a proxy
/// whose connections serve once. One counts the server's sessions, the other asks for a temporary
/// schema that is not there yet.
const NEW_SESSIONS: [&str; 2] = ["stats", "temp"];
/// Differing lines shown of each file.
const SHOWN: usize = 6;

/// One way to a server of its own.
struct Way {
    server: Postgres,
    proxies: Option<Proxies>,
    /// Where files are read from and written to by the tests.
    files: PathBuf,
}

/// Two pools of sessions before one server.
struct Proxies {
    /// Every session but the first has a connection that another had.
    reusing: DbProxy,
    /// No session has.
    fresh: DbProxy,
}

impl Proxies {
    fn start(run: &RunDirectory, server: &Postgres) -> Result<Self> {
        let start = |lifetime| {
            let pool = format!("{{ mode = \"session\", size = 40, lifetime = \"{lifetime}\" }}");
            DbProxy::start_quiet(
                run,
                &Place::here(),
                server,
                &format!("auth = \"trust\"\npool = {pool}"),
            )
        };
        Ok(Self {
            reusing: start("1h")?,
            fresh: start("0s")?,
        })
    }

    fn for_script(&self, script: &Path) -> &DbProxy {
        let name = script.file_stem().unwrap_or_default();
        if NEW_SESSIONS.iter().any(|new| name == *new) {
            &self.fresh
        } else {
            &self.reusing
        }
    }
}

impl Way {
    fn direct(run: &RunDirectory) -> Result<Self> {
        Self::new(run, "direct", |_| Ok(None))
    }

    fn through_a_proxy(run: &RunDirectory) -> Result<Self> {
        Self::new(run, "proxied", |server| {
            Proxies::start(run, server).map(Some)
        })
    }

    fn new(
        run: &RunDirectory,
        name: &str,
        proxies: impl FnOnce(&Postgres) -> Result<Option<Proxies>>,
    ) -> Result<Self> {
        let server = Postgres::start_new(run, name, SETTINGS)?;
        server.sql(&format!("CREATE DATABASE {DATABASE} TEMPLATE = template0"))?;
        for setting in [
            "lc_messages TO 'C'",
            "lc_monetary TO 'C'",
            "lc_numeric TO 'C'",
            "lc_time TO 'C'",
            "bytea_output TO 'hex'",
            "timezone_abbreviations TO 'Default'",
        ] {
            server.sql(&format!("ALTER DATABASE {DATABASE} SET {setting}"))?;
        }
        let files = run.join(&format!("files-{name}"));
        fs::create_dir_all(files.join("results"))?;
        for open in [files.clone(), files.join("results")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o777))?;
        }
        let proxies = proxies(&server)?;
        Ok(Self {
            server,
            proxies,
            files,
        })
    }

    /// Runs a script as the authors' runner does; returns all that was said.
    fn says(&self, script: &Path) -> Result<String> {
        let mut psql = tool("psql")?;
        let (host, port) = match &self.proxies {
            Some(proxies) => ("127.0.0.1".to_owned(), proxies.for_script(script).port()),
            None => (
                self.server.socket_directory().display().to_string(),
                self.server.port(),
            ),
        };
        psql.envs([("PGHOST", host), ("PGPORT", port.to_string())]);
        psql.envs([
            ("PGUSER", "postgres"),
            ("PGDATABASE", DATABASE),
            ("PGAPPNAME", "regress"),
            ("PGTZ", "PST8PDT"),
            ("PGDATESTYLE", "Postgres, MDY"),
            ("PGOPTIONS", "-c intervalstyle=postgres_verbose"),
            ("LC_MESSAGES", "C"),
            ("PG_LIBDIR", "/nowhere"),
            ("PG_DLSUFFIX", ".so"),
        ]);
        psql.env("PG_ABS_SRCDIR", &self.files)
            .env("PG_ABS_BUILDDIR", &self.files);
        psql.args([
            "-X",
            "-a",
            "-q",
            "-v",
            "HIDE_TABLEAM=on",
            "-v",
            "HIDE_TOAST_COMPRESSION=on",
        ]);
        let said = self.files.join("said");
        let out = fs::File::create(&said)?;
        psql.stdin(fs::File::open(script)?)
            .stdout(out.try_clone()?)
            .stderr(out);
        // Its exit code tells nothing: errors are part of what the scripts are about.
        psql.status().context("run psql")?;
        let said = fs::read(&said)?;
        // The two ways differ in their directories only.
        Ok(String::from_utf8_lossy(&said).replace(&self.files.display().to_string(), "FILES"))
    }
}

#[test]
fn a_script_says_the_same_through_session_pooling() -> Result<()> {
    let run = RunDirectory::new()?;
    let (direct, proxied) = (Way::direct(&run)?, Way::through_a_proxy(&run)?);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("daemons/regress/script.sql");
    let (one, two) = (direct.says(&script)?, proxied.says(&script)?);
    ensure!(
        one.contains("the end of the script"),
        "it did not come to its end:\n{one}"
    );
    ensure!(one == two, "{}", difference(&one, &two));
    Ok(())
}

#[test]
fn regression_tests_say_the_same_through_session_pooling() -> Result<()> {
    if !scale::is_long() {
        return Ok(());
    }
    let source = clients::installed("postgresql-regress")?;
    let run = RunDirectory::new()?;
    let (direct, proxied) = (Way::direct(&run)?, Way::through_a_proxy(&run)?);
    for way in [&direct, &proxied] {
        let mut copy = Command::new("cp");
        copy.arg("-r")
            .arg(source.join("data"))
            .arg(&way.files)
            .stdin(Stdio::null());
        ensure!(copy.status()?.success(), "copy the tests' data");
    }
    let mut differing = BTreeMap::new();
    let (mut count, mut as_expected) = (0, 0);
    for name in schedule(&source)? {
        let script = source.join("sql").join(format!("{name}.sql"));
        let (one, two) = (direct.says(&script)?, proxied.says(&script)?);
        count += 1;
        as_expected += u32::from(is_expected(&source, &name, &two));
        if one != two {
            differing.insert(name, difference(&one, &two));
        }
    }
    println!(
        "{count} files: {} differ; {as_expected} say what their authors expect",
        differing.len()
    );
    let text: Vec<_> = differing
        .iter()
        .map(|(name, difference)| format!("{name}:\n{difference}"))
        .collect();
    ensure!(
        differing.is_empty(),
        "{} files differ:\n{}",
        differing.len(),
        text.join("\n")
    );
    Ok(())
}

/// The tests in their order.
fn schedule(source: &Path) -> Result<Vec<String>> {
    let schedule =
        fs::read_to_string(source.join("parallel_schedule")).context("read the schedule")?;
    let groups = schedule
        .lines()
        .filter_map(|line| line.strip_prefix("test:"));
    let names = groups.flat_map(str::split_whitespace).map(str::to_owned);
    Ok(names.collect())
}

/// Whether it is what the authors expect, in one of its variants.
fn is_expected(source: &Path, name: &str, said: &str) -> bool {
    let variants = (0..10).map(|variant| match variant {
        0 => format!("{name}.out"),
        _ => format!("{name}_{variant}.out"),
    });
    variants
        .filter_map(|file| fs::read_to_string(source.join("expected").join(file)).ok())
        .any(|expected| expected == said)
}

/// The first lines that differ.
fn difference(one: &str, two: &str) -> String {
    let (one, two): (Vec<_>, Vec<_>) = (one.lines().collect(), two.lines().collect());
    let at = one
        .iter()
        .zip(&two)
        .take_while(|(one, two)| one == two)
        .count();
    let some = |lines: &[&str], sign: char| {
        let lines = lines.iter().skip(at).take(SHOWN);
        lines
            .map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    format!(
        "line {} ({} and {} lines)\n{}{}",
        at + 1,
        one.len(),
        two.len(),
        some(&one, '-'),
        some(&two, '+')
    )
}
