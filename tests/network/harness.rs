//! The harness itself: what all other tests rely on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use lb_tests::link::{self, End};
use lb_tests::load::{Failure, Load};
use lb_tests::mac::Mac;
use lb_tests::namespace::Namespace;
use lb_tests::packet::{self, Endpoint, Frame, SYN};
use lb_tests::site::{Backend, Nics, Site, WEB_PORT};
use lb_tests::wire::Wire;
use lb_tests::{sweep, wait};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn two_namespaces_talk_over_both_families() -> Result<()> {
    let left = Namespace::new("left")?;
    let right = Namespace::new("right")?;
    link::connect(
        &End::new(&left, "eth0").addresses(["10.9.0.1/24".parse()?, "fd00:9::1/64".parse()?]),
        &End::new(&right, "eth0").addresses(["10.9.0.2/24".parse()?, "fd00:9::2/64".parse()?]),
    )?;
    for address in ["10.9.0.2:7000", "[fd00:9::2]:7000"] {
        let listener = right.run(|| TcpListener::bind(address))?;
        let server = right.start(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"pong")
        });
        let mut said = String::new();
        left.run(|| TcpStream::connect(address)?.read_to_string(&mut said))?;
        server.join().unwrap()?;
        assert_eq!(said, "pong");
    }
    Ok(())
}

#[test]
fn a_namespace_cannot_see_its_neighbour_without_a_link() -> Result<()> {
    let alone = Namespace::new("alone")?;
    let error = alone
        .run(|| TcpStream::connect("10.9.0.2:7000"))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable);
    Ok(())
}

#[test]
fn clients_reach_every_backend_and_are_answered_by_its_name() -> Result<()> {
    for nics in [Nics::One, Nics::Two] {
        let site = Site::builder()
            .primaries(2)
            .standbys(1)
            .nics(nics)
            .build()?;
        for backend in site.backends() {
            let _web = backend.serve()?;
            for address in [backend.v4().into(), backend.v6().into()] {
                let target = SocketAddr::new(address, WEB_PORT);
                for load in [Load::http(target), Load::udp(target)] {
                    let report = load.count(3).run(site.client());
                    let expected = [(backend.name().to_owned(), 3)].into();
                    assert_eq!(
                        report.answered_by(),
                        expected,
                        "{nics:?} {target}: {report}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn load_counts_exactly_what_was_answered() -> Result<()> {
    let site = Site::builder().primaries(1).standbys(0).build()?;
    let backend = site.backend("logic-1");
    let mut web = backend.serve()?;
    let target = SocketAddr::new(backend.address(), WEB_PORT);
    for load in [
        Load::http(target),
        Load::http(target).keep_alive(),
        Load::udp(target),
    ] {
        let report = load.clients(4).count(1000).run(site.client());
        assert_eq!(
            report.answered_by(),
            [("logic-1".to_owned(), 1000)].into(),
            "{report}"
        );
        assert_eq!(report.failed(), 0);
    }

    backend.set_ready(false)?;
    let report = Load::http(target)
        .path("/readyz")
        .count(2)
        .run(site.client());
    assert_eq!(report.failures(), [(Failure::Status(503), 2)].into());

    web.kill();
    let report = Load::http(target).count(5).run(site.client());
    assert_eq!(report.failures(), [(Failure::Refused, 5)].into());
    Ok(())
}

#[test]
fn a_silenced_backend_says_nothing_until_it_is_heard_again() -> Result<()> {
    let site = Site::builder().primaries(1).standbys(0).build()?;
    let backend = site.backend("logic-1");
    let _web = backend.serve()?;
    let ask = Load::http(SocketAddr::new(backend.address(), WEB_PORT))
        .count(1)
        .timeout(Duration::from_millis(100));
    type Fault = fn(&Backend) -> Result<()>;
    let faults: [(Fault, Fault); 2] = [
        (Backend::silence, Backend::unsilence),
        (Backend::unplug, Backend::plug),
    ];
    for (begin, end) in faults {
        assert_eq!(ask.run(site.client()).failed(), 0, "before");
        begin(backend)?;
        assert_eq!(
            ask.run(site.client()).failures(),
            [(Failure::TimedOut, 1)].into()
        );
        end(backend)?;
        wait::until("an answer", SOON, || ask.run(site.client()).failed() == 0)?;
    }
    Ok(())
}

#[test]
fn a_vip_on_a_backend_is_reached_by_route_and_never_by_arp() -> Result<()> {
    let site = Site::builder()
        .primaries(1)
        .standbys(0)
        .nics(Nics::One)
        .build()?;
    let backend = site.backend("logic-1");
    let _web = backend.serve()?;
    let vip = site.vip();
    let ask = Load::http(vip).count(1).timeout(Duration::from_millis(200));
    assert_eq!(
        ask.run(site.client()).failed(),
        1,
        "the gateway forwards nothing yet"
    );

    let net = format!("{}/32", vip.ip());
    site.router()
        .ip(&["route", "replace", &net, "dev", "fabric"])?;
    assert_eq!(
        ask.run(site.client()).failed(),
        1,
        "nobody answers ARP for the VIP"
    );

    let via = backend.v4().to_string();
    site.router().ip(&["route", "replace", &net, "via", &via])?;
    assert_eq!(
        ask.run(site.client()).answered_by(),
        [("logic-1".to_owned(), 1)].into()
    );
    Ok(())
}

#[test]
fn the_kernel_accepts_built_checksums_and_drops_wrong_ones() -> Result<()> {
    let left = Namespace::new("left")?;
    let right = Namespace::new("right")?;
    link::connect(
        &End::new(&left, "eth0").addresses(["10.9.0.1/24".parse()?, "fd00:9::1/64".parse()?]),
        &End::new(&right, "eth0").addresses(["10.9.0.2/24".parse()?, "fd00:9::2/64".parse()?]),
    )?;
    let macs = (Mac::of([10, 9, 0, 1].into()), Mac::of([10, 9, 0, 2].into()));
    let wire = Wire::open(&left, "eth0")?;
    for (from, to) in [
        ("10.9.0.1:5", "10.9.0.2:7000"),
        ("[fd00:9::1]:5", "[fd00:9::2]:7000"),
    ] {
        let socket = right.run(|| UdpSocket::bind(to))?;
        socket.set_read_timeout(Some(SOON))?;
        let udp = packet::udp(from, to).macs(macs.0, macs.1);
        wire.send(&udp.clone().payload(b"wrong").wrong_checksum().build())?;
        if to.starts_with("10.") {
            wire.send(&udp.clone().payload(b"wrong").wrong_ip_checksum().build())?;
        }
        wire.send(&udp.payload(b"right").build())?;
        let mut said = [0; 16];
        let (length, sender) = socket.recv_from(&mut said)?;
        assert_eq!(
            (&said[..length], sender.to_string().as_str()),
            (&b"right"[..], from)
        );

        let ping = packet::echo_request(from.endpoint().ip(), to.endpoint().ip(), 3, 4);
        wire.send(&ping.macs(macs.0, macs.1).payload(b"hello").build())?;
        let layer = if to.starts_with("10.") {
            "ICMP"
        } else {
            "ICMPv6"
        };
        let is_reply = |frame: &Frame| {
            let words = frame.explain();
            words.field(layer, "rest") == Some("[4] 00 03 00 04")
        };
        let reply = wire.receive("an echo reply", SOON, is_reply)?;
        assert!(
            reply
                .explain()
                .field(layer, "checksum")
                .unwrap()
                .ends_with("(right)"),
            "{reply:?}"
        );

        // To a closed port: a SYN with a right checksum is answered by RST.
        let syn = packet::tcp(from, to)
            .flags(SYN)
            .sequence(99)
            .macs(macs.0, macs.1)
            .build();
        wire.send(&syn)?;
        let is_tcp = |frame: &Frame| frame.explain().field("TCP", "flags").is_some();
        let reset = wire.receive("a RST", SOON, is_tcp)?.explain();
        assert_eq!(reset.field("TCP", "flags"), Some("RST+ACK"));
        assert_eq!(reset.field("TCP", "acknowledgement"), Some("100"));
        assert!(
            reset.field("TCP", "checksum").unwrap().ends_with("(right)"),
            "{reset}"
        );
    }
    Ok(())
}

#[test]
fn a_backend_unwraps_all_four_tunnel_mixes_and_answers_the_client() -> Result<()> {
    let site = Site::builder()
        .primaries(1)
        .standbys(0)
        .decapsulating()
        .build()?;
    let backend = site.backend("logic-1");
    let _web = backend.serve()?;
    let gateway = site.gateway();
    let wire = Wire::open(gateway, "eth1")?;
    let macs = (Mac::of(gateway.v4()), backend.mac());
    let client = site.client();
    for (vip, from) in [
        (site.vip(), client.v4().into()),
        (site.vip_v6(), client.v6().into()),
    ] {
        let socket = client.run(|| UdpSocket::bind(SocketAddr::new(from, 0)))?;
        socket.set_read_timeout(Some(SOON))?;
        let inner = packet::udp(socket.local_addr()?, vip).payload(b"1").build();
        for tunnel in [
            inner.in_tunnel("198.18.0.9", backend.v4()),
            inner.in_tunnel("100::9", backend.v6()),
        ] {
            wire.send(&tunnel.macs(macs.0, macs.1).build())?;
            let mut said = [0; 32];
            let (length, sender) = socket.recv_from(&mut said)?;
            assert_eq!((&said[..length], sender), (&b"logic-1 1"[..], vip));
        }
    }
    Ok(())
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let mut made = None;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let site = Site::builder()
            .primaries(1)
            .decapsulating()
            .build()
            .unwrap();
        let mut web = site.backend("logic-1").serve().unwrap();
        let names = [site.client(), site.router()].map(|host| host.name().to_owned());
        made = Some((names, site.run_directory().to_owned(), web.process().pid()));
        panic!("on purpose");
    }));
    assert!(result.is_err());
    let (names, run, pid) = made.unwrap();
    // Links go with the namespaces that hold them, once nothing lives in those any more.
    for name in names {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name}");
    }
    assert!(!run.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(run.to_str().unwrap()), "{mounts}");
    // The failed test's logs are kept for people; this one failed on purpose.
    let kept = std::env::temp_dir()
        .join("lbt-logs")
        .join(run.file_name().unwrap());
    assert!(kept.exists());
    std::fs::remove_dir_all(kept).unwrap();
}

#[test]
fn the_sweeper_removes_what_a_dead_owner_left_and_nothing_else() -> Result<()> {
    let mut dead = Command::new("true").spawn()?;
    dead.wait()?;
    let owner = dead.id();
    let name = format!("lbt-{owner}-1-client");
    let run = format!("/run/lbt/{owner}-1");
    let link = format!("lbt-{owner}-1");
    let tool = |program: &str, arguments: &[&str]| {
        assert!(
            Command::new(program)
                .args(arguments)
                .status()
                .unwrap()
                .success(),
            "{program}"
        );
    };
    let living = Namespace::new("living")?;
    tool("ip", &["netns", "add", &name]);
    tool("ip", &["link", "add", &link, "type", "bridge"]);
    std::fs::create_dir_all(format!("{run}/bpf"))?;
    tool("mount", &["-t", "bpf", "bpf", &format!("{run}/bpf")]);
    let mut orphan = Orphan::of(owner)?;

    sweep::sweep_leftovers();

    // Another test's first site may have swept first: the outcome counts, not who did it.
    wait::until("the orphan to end", SOON, || {
        orphan.0.try_wait().is_ok_and(|end| end.is_some())
    })?;
    assert!(!Path::new("/run/netns").join(&name).exists());
    assert!(!Path::new("/sys/class/net").join(&link).exists());
    assert!(!Path::new(&run).exists());
    assert!(Path::new("/run/netns").join(living.name()).exists());
    Ok(())
}

/// A process that says it belongs to somebody else; ended also if the sweeper fails to.
struct Orphan(Child);

impl Orphan {
    fn of(owner: u32) -> Result<Orphan> {
        let mut command = Command::new("sleep");
        command
            .arg("600")
            .env(sweep::OWNER_VARIABLE, owner.to_string());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let orphan = Orphan(command.spawn()?);
        // A process that has just begun shows an empty environment for a moment.
        let environment = format!("/proc/{}/environ", orphan.0.id());
        let shows = || std::fs::read(&environment).is_ok_and(|bytes| !bytes.is_empty());
        wait::until("the orphan's environment to show", SOON, shows)?;
        Ok(orphan)
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
