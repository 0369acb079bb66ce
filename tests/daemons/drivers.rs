//! The drivers that people use do their ordinary work through the proxy, prepared statements
//! included, in both ways of pooling and with passwords. The scripts themselves say what that work is.

use std::time::Duration;

use anyhow::Result;
use lb_tests::clients;
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;

/// A JVM starts slowly where two cores are busy.
const SCRIPT_MAX: Duration = Duration::from_secs(90);
/// What the proxy and the server know of the user `postgres`.
const PASSWORD: &str = "let me in";

/// Runs one script against each way of pooling, with fewer server connections than it makes itself.
fn works(script: &str) -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "password_encryption = 'scram-sha-256'")?;
    server.sql(&format!("ALTER USER postgres PASSWORD '{PASSWORD}'"))?;
    let users = run.join("users.txt");
    std::fs::write(&users, format!("\"postgres\" \"{PASSWORD}\"\n"))?;
    for mode in ["transaction", "session"] {
        // Pinned sessions hold a server connection: those of session pooling, and who listens.
        let size = if mode == "session" { 40 } else { 4 };
        let settings = format!(
            "users_file = \"{}\"\npool = {{ mode = \"{mode}\", size = {size} }}",
            users.display()
        );
        let proxy = DbProxy::start(&run, &server, &settings)?;
        let mut command = clients::script(script)?;
        command.args(["127.0.0.1", &proxy.port().to_string(), "postgres", PASSWORD]);
        clients::run(&run, &mut command, SCRIPT_MAX).map_err(|error| error.context(mode))?;
    }
    Ok(())
}

lb_tests::each_driver_works!(works);
