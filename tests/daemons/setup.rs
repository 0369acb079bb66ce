//! A server, a proxy, clients.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use tokio_postgres::{Client, NoTls};

/// Longer than anything here may take.
pub const SOON: Duration = Duration::from_secs(20);

/// What most tests start with: a server, and a proxy that trusts everybody.
pub struct Site {
    // Dropped in this order: the proxy, the server, their directory.
    pub proxy: DbProxy,
    pub server: Postgres,
    pub run: RunDirectory,
}

impl Site {
    /// With further lines of `[db_proxy]`.
    pub fn new(settings: &str) -> Result<Self> {
        Self::with_server("", settings)
    }

    /// With lines of `postgresql.conf` as well.
    pub fn with_server(server: &str, settings: &str) -> Result<Self> {
        let run = RunDirectory::new()?;
        let server = Postgres::start_new(&run, "db-1", server)?;
        let settings = format!("auth = \"trust\"\nadmins = [\"postgres\"]\n{settings}");
        let proxy = DbProxy::start(&run, &server, &settings)?;
        Ok(Self { proxy, server, run })
    }

    /// A client of the proxy, with further words of a connection string.
    pub async fn connect(&self, words: &str) -> Result<Client> {
        connect(self.proxy.port(), words).await
    }

    /// Runs psql through the proxy; returns what it printed.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let mut psql = self.proxy.client("psql")?;
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        printed(&mut psql)
    }

    /// Runs a command of the console.
    pub fn console(&self, command: &str) -> Result<String> {
        let mut psql = self.proxy.client("psql")?;
        psql.args(["-XAtq", "-d", "lb", "-c", command]);
        printed(&mut psql)
    }

    /// How many connections of clients the server has, past the one that asks.
    pub fn server_connections(&self) -> Result<usize> {
        let count = self.server.sql(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )?;
        count.parse().context("a count is a number")
    }
}

/// A client; its connection is driven by a task of its own.
pub async fn connect(port: u16, words: &str) -> Result<Client> {
    let words = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres {words}");
    let (client, connection) = tokio_postgres::connect(&words, NoTls).await?;
    // It ends with an error when the server does: the client's next query tells.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Runs a program to its end; returns what it printed.
pub fn printed(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{:?} ({}): {}",
        command,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// A certificate of this host's, and its private key.
pub fn certificate(run: &RunDirectory) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (run.join("tls.crt"), run.join("tls.key"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ]);
    openssl.args(["-subj", "/CN=localhost"]);
    for extension in [
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "basicConstraints=critical,CA:FALSE",
    ] {
        openssl.args(["-addext", extension]);
    }
    openssl
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key);
    printed(&mut openssl)?;
    Ok((certificate, key))
}

/// The SQLSTATE of a query that failed; `None` if the connection just closed.
pub fn sqlstate<T>(outcome: Result<T, tokio_postgres::Error>) -> Option<String> {
    let error = outcome.err().expect("it fails");
    error.code().map(|code| code.code().to_owned())
}
