//! Network namespaces that vanish with their guard, and a way to run code in one.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
            sockopt,
        },
        time::TimeVal,
    },
};

/// A namespace named `lbt-…`; deleted, with all that is in it, when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(purpose: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lbt-{purpose}-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        // Looking for duplicates of link-local addresses costs each test two seconds.
        namespace.enter(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("a sysctl");
        });
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in the namespace and returns what it printed.
    pub fn ip(&self, arguments: &str) -> String {
        ip_in(&self.name, arguments)
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

    fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace is there");
        let worker = thread::spawn(move || {
            // The thread ends with the work, so nothing else ever runs in the namespace.
            setns(file, CloneFlags::CLONE_NEWNET).expect("these tests need root");
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let arguments = ["netns", "del", &self.name];
        if let Err(error) = Command::new("ip").args(arguments).status() {
            eprintln!("cannot delete namespace {}: {error}", self.name);
        }
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
