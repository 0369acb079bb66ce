//! The built `lb`, run as people run it: exit codes, stdout, stderr. The agent that it talks to is
//! a small one of this test's own, behind the real control server.

#[path = "cli/agent.rs"]
mod agent;
#[path = "cli/answers.rs"]
mod answers;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use agent::Agent;

/// `lb` with nothing of this process's environment that could change what it does.
fn lb() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    for name in ["LB_SOCKET", "RUST_LOG", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

/// Runs `lb` against the agent.
fn ask(agent: &Agent, arguments: &str) -> Output {
    lb().args(arguments.split_whitespace())
        .arg("--socket")
        .arg(agent.socket())
        .output()
        .expect("lb runs")
}

fn run(arguments: &[&str]) -> Output {
    lb().args(arguments).output().expect("lb runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn every_command_that_asks_the_agent_succeeds_as_text_and_as_json() {
    let agent = Agent::start();
    for (arguments, shown) in [
        ("status", "SERVICE"),
        ("status orders", "198.51.100.10:5432/tcp"),
        ("status logic-1", "logic/logic-1: primary"),
        ("drain logic-1", "logic/logic-1: draining: drained"),
        ("undrain logic/logic-1", "logic/logic-1: up"),
        ("disable logic-1 --pool logic", "logic/logic-1: down"),
        ("enable logic-1", "logic/logic-1: up"),
        ("weight logic-1 50", "weight 50 (configured: 100)"),
        ("weight logic-1 default", "weight 100,"),
        ("reload", "no change"),
        ("reload --dry-run", "would change:"),
        (
            "route --vip 198.51.100.10:5432/tcp --from 203.0.113.7:40000",
            "->     0  logic-1",
        ),
        ("events", "agent     started"),
    ] {
        let text = ask(&agent, arguments);
        assert_eq!(
            text.status.code(),
            Some(0),
            "{arguments}: {}",
            stderr(&text)
        );
        assert!(
            stdout(&text).contains(shown),
            "{arguments}: {}",
            stdout(&text)
        );
        assert!(
            !stdout(&text).contains('\x1b'),
            "{arguments}: no colours in a pipe"
        );

        let json = ask(&agent, &format!("{arguments} --json"));
        assert_eq!(json.status.code(), Some(0), "{arguments} --json");
        for line in stdout(&json).lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect(line);
            assert!(value.is_object(), "{line}");
        }
    }
}

#[test]
fn json_is_the_object_itself_on_one_line() {
    let agent = Agent::start();
    let output = stdout(&ask(&agent, "status --json"));
    assert_eq!(output.lines().count(), 1);
    let status: lb_userspace::control::Status = serde_json::from_str(&output).expect("a status");
    assert_eq!(status, answers::status());
}

#[test]
fn a_refusal_is_one_line_on_stderr_and_exit_code_1() {
    let agent = Agent::start();
    for (arguments, line) in [
        (
            "drain nobody",
            "lb: there is no backend nobody; lb status shows them all\n",
        ),
        (
            "status logic-11",
            "lb: no service, pool or backend is called \"logic-11\"; did you mean \"logic-1\"?\n",
        ),
    ] {
        let output = ask(&agent, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert_eq!(stderr(&output), line);
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn without_an_agent_it_is_said_what_to_do() {
    for command in ["status", "events --follow", "reload --json"] {
        let output = lb()
            .args(command.split_whitespace())
            .env("LB_SOCKET", "/nonexistent/lb.sock")
            .output()
            .expect("lb runs");
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = stderr(&output);
        assert!(
            text.starts_with("lb: no agent answers at /nonexistent/lb.sock"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &[][..],
        &["dance"],
        &["drain"],
        &["agent"],
        &["agent", "--config", "lb.toml", "--log-level", "verbose"],
        &["agent", "--config", "lb.toml", "--log-format", "xml"],
        &["weight", "logic-1", "heavy"],
        &["weight", "logic-1", "65536"],
        &["route", "--vip", "198.51.100.10", "--from", "203.0.113.7:1"],
        &[
            "route",
            "--vip",
            "198.51.100.10:80/tcp",
            "--from",
            "[::1]:1",
        ],
        &["completions", "cmd"],
        &["detach"],
        &["detach", "--config", "lb.toml", "--pin", "/sys/fs/bpf/lb"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_ne!(stderr(&output), "", "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (argument, shown) in [("--help", "Exit codes"), ("--version", "lb 0.")] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains(shown), "{}", stdout(&output));
    }
}

#[test]
fn events_are_followed_until_nobody_reads_them() {
    let agent = Agent::start();
    let mut child = lb()
        .args(["events", "--follow", "--json", "--socket"])
        .arg(agent.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lb runs");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    for number in [1, 2] {
        let mut line = String::new();
        lines.read_line(&mut line).expect("an event");
        assert!(line.contains(&format!("\"number\":{number},")), "{line}");
    }
    // The agent sends further ones until its client has gone.
    drop(lines);
    let status = child.wait().expect("it ends");
    let mut error = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut error).expect("UTF-8");
    assert_eq!(error, "");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let agent = Agent::start();
    let mut child = lb()
        .args(["status", "--socket"])
        .arg(agent.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lb runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn examples_pass_the_check() {
    let file = repository().join("examples/everything.toml");
    let output = lb().arg("check").arg(&file).output().expect("lb runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains(": ok for lb agent, lb db-proxy, lb logic: "),
        "{text}"
    );
    assert!(text.contains("does not read [entity]"), "{text}");
}

#[test]
fn mistakes_are_one_line_each_and_exit_code_1() {
    let directory = tempfile::Builder::new()
        .prefix("lbt-")
        .tempdir()
        .expect("a temporary directory");
    let file = directory.path().join("lb.toml");
    std::fs::write(
        &file,
        "[agent]\ninterfaces = [\"eth0\"]\npim = 1\ncolour = 2\n",
    )
    .expect("a file");
    let file = file.to_str().expect("UTF-8");

    let output = run(&["check", file]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(text.lines().count() >= 2, "{text}");
    assert!(text.lines().all(|line| line.starts_with(file)), "{text}");

    let output = run(&["check", "--json", file]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1);
    let check: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("an object");
    assert_eq!(check["ok"], false);
    assert_eq!(check["errors"][0]["line"], 3);

    let output = run(&["check", "/nonexistent/lb.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("undrain"), "{shell}");
    }
}

#[test]
fn detaching_under_an_agent_is_refused() {
    let agent = Agent::start();
    let pin = agent.directory().join("pins");
    let pin = pin.to_str().expect("UTF-8");
    let output = ask(&agent, &format!("detach --pin {pin}"));
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("stop it first"), "{text}");
    // Nothing is pinned there, and that is no failure: what shall be gone is gone.
    let output = ask(&agent, &format!("detach --force --pin {pin}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "nothing to remove\n");
}
