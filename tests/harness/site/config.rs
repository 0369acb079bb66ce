//! Configuration text for a site.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Site, WEB_PORT};

/// One pool `logic` of all backends, and a service for every VIP and protocol.
#[derive(Clone, Debug)]
pub struct ConfigText {
    pool: BTreeMap<String, String>,
    backends: Vec<Member>,
    vips: Vec<IpAddr>,
    port: String,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    role: &'static str,
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    settings: BTreeMap<String, String>,
}

impl ConfigText {
    pub(super) fn new(site: &Site) -> ConfigText {
        let backends = site.backends().iter().map(|backend| Member {
            name: backend.name().to_owned(),
            role: backend.role().as_str(),
            v4: backend.v4.map(IpAddr::V4),
            v6: backend.v6.map(IpAddr::V6),
            settings: BTreeMap::new(),
        });
        let config = ConfigText {
            pool: BTreeMap::new(),
            backends: backends.collect(),
            vips: site.vips().to_vec(),
            port: WEB_PORT.to_string(),
        };
        config.pool("forward", "\"l2\"").pool(
            "check",
            &format!(
                "{{ kind = \"http\", port = {WEB_PORT}, path = \"/readyz\", interval = \"20ms\", \
                 timeout = \"200ms\", rise = 2, fall = 2 }}"
            ),
        )
    }

    /// Sets a key of the pool to a value, as TOML: `.pool("forward", "\"ipip\"")`.
    #[must_use]
    pub fn pool(mut self, key: &str, value: &str) -> ConfigText {
        self.pool.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a key of one backend to a value, as TOML: `.backend("logic-1", "weight", "200")`.
    #[must_use]
    pub fn backend(mut self, name: &str, key: &str, value: &str) -> ConfigText {
        for member in self
            .backends
            .iter_mut()
            .filter(|member| member.name == name)
        {
            member.settings.insert(key.to_owned(), value.to_owned());
        }
        self
    }

    /// Leaves a backend out.
    #[must_use]
    pub fn without(mut self, name: &str) -> ConfigText {
        self.backends.retain(|member| member.name != name);
        self
    }

    /// Names backends by their IPv6 addresses (IPv4 is the default where a site has both).
    #[must_use]
    pub fn backends_by_v6(mut self) -> ConfigText {
        for member in &mut self.backends {
            member.v4 = None;
        }
        self
    }

    /// Serves this port instead of [`WEB_PORT`]: a number or `"any"`, as TOML.
    #[must_use]
    pub fn port(mut self, port: &str) -> ConfigText {
        port.clone_into(&mut self.port);
        self
    }

    /// The text, without an `[agent]` table.
    pub fn text(&self) -> String {
        let mut text = String::from("[[pool]]\nname = \"logic\"\n");
        for (key, value) in &self.pool {
            let _ = writeln!(text, "{key} = {value}");
        }
        text.push_str("backends = [\n");
        for member in &self.backends {
            let address = member.v4.or(member.v6).map(|address| address.to_string());
            let _ = write!(
                text,
                "  {{ name = \"{}\", address = \"{}\", role = \"{}\"",
                member.name,
                address.unwrap_or_default(),
                member.role
            );
            for (key, value) in &member.settings {
                let _ = write!(text, ", {key} = {value}");
            }
            text.push_str(" },\n");
        }
        text.push_str("]\n");
        for (number, vip) in self.vips.iter().enumerate() {
            for protocol in ["tcp", "udp"] {
                let _ = write!(
                    text,
                    "\n[[service]]\nname = \"web-{protocol}-{}\"\nvip = \"{vip}\"\nport = {}\n\
                     protocol = \"{protocol}\"\npool = \"logic\"\n",
                    number + 1,
                    self.port,
                );
            }
        }
        text
    }
}
