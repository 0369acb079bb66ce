//! Who may come in, and how the proxy itself gets into the server.

use std::fs;

use anyhow::Result;
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;

use crate::setup::{SOON, certificate, printed};

struct Locked {
    proxy: DbProxy,
    server: Postgres,
    run: RunDirectory,
}

/// A server that wants `method` from everybody but the superuser, who asks for the verifiers.
fn locked(method: &str, users: impl Fn(&Postgres) -> Result<String>) -> Result<Locked> {
    let run = RunDirectory::new()?;
    let encryption = if method == "md5" {
        "md5"
    } else {
        "scram-sha-256"
    };
    let server = Postgres::start_new(
        &run,
        "db-1",
        &format!("password_encryption = '{encryption}'"),
    )?;
    server
        .sql("CREATE ROLE alice LOGIN PASSWORD 'se''cret'; CREATE ROLE bob LOGIN PASSWORD 'b'")?;
    server.admit(&format!("local all postgres trust\nlocal all all {method}"))?;
    fs::write(run.join("users.txt"), users(&server)?)?;
    let settings = format!("users_file = \"{}\"", run.join("users.txt").display());
    let proxy = DbProxy::start(&run, &server, &settings)?;
    Ok(Locked { proxy, server, run })
}

impl Locked {
    fn asks(&self, user: &str, password: &str, words: &str) -> Result<String> {
        let mut psql = self.proxy.client("psql")?;
        psql.env("PGUSER", user).env("PGPASSWORD", password);
        psql.args(["-XAtq", "-c", "SELECT current_user", "-d"]);
        psql.arg(format!("dbname=postgres {words}"));
        printed(&mut psql)
    }

    fn lets_in_whom_it_should(&self) -> Result<()> {
        assert_eq!(self.asks("alice", "se'cret", "")?, "alice");
        for (user, password) in [
            ("alice", "guess"),
            ("alice", ""),
            ("nobody", "x"),
            ("postgres", "x"),
        ] {
            let error = self
                .asks(user, password, "")
                .expect_err("it must not be let in");
            let error = error.to_string();
            let is_said = error.contains("password authentication failed")
                || error.contains("no password supplied");
            assert!(is_said, "{user}: {error}");
        }
        // Nobody else suffers.
        assert_eq!(self.asks("alice", "se'cret", "")?, "alice");
        Ok(())
    }
}

fn verifier(server: &Postgres, user: &str) -> Result<String> {
    let stored = server.sql(&format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"
    ))?;
    Ok(format!("\"{user}\" \"{stored}\"\n"))
}

#[test]
fn a_verifier_alone_opens_proxy_and_server() -> Result<()> {
    let locked = locked("scram-sha-256", |server| verifier(server, "alice"))?;
    let users = fs::read_to_string(locked.run.join("users.txt"))?;
    assert!(users.contains("SCRAM-SHA-256$") && !users.contains("cret"));
    locked.lets_in_whom_it_should()
}

#[test]
fn a_password_opens_a_server_by_scram() -> Result<()> {
    locked(
        "scram-sha-256",
        |_| Ok("\"alice\" \"se'cret\"\n".to_owned()),
    )?
    .lets_in_whom_it_should()
}

#[test]
fn an_md5_opens_a_server_by_md5() -> Result<()> {
    locked("md5", |server| verifier(server, "alice"))?.lets_in_whom_it_should()
}

#[test]
fn a_password_opens_a_server_that_wants_it_as_it_is() -> Result<()> {
    locked("password", |_| Ok("\"alice\" \"se'cret\"\n".to_owned()))?.lets_in_whom_it_should()
}

#[test]
fn the_operating_systems_user_opens_a_server_by_peer() -> Result<()> {
    let locked = locked("peer map=lb", |_| Ok("\"alice\" \"se'cret\"\n".to_owned()))?;
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
    let me = me.map(|me| me.name).unwrap_or_default();
    fs::write(
        locked.server.data().join("pg_ident.conf"),
        format!("lb {me} alice\n"),
    )?;
    locked.server.sql("SELECT pg_reload_conf()")?;
    wait::until("PostgreSQL knows the map", SOON, || {
        locked.asks("alice", "se'cret", "").is_ok()
    })?;
    locked.lets_in_whom_it_should()
}

#[test]
fn a_server_that_can_be_reached_past_the_proxy_is_warned_of() -> Result<()> {
    for (addresses, is_open) in [("127.0.0.1, ::1, 127.0.0.9", false), ("*", true)] {
        let run = RunDirectory::new()?;
        // Nobody from there is let in: pg_hba.conf has Unix sockets only.
        let settings = format!("listen_addresses = '{addresses}'");
        let server = Postgres::start_new(&run, "db-1", &settings)?;
        server.admit("local all all trust")?;
        let mut proxy = DbProxy::start(&run, &server, "auth = \"trust\"")?;
        if is_open {
            let warning = "PostgreSQL listens at every address";
            proxy.process().wait_for_line(warning, SOON)?;
        }
        let status = proxy.command(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let open = status["open_addresses"].as_array().map(Vec::len);
        assert_eq!(open.is_some_and(|open| open > 0), is_open, "{status}");
    }
    Ok(())
}

#[test]
fn a_changed_verifier_is_told_from_a_wrong_password() -> Result<()> {
    let locked = locked("scram-sha-256", |server| verifier(server, "alice"))?;
    locked.server.sql("ALTER ROLE alice PASSWORD 'se''cret'")?;
    let error = locked
        .asks("alice", "se'cret", "")
        .expect_err("salt and key are others now");
    assert!(error.to_string().contains("verifier differs"), "{error}");
    Ok(())
}

#[test]
fn users_are_read_again() -> Result<()> {
    let mut locked = locked("scram-sha-256", |server| verifier(server, "alice"))?;
    assert!(locked.asks("bob", "b", "").is_err());
    let both = verifier(&locked.server, "alice")? + &verifier(&locked.server, "bob")?;
    fs::write(locked.run.join("users.txt"), both)?;
    locked
        .proxy
        .process()
        .signal(nix::sys::signal::Signal::SIGHUP)?;
    wait::until("bob is known", SOON, || locked.asks("bob", "b", "").is_ok())?;
    // A file that is not understood changes nothing.
    fs::write(locked.run.join("users.txt"), "bob has no quotes\n")?;
    locked
        .proxy
        .process()
        .signal(nix::sys::signal::Signal::SIGHUP)?;
    locked
        .proxy
        .process()
        .wait_for_line("stays as it was", SOON)?;
    assert_eq!(locked.asks("bob", "b", "")?, "bob");
    Ok(())
}

#[test]
fn tls_is_offered_and_scram_is_bound_to_it() -> Result<()> {
    let run = RunDirectory::new()?;
    let (certificate, key) = certificate(&run)?;
    // The server has the same certificate, and wants TLS.
    let server = Postgres::start_new(&run, "db-1", "")?;
    server.sql("CREATE ROLE alice LOGIN PASSWORD 'se''cret'")?;
    for (from, to) in [(&certificate, "server.crt"), (&key, "server.key")] {
        let to = server.data().join(to);
        fs::copy(from, &to)?;
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(server.data())?);
        nix::unistd::chown(&to, Some(owner.into()), None)?;
        fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    let mut server = server;
    server.configure("ssl = on\nlisten_addresses = '127.0.0.1'\n")?;
    server.admit("local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256")?;
    server.restart()?;
    fs::write(run.join("users.txt"), verifier(&server, "alice")?)?;
    let head = format!("server = \"localhost\"\nserver_port = {}\n", server.port());
    let settings = format!(
        "server_tls = \"verify-full\"\nserver_ca = \"{0}\"\nusers_file = \"{1}\"\ntls = {{ certificate = \"{0}\", key = \"{2}\" }}",
        certificate.display(),
        run.join("users.txt").display(),
        key.display(),
    );
    let proxy = DbProxy::start_before(&run, head, &settings)?;
    let locked = Locked { proxy, server, run };
    let root = format!("sslmode=verify-full sslrootcert={}", certificate.display());
    assert_eq!(locked.asks("alice", "se'cret", &root)?, "alice");
    assert_eq!(
        locked.asks(
            "alice",
            "se'cret",
            &format!("{root} channel_binding=require")
        )?,
        "alice"
    );
    assert_eq!(locked.asks("alice", "se'cret", "sslmode=disable")?, "alice");
    assert!(locked.asks("alice", "guess", &root).is_err());
    let by = locked.server.sql("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'alice'")?;
    assert!(by.parse::<u32>()? >= 1, "the server's side is encrypted");
    Ok(())
}
