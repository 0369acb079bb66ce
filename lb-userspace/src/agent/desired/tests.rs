use lb_common::backend::Encapsulation;

use super::*;
use crate::agent::identity::assign;

const FILE: &str = r#"
[agent]
interfaces = ["eth0"]
tunnel_source_v4 = "198.18.0.0/16"
tunnel_source_v6 = "100::/64"

[[pool]]
name = "logic"
forward = "ipip"
on_empty = "drop"
backends = [
  { name = "one", address = "10.0.0.1" },
  { name = "two", address = "2001:db8::2", weight = 300 },
  { name = "spare", address = "10.0.0.3", role = "standby" },
]

[[service]]
name = "web"
vip = "198.51.100.10"
port = 80
pool = "logic"

[[service]]
name = "rest"
vip = "198.51.100.10"
port = "any"
protocol = "udp"
pool = "logic"
"#;

fn contents(weight: impl Fn(&str, &str) -> Option<u32>) -> Contents {
    let config = Config::parse(FILE, "test.toml").unwrap();
    desired(
        &config,
        &assign(&config, &Contents::default()).unwrap(),
        weight,
    )
}

fn share(contents: &Contents, id: u16) -> f64 {
    let table = &contents.tables[&PoolId(0)];
    let owned = table
        .iter()
        .filter(|slot| slot.rung(0) == BackendId(id))
        .count();
    owned as f64 / table.len() as f64
}

#[test]
fn backends_are_reached_by_their_own_family() {
    let contents = contents(|_, _| None);
    let kinds: Vec<u8> = contents
        .backends
        .values()
        .map(|backend| backend.encapsulation)
        .collect();
    let (v4, v6) = (Encapsulation::Ipv4 as u8, Encapsulation::Ipv6 as u8);
    assert_eq!(kinds, [v4, v6, v4]);
}

#[test]
fn shares_follow_the_weights_and_an_override_counts_in_place_of_the_file() {
    let configured = contents(|_, _| None);
    assert!(
        (share(&configured, 0) - 0.25).abs() < 0.0025,
        "{}",
        share(&configured, 0)
    );
    assert_eq!(share(&configured, 2), 0.0, "a standby owns nothing");
    let even = contents(|_, name| (name == "two").then_some(100));
    assert!((share(&even, 0) - 0.5).abs() < 0.005, "{}", share(&even, 0));
}

#[test]
fn every_vip_has_an_entry_of_its_own_and_lets_packets_through_the_filter() {
    let contents = contents(|_, _| None);
    let vip: std::net::IpAddr = "198.51.100.10".parse().unwrap();
    assert_eq!(contents.services.len(), 3, "two services and the VIP");
    assert!(contents.services.contains_key(&vip_key(vip)));
    let filter = contents.vips[vip_filter_index(&vip.into()) as usize];
    let both = vip_filter::TCP | vip_filter::UDP;
    assert_eq!(filter, vip_filter::VIP | vip_filter::ANY_PORT | both);
    assert_eq!(contents.vips.iter().filter(|flags| **flags != 0).count(), 1);
}

#[test]
fn tunnel_sources_vary_below_their_prefix_only() {
    let settings = contents(|_, _| None).settings;
    assert_eq!(settings.tunnel_source_v4.ip().to_string(), "198.18.0.0");
    assert_eq!(settings.tunnel_fill_v4.to_ne_bytes(), [0, 0, 0xff, 0xff]);
    assert_eq!(settings.tunnel_source_v6.ip().to_string(), "100::");
    assert_eq!(settings.tunnel_fill_v6, u32::MAX);
}

#[test]
fn the_pool_carries_its_name_and_what_to_do_when_it_is_empty() {
    let contents = contents(|_, _| None);
    let pool = &contents.pools[&PoolId(0)];
    assert_eq!(pool.name(), Some("logic"));
    assert_eq!(pool.on_empty, pool::OnEmpty::Drop as u8);
}

#[test]
fn what_a_service_says_of_fragments_mss_and_quic_stands_in_its_entry() {
    let file = FILE.to_owned()
        + r#"
[[service]]
name = "calls"
vip = "198.51.100.10"
port = 443
protocol = "udp"
udp = "quic"
fragments = true
pool = "logic"

[[service]]
name = "small"
vip = "198.51.100.10"
port = 81
mss = 1400
pool = "logic"
"#;
    let config = Config::parse(&file, "test.toml").unwrap();
    let assignment = assign(&config, &Contents::default()).unwrap();
    let contents = desired(&config, &assignment, |_, _| None);
    let of = |name: &str| {
        let service = config.services.iter().find(|it| it.name == name);
        let key = service_key(service.unwrap());
        (key, contents.services[&key])
    };
    let (key, calls) = of("calls");
    assert_eq!(
        (calls.detours, calls.options),
        (detour::FRAGMENTS, option::QUIC)
    );
    let later = ServiceKey {
        port: [0; 2],
        pad: LATER_FRAGMENTS,
        ..key
    };
    assert_eq!(contents.services[&later], calls);
    let (_, small) = of("small");
    assert_eq!((small.mss, small.detours, small.options), (1400, 0, 0));
    let (_, rest) = of("rest");
    assert_eq!((rest.mss, rest.detours, rest.options), (0, 0, 0));
}
