//! Network namespaces that vanish with their guard, and a way to run code in one.

use std::{
    io::{self, ErrorKind, Write},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
        sockopt,
    },
    time::TimeVal,
};

/// A namespace of the harness, for tests that run a future in it.
pub struct Namespace(lb_tests::namespace::Namespace);

impl Namespace {
    pub fn new(purpose: &str) -> Self {
        Self(lb_tests::namespace::Namespace::new(purpose).expect("these tests need root"))
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Runs `ip` in the namespace and returns what it printed.
    pub fn ip(&self, arguments: &str) -> String {
        ip_in(self.name(), arguments)
    }

    /// Runs `future` on a thread of its own inside the namespace, and waits for it.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.enter(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(future)
        })
    }

    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.run(work)
    }
}

/// Runs `ip` in the namespace of this name and returns what it printed.
pub fn ip_in(namespace: &str, arguments: &str) -> String {
    ip(&format!("-n {namespace} {arguments}"))
}

/// Runs many commands of `ip` in the namespace, one a line.
pub fn ip_batch(namespace: &str, commands: &str) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(commands.as_bytes())
        .expect("room in the temporary file");
    ip(&format!("-n {namespace} -batch {}", file.path().display()));
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("these tests need the command ip (package iproute2)");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Hears every frame in a namespace.
pub struct Listener(OwnedFd);

impl Listener {
    pub fn open(namespace: &Namespace) -> Self {
        Self(namespace.enter(|| {
            let family = AddressFamily::Packet;
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(family, SockType::Raw, flags, SockProtocol::EthAll).expect("a packet socket")
        }))
    }

    /// The next frame; panics when there is none in time.
    pub fn next(&mut self, patience: Duration) -> Vec<u8> {
        let deadline = Instant::now() + patience;
        setsockopt(&self.0, sockopt::ReceiveTimeout, &TimeVal::new(1, 0)).expect("a timeout");
        let mut frame = vec![0; 2048];
        loop {
            assert!(Instant::now() < deadline, "no frame came");
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()).map_err(io::Error::from) {
                Ok(length) => {
                    frame.truncate(length);
                    // Short frames never match; padding spares the tests their length checks.
                    frame.resize(length.max(128), 0);
                    return frame;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("packet socket: {error}"),
            }
        }
    }
}
