//! Users whom no file names are looked up in PostgreSQL.

use anyhow::{Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;

use crate::setup::{SOON, printed};

/// What docs/configuration.md shows for operators who give the proxy no superuser.
const FUNCTION: &str = "CREATE ROLE lb_auth LOGIN; \
    CREATE FUNCTION public.lb_user(name text) RETURNS TABLE (usename name, passwd text) \
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS \
    'SELECT usename, passwd FROM pg_shadow WHERE usename = $1'; \
    REVOKE ALL ON FUNCTION public.lb_user(text) FROM public; \
    GRANT EXECUTE ON FUNCTION public.lb_user(text) TO lb_auth";

struct Site {
    proxy: DbProxy,
    server: Postgres,
    _run: RunDirectory,
}

impl Site {
    fn new(encryption: &str, auth_query: &str) -> Result<Self> {
        let run = RunDirectory::new()?;
        let encryption_line = format!("password_encryption = '{encryption}'");
        let server = Postgres::start_new(&run, "db-1", &encryption_line)?;
        server.sql(
            "CREATE ROLE alice LOGIN PASSWORD 'se''cret'; CREATE ROLE bob LOGIN PASSWORD 'b'",
        )?;
        server.sql("CREATE ROLE late LOGIN PASSWORD 'late' VALID UNTIL '2020-01-01'")?;
        server.sql(FUNCTION)?;
        server.admit(&format!(
            "local all postgres trust\nlocal all lb_auth trust\nlocal all all {encryption}"
        ))?;
        let settings = format!("auth_query = {auth_query}");
        let proxy = DbProxy::start(&run, &server, &settings)?;
        Ok(Self {
            proxy,
            server,
            _run: run,
        })
    }

    fn asks(&self, user: &str, password: &str) -> Result<String> {
        let mut psql = self.proxy.client("psql")?;
        psql.env("PGUSER", user).env("PGPASSWORD", password);
        psql.args(["-XAtq", "-c", "SELECT current_user", "-d", "postgres"]);
        printed(&mut psql)
    }

    fn is_refused(&self, user: &str, password: &str, why: &str) -> Result<()> {
        let error = match self.asks(user, password) {
            Ok(_) => anyhow::bail!("{user} was let in"),
            Err(error) => error.to_string(),
        };
        ensure!(error.contains(why), "{user}: {error}");
        Ok(())
    }

    /// How many lookups ended so.
    fn count(&self, outcome: &str) -> Result<u32> {
        let metrics = self.proxy.metrics()?;
        let name = format!("lb_db_proxy_auth_query_total{{outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        Ok(line.unwrap_or_default().parse()?)
    }
}

const WRONG: &str = "password authentication failed";

#[test]
fn users_are_looked_up_in_postgresql() -> Result<()> {
    for encryption in ["scram-sha-256", "md5"] {
        let site = Site::new(encryption, "{ keep = \"1h\" }")?;
        assert_eq!(site.asks("alice", "se'cret")?, "alice");
        assert_eq!(site.asks("bob", "b")?, "bob");
        assert_eq!(site.asks("alice", "se'cret")?, "alice");
        assert_eq!((site.count("found")?, site.count("kept")?), (2, 1));
        site.is_refused("alice", "guess", WRONG)?;
        site.is_refused("nobody", "x", WRONG)?;
        site.is_refused("late", "late", WRONG)?;
        // Names are values, not SQL.
        site.is_refused("x' OR usename = 'alice", "se'cret", WRONG)?;
        assert_eq!(site.count("unknown")?, 3);
        // The superuser has no password; nobody comes in without one.
        site.is_refused("postgres", "x", WRONG)?;
        assert_eq!(site.asks("bob", "b")?, "bob");
    }
    Ok(())
}

#[test]
fn a_changed_password_is_found_although_the_old_one_is_kept() -> Result<()> {
    let site = Site::new("scram-sha-256", "{ keep = \"1h\" }")?;
    assert_eq!(site.asks("alice", "se'cret")?, "alice");
    site.server.sql("ALTER ROLE alice PASSWORD 'new'")?;
    wait::until("the new password opens", SOON, || {
        site.asks("alice", "new").is_ok()
    })?;
    site.is_refused("alice", "se'cret", WRONG)?;
    // Nor does it last that there was no such user.
    site.is_refused("carol", "c", WRONG)?;
    site.server.sql("CREATE ROLE carol LOGIN PASSWORD 'c'")?;
    wait::until("carol comes in", SOON, || site.asks("carol", "c").is_ok())
}

#[test]
fn no_superuser_is_needed() -> Result<()> {
    let site = Site::new(
        "scram-sha-256",
        "{ user = \"lb_auth\", query = \"SELECT usename, passwd FROM public.lb_user($1)\" }",
    )?;
    assert_eq!(site.asks("alice", "se'cret")?, "alice");
    site.is_refused("alice", "guess", WRONG)
}

#[test]
fn clear_passwords_and_wrong_answers_let_nobody_in() -> Result<()> {
    for (query, outcome, why) in [
        ("SELECT $1::text, 'se''cret'", "no_verifier", WRONG),
        (
            "SELECT usename, passwd FROM pg_shadow WHERE usename = 'alice' AND $1 <> ''",
            "failed",
            "cannot be looked up now",
        ),
        (
            "SELECT passwd FROM pg_shadow WHERE usename = $1",
            "failed",
            "cannot be looked up now",
        ),
        (
            "SELECT nothing FROM nowhere WHERE $1 = ''",
            "failed",
            "cannot be looked up now",
        ),
    ] {
        let site = Site::new("scram-sha-256", &format!("{{ query = \"{query}\" }}"))?;
        site.is_refused("bob", "se'cret", why)?;
        ensure!(site.count(outcome)? >= 1, "{query}");
        assert_eq!(site.count("found")?, 0, "{query}");
    }
    Ok(())
}

#[test]
fn a_server_that_is_away_is_told_from_a_wrong_password() -> Result<()> {
    let mut site = Site::new("scram-sha-256", "{ keep = \"1ms\" }")?;
    assert_eq!(site.asks("alice", "se'cret")?, "alice");
    site.server.kill()?;
    site.is_refused("alice", "se'cret", "cannot be looked up now")?;
    site.server.start()?;
    wait::until("it is asked again", SOON, || {
        site.asks("alice", "se'cret").is_ok()
    })?;
    ensure!(site.count("failed")? >= 1, "it is counted");
    Ok(())
}
