//! Servers that die inside the login of a connection, at any byte, or do not encrypt although they must.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;

use crate::bystander::Bystander;
use crate::setup::{connect, printed, sqlstate};

/// Within AuthenticationSASL, between it and the next, within SASLContinue, within SASLFinal, after it.
const CUTS: [usize; 12] = [0, 1, 5, 9, 23, 24, 25, 60, 108, 120, 160, 172];

/// A way to a server whose connections for alice end after so many bytes of the server's, one after the
/// other; what comes after them, and others' connections, are whole.
fn cutting(socket: PathBuf, cuts: &'static [usize]) -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let taken = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&taken);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = UnixStream::connect(&socket) else {
                return;
            };
            let taken = Arc::clone(&taken);
            thread::spawn(move || {
                let mut first = [0; 64];
                let count = client.peek(&mut first)?;
                let is_alice = first[..count].windows(5).any(|name| name == b"alice");
                let cut = is_alice.then(|| cuts.get(taken.fetch_add(1, Ordering::Relaxed)));
                relay(client, server, cut.flatten().copied())
            });
        }
    });
    Ok((port, count))
}

fn relay(client: TcpStream, server: UnixStream, cut: Option<usize>) -> std::io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let most = cut.map_or(u64::MAX, |cut| cut as u64);
    std::io::copy(&mut server.take(most), &mut &client)?;
    client.shutdown(std::net::Shutdown::Both)
}

struct Cut {
    proxy: DbProxy,
    /// How many of alice's connections there were.
    taken: Arc<AtomicUsize>,
    _server: Postgres,
    _run: RunDirectory,
}

impl Cut {
    /// Alice's way is cut; the superuser's is not.
    fn new(cuts: &'static [usize], queue_timeout: &str) -> Result<Self> {
        let run = RunDirectory::new()?;
        let server = Postgres::start_new(&run, "db-1", "password_encryption = 'scram-sha-256'")?;
        server.sql("CREATE ROLE alice LOGIN PASSWORD 'secret'")?;
        server.admit("local all postgres trust\nlocal all all scram-sha-256")?;
        let (port, taken) = cutting(socket(&server), cuts)?;
        let users = run.join("users.txt");
        fs::write(&users, "\"alice\" \"secret\"\n\"postgres\" \"secret\"\n")?;
        let head = format!("server = \"127.0.0.1\"\nserver_port = {port}\n");
        let settings = format!(
            "users_file = \"{}\"\npool = {{ size = 1, queue_timeout = \"{queue_timeout}\" }}",
            users.display()
        );
        let proxy = DbProxy::start_before(&run, head, &settings)?;
        Ok(Self {
            proxy,
            taken,
            _server: server,
            _run: run,
        })
    }
}

fn socket(server: &Postgres) -> PathBuf {
    let name = format!(".s.PGSQL.{}", server.port());
    server.socket_directory().join(name)
}

#[test]
fn a_server_that_dies_anywhere_inside_scram_is_tried_again() -> Result<()> {
    let cut = Cut::new(&CUTS, "30s")?;
    let mut other = Bystander::start(cut.proxy.port(), "password=secret")?;
    let mut psql = cut.proxy.client("psql")?;
    psql.envs([
        ("PGUSER", "alice"),
        ("PGPASSWORD", "secret"),
        ("PGCONNECT_TIMEOUT", "60"),
    ]);
    psql.args(["-XAtq", "-c", "SELECT current_user"]);
    assert_eq!(
        printed(&mut psql).context("after all these deaths")?,
        "alice"
    );
    assert!(cut.taken.load(Ordering::Relaxed) > CUTS.len());
    other.is_undisturbed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_server_that_always_dies_inside_scram_is_told() -> Result<()> {
    // Each time when the client has proved who it is, and the server has not.
    static ALWAYS: [usize; 1000] = [108; 1000];
    let cut = Cut::new(&ALWAYS, "700ms")?;
    let mut other = Bystander::start(cut.proxy.port(), "password=secret")?;
    let words = "user=alice password=secret";
    let refused = match connect(cut.proxy.port(), words).await {
        Ok(_) => anyhow::bail!("nobody can have logged in to the server"),
        Err(error) => error.downcast::<tokio_postgres::Error>()?,
    };
    let text = refused.to_string();
    ensure!(
        sqlstate::<()>(Err(refused)).as_deref() == Some("57P03"),
        "{text}"
    );
    assert!(cut.taken.load(Ordering::Relaxed) > 1, "it is tried again");
    other.is_undisturbed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_is_wanted() -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new(&run, "db-1", "")?;
    let (port, _) = cutting(socket(&server), &[])?;
    for (tls, works) in [("prefer", true), ("require", false)] {
        let head =
            format!("server = \"127.0.0.1\"\nserver_port = {port}\nserver_tls = \"{tls}\"\n");
        let settings = "auth = \"trust\"\npool = { queue_timeout = \"700ms\" }";
        let proxy = DbProxy::start_before(&run, head, settings)?;
        let outcome = connect(proxy.port(), "").await;
        ensure!(outcome.is_ok() == works, "{tls}");
        let Err(error) = outcome else { continue };
        let refused = error.downcast::<tokio_postgres::Error>()?;
        let told = refused.as_db_error().context("it is told")?;
        ensure!(
            told.code().code() == "57P03" && told.message().contains("TLS"),
            "{told:?}"
        );
    }
    Ok(())
}
