//! TLS on both sides: from clients to `lb logic`, and from there to the servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::logic::{Logic, Options};
use lb_tests::postgres::free_port;
use lb_tests::process::Process;
use lb_tests::redis::{Place, Redis, Tier, client};
use lb_tests::run_directory::RunDirectory;
use lb_tests::wait;

use crate::SOON;

/// A certificate of loopback's, which vouches for itself, and its key.
fn certificate(run: &RunDirectory, name: &str) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (
        run.join(&format!("{name}.crt")),
        run.join(&format!("{name}.key")),
    );
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-out").arg(&certificate);
    openssl.arg("-keyout").arg(&key);
    let output = openssl.output().context("openssl")?;
    ensure!(output.status.success(), "{output:?}");
    Ok((certificate, key))
}

/// What `redis-cli` says, by TLS, when it trusts that certificate.
fn ask(logic: &Tls, trusted: &Path, words: &[&str]) -> Result<std::process::Output> {
    let mut cli = client("redis-cli", logic.address)?;
    cli.args(["--tls", "--cacert"]).arg(trusted).args(words);
    cli.output().context("redis-cli")
}

/// A logic server that listens by TLS as well.
struct Tls {
    logic: Logic,
    address: std::net::SocketAddr,
    certificate: PathBuf,
}

fn start(run: &RunDirectory, tables: &str) -> Result<Tls> {
    let (certificate, key) = certificate(run, "logic")?;
    let address = std::net::SocketAddr::new(Place::here().address().into(), free_port()?);
    let options = Options {
        settings: format!(
            "tls = {{ certificate = \"{}\", key = \"{}\" }}",
            certificate.display(),
            key.display()
        ),
        resp: format!(", tls_listen = \"{address}\""),
        ..Options::default()
    };
    let logic = Logic::start_with(run, &Place::here(), "logic-1", tables, &options)?;
    Ok(Tls {
        logic,
        address,
        certificate,
    })
}

#[test]
fn clients_come_by_tls_or_in_the_clear_and_see_the_same() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let tls = start(tier.run(), &tier.config(""))?;
    let said = |words: &[&str]| -> Result<String> {
        let output = ask(&tls, &tls.certificate, words)?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    };
    assert_eq!(said(&["SET", "a", "by TLS"])?, "OK");
    assert_eq!(tls.logic.command(&["GET", "a"])?.text(), "by TLS");
    // Longer than any buffer on the way.
    let long = "x".repeat(3_000_000);
    tls.logic.command(&["SET", "long", &long])?;
    assert_eq!(said(&["GET", "long"])?, long);
    assert_eq!(said(&["MGET", "a", "long", "nothing"])?.len(), 3_000_007);
    // Who speaks in the clear where TLS is meant is closed, and disturbs nobody.
    let mut wrong = Command::new("redis-cli");
    let (host, port) = (tls.address.ip().to_string(), tls.address.port().to_string());
    wrong.args(["-h", &host, "-p", &port, "PING"]);
    ensure!(!wrong.output()?.stdout.starts_with(b"PONG"));
    assert_eq!(said(&["PING"])?, "PONG");
    Ok(())
}

/// A server that is reached by TLS only, with a copy of nobody.
fn tls_server(run: &RunDirectory) -> Result<(Redis, std::net::SocketAddr, PathBuf)> {
    let (certificate, key) = certificate(run, "server")?;
    let port = free_port()?;
    let settings = format!(
        "tls-port {port}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {cert}\n\
         tls-auth-clients no\n",
        cert = certificate.display(),
        key = key.display()
    );
    let server = Redis::start_new(run, &Place::here(), "by-tls", &settings)?;
    let address = std::net::SocketAddr::new(Place::here().address().into(), port);
    Ok((server, address, certificate))
}

fn cache(address: std::net::SocketAddr, more: &str) -> String {
    format!(
        "[cache]\nauthority = \"local\"\nprimaries = [ {{ name = \"cache-1\", address = \
         \"{address}\" }} ]\nfailover_timeout = \"300ms\"\n{more}\n"
    )
}

#[test]
fn servers_are_reached_by_tls_and_have_to_prove_who_they_are() -> Result<()> {
    let run = RunDirectory::new()?;
    let (server, address, trusted) = tls_server(&run)?;
    let verify = |ca: &Path| {
        let more = format!(
            "server_tls = \"verify-full\"\nserver_ca = \"{}\"",
            ca.display()
        );
        cache(address, &more)
    };
    let mut tls = start(&run, &verify(&trusted))?;
    wait::until("the server to be used", SOON, || {
        let reply = tls.logic.command(&["SET", "a", "1"]);
        reply.is_ok_and(|reply| !reply.is_error())
    })?;
    assert_eq!(server.command(&["GET", "a"])?.text(), "1");
    let long = "x".repeat(3_000_000);
    tls.logic.command(&["SET", "long", &long])?;
    assert_eq!(tls.logic.command(&["GET", "long"])?.text(), long);
    end(tls.logic.process());
    // A certificate that nobody vouches for: not a byte of a command goes there.
    let (other, _) = certificate(&run, "other")?;
    let mistrusting = start(&run, &verify(&other))?;
    let reply = mistrusting.logic.command(&["SET", "a", "2"])?;
    ensure!(reply.text().starts_with("ERR lb:"), "{reply:?}");
    assert_eq!(server.command(&["GET", "a"])?.text(), "1");
    Ok(())
}

fn end(process: &mut Process) {
    process.kill();
}
