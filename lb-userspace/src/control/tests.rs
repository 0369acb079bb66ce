//! The words on the wire, and both ends of it over a real Unix socket.

mod follow;
mod requests;
mod socket;
mod words;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::server::{Call, Server};
use super::{Answer, Event};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server in a directory of its own; the test is the agent behind it.
struct Site {
    directory: TempDir,
    server: Option<Server>,
    calls: mpsc::Receiver<Call>,
    runtime: Runtime,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("lbt-")
            .tempdir()
            .expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (sender, calls) = mpsc::channel(128);
        let path = directory.path().join("agent.sock");
        let server = {
            let _inside = runtime.enter();
            Server::listen(&path, sender).expect("nobody listens there")
        };
        Self {
            directory,
            server: Some(server),
            calls,
            runtime,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// A client that speaks bytes.
    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.path()).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not zero");
        BufReader::new(stream)
    }

    /// The next request that reaches the agent.
    fn call(&mut self) -> Call {
        self.call_within(PATIENCE).expect("a request comes")
    }

    fn call_within(&mut self, limit: Duration) -> Option<Call> {
        let next = async { tokio::time::timeout(limit, self.calls.recv()).await };
        self.runtime.block_on(next).ok().flatten()
    }

    /// Answers one request and ends the answer.
    fn answer(&mut self, answer: Answer) {
        let call = self.call();
        call.answers.try_send(answer).expect("there is room");
    }
}

fn send(client: &mut BufReader<UnixStream>, text: &str) {
    client
        .get_mut()
        .write_all(text.as_bytes())
        .expect("the server reads");
}

/// The next line, without its end; empty when the server has closed.
fn receive(client: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("an answer comes");
    line.trim_end().to_owned()
}

fn event(number: u64) -> Answer {
    Answer::Event(Event {
        number,
        at: "2026-01-02T03:04:05.123456Z".into(),
        kind: "agent".into(),
        pool: None,
        backend: None,
        state: None,
        detection_us: None,
        store_us: None,
        text: "started".into(),
    })
}

const EVENT_7: &str =
    r#"{"event":{"number":7,"at":"2026-01-02T03:04:05.123456Z","kind":"agent","text":"started"}}"#;
