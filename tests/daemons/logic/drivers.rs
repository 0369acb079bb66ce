//! The drivers that people use do their ordinary work through a logic daemon, its proxies, a primary and
//! a standby, with passwords all the way. The scripts are those of the proxy's own tests.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::clients;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;

use super::site::{Cluster, Options};

/// A JVM starts slowly where two cores are busy.
const SCRIPT_MAX: Duration = Duration::from_secs(120);
const PASSWORD: &str = "let me in";

fn works(script: &str) -> Result<()> {
    let run = RunDirectory::new()?;
    let users = run.join("users.txt");
    let text = format!("\"postgres\" \"{PASSWORD}\"\n\"lb\" \"{PASSWORD}\"\n");
    fs::write(&users, text)?;
    let primary = Postgres::start_new(&run, "db-1", "password_encryption = 'scram-sha-256'")?;
    primary.sql(&format!("ALTER USER postgres PASSWORD '{PASSWORD}'"))?;
    let standby = primary.standby(&run, "db-2")?;
    let file = format!("users_file = \"{}\"", users.display());
    let options = Options {
        postgres: &format!(", {file}"),
        // Who listens keeps a connection of the server.
        proxies: &format!("{file}\npool = {{ size = 20 }}"),
        ..Options::default()
    };
    let cluster = Cluster::around(run, vec![primary, standby], &options)?;
    let mut command = clients::script(script)?;
    command.args([
        "127.0.0.1",
        &cluster.port().to_string(),
        "postgres",
        PASSWORD,
    ]);
    clients::run(cluster.run(), &mut command, SCRIPT_MAX)?;
    let reads = cluster.sum("postgres_reads_total", "db-2");
    ensure!(reads > Some(0.0), "the standby answered nothing");
    Ok(())
}

lb_tests::each_driver_works!(works);
