//! The file that the socket is: its permissions, what stands in its place, what it leaves behind.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::sync::mpsc;

use super::super::client::{Client, ClientError};
use super::super::server::Server;
use super::Site;

/// Listens with the site's runtime, where nobody will answer.
fn listen(site: &Site, path: &Path) -> io::Result<Server> {
    let _inside = site.runtime.enter();
    Server::listen(path, mpsc::channel(1).0)
}

#[test]
fn only_its_owner_may_use_it() {
    let site = Site::new();
    let metadata = fs::metadata(site.path()).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let files = fs::read_dir(site.directory.path()).expect("it is there");
    assert_eq!(files.count(), 1, "nothing is left beside it");
}

#[test]
fn missing_directories_are_made() {
    let site = Site::new();
    let path = site.directory.path().join("run/lb/agent.sock");
    let server = listen(&site, &path).expect("its directories are made");
    assert!(path.exists());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_socket_in_use_is_refused_and_stays() {
    let site = Site::new();
    let error = listen(&site, &site.path()).expect_err("it is in use");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    Client::connect(&site.path()).expect("the first server still listens");
}

#[test]
fn a_stale_socket_is_replaced() {
    let site = Site::new();
    let path = site.directory.path().join("stale.sock");
    // What a killed daemon leaves: the file without anybody behind it.
    drop(UnixListener::bind(&path).expect("nobody is there"));
    assert!(matches!(
        Client::connect(&path),
        Err(ClientError::Connect { .. })
    ));
    let _server = listen(&site, &path).expect("nobody listens on it");
    Client::connect(&path).expect("now somebody does");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let site = Site::new();
    let path = site.directory.path().join("notes.txt");
    fs::write(&path, "mine").expect("a file");
    let error = listen(&site, &path).expect_err("it is a file");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "mine");
}

#[test]
fn the_socket_goes_with_its_server() {
    let mut site = Site::new();
    drop(site.server.take());
    assert!(!site.path().exists());
}

#[test]
fn nobody_there_is_said_with_what_to_do() {
    let error = Client::connect(Path::new("/nonexistent/agent.sock")).expect_err("nobody");
    let text = error.to_string();
    assert!(
        text.starts_with("no agent answers at /nonexistent/agent.sock ("),
        "{text}"
    );
    assert!(text.contains("lb agent --config FILE"), "{text}");
}
