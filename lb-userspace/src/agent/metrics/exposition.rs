//! A status as Prometheus text. Pure.

use std::fmt::{Display, Write};

use crate::control::{BackendStatus, InstabilityStatus, Status};

/// Every state that a backend can have: each is a series, so that an alert can name it.
const STATES: [&str; 3] = ["up", "draining", "down"];

/// The text of a scrape.
#[must_use]
pub(super) fn render(status: &Status) -> String {
    let mut text = Text::default();
    agent(status, &mut text);
    flows(status, &mut text);
    services(status, &mut text);
    pools(status, &mut text);
    checks(status, &mut text);
    text.0
}

fn agent(status: &Status, text: &mut Text) {
    let agent = &status.agent;
    text.family("lb_build_info", "gauge", "Version of lb; always 1.");
    text.sample("lb_build_info", &[("version", &status.version)], 1);
    text.family(
        "lb_config_last_reload_successful",
        "gauge",
        "1 unless the last reload was refused.",
    );
    text.plain(
        "lb_config_last_reload_successful",
        u8::from(agent.config_error.is_none()),
    );
    text.family("lb_map_bytes", "gauge", "Kernel memory of the BPF maps.");
    text.plain("lb_map_bytes", agent.map_bytes);
    text.family(
        "lb_interface_xdp",
        "gauge",
        "1 for the mode in which the program is attached.",
    );
    for interface in &agent.interfaces {
        let labels = [("interface", &interface.name), ("mode", &interface.xdp)];
        text.sample("lb_interface_xdp", &labels, 1);
    }
    text.family(
        "lb_dropped_packets_total",
        "counter",
        "Packets dropped, by reason.",
    );
    for (reason, count) in &agent.drops {
        text.sample("lb_dropped_packets_total", &[("reason", reason)], count);
    }
    text.family(
        "lb_replied_packets_total",
        "counter",
        "Packets answered by the program itself.",
    );
    for (kind, count) in &agent.replies {
        text.sample("lb_replied_packets_total", &[("kind", kind)], count);
    }
    text.family(
        "lb_probe_budget_per_second",
        "gauge",
        "Most health probes per second.",
    );
    text.plain("lb_probe_budget_per_second", agent.probes.per_second_max);
    text.family(
        "lb_probes_deferred_total",
        "counter",
        "Health probes that waited for the budget.",
    );
    text.plain("lb_probes_deferred_total", agent.probes.deferred);
}

fn flows(status: &Status, text: &mut Text) {
    text.family(
        "lb_passed_packets_total",
        "counter",
        "Packets left to the host's kernel, by reason.",
    );
    for (reason, count) in &status.agent.passes {
        text.sample("lb_passed_packets_total", &[("reason", reason)], count);
    }
    let flows = &status.agent.flows;
    let maps = [
        ("flows", flows.recorded, flows.recorded_max),
        ("flows_new", flows.recorded_new, flows.recorded_new_max),
    ];
    text.family(
        "lb_flow_records",
        "gauge",
        "Flows on record, as the last sweep counted them.",
    );
    for (map, count, _) in maps {
        text.sample("lb_flow_records", &[("map", map)], count);
    }
    text.family("lb_flow_records_max", "gauge", "Most flows on record.");
    for (map, _, max) in maps {
        text.sample("lb_flow_records_max", &[("map", map)], max);
    }
    text.family(
        "lb_flow_happenings_total",
        "counter",
        "What was done with records of flows.",
    );
    for (happening, count) in &flows.counts {
        let labels = [("happening", happening)];
        text.sample("lb_flow_happenings_total", &labels, count);
    }
    for (name, kind, help, value) in [
        (
            "lb_flow_sweeps_total",
            "counter",
            "Sweeps of the records of flows.",
            flows.sweeps as f64,
        ),
        (
            "lb_flow_sweep_duration_seconds",
            "gauge",
            "How long the last sweep took.",
            flows.sweep_seconds,
        ),
        (
            "lb_heartbeat_age_seconds",
            "gauge",
            "Age of the agent's last sign of life to the program.",
            flows.heartbeat_seconds,
        ),
        (
            "lb_removed_backends",
            "gauge",
            "Backends that left the configuration and keep their flows.",
            status.removed.len() as f64,
        ),
    ] {
        text.family(name, kind, help);
        text.plain(name, value);
    }
    type Count = fn(&InstabilityStatus) -> u64;
    let gauges: [(&str, &str, Count); 3] = [
        (
            "lb_pool_unstable_slots",
            "Slots of a pool whose flows are looked up.",
            |it| it.slots.into(),
        ),
        ("lb_pool_flow_records", "Flows of a pool on record.", |it| {
            it.recorded
        }),
        (
            "lb_pool_needed_flow_records",
            "Flows on record that their slot alone would send elsewhere.",
            |it| it.needed,
        ),
    ];
    for (name, help, count) in gauges {
        text.family(name, "gauge", help);
        for pool in &status.pools {
            let value = pool.unstable.as_ref().map_or(0, count);
            text.sample(name, &[("pool", &pool.name)], value);
        }
    }
}

fn services(status: &Status, text: &mut Text) {
    type Count = fn(&crate::control::TrafficStatus) -> u64;
    let counters: [(&str, &str, Count); 4] = [
        (
            "lb_service_packets_total",
            "Packets forwarded for a service.",
            |it| it.packets,
        ),
        (
            "lb_service_bytes_total",
            "Bytes forwarded for a service.",
            |it| it.bytes,
        ),
        (
            "lb_service_new_flows_total",
            "TCP connections opened to a service.",
            |it| it.new_flows,
        ),
        (
            "lb_service_diverted_packets_total",
            "Packets of a service that did not go to the first rung of their slot.",
            |it| it.diverted,
        ),
    ];
    for (name, help, count) in counters {
        text.family(name, "counter", help);
        for service in &status.services {
            let labels = [("service", &service.name), ("pool", &service.pool)];
            text.sample(name, &labels, count(&service.total));
        }
    }
}

fn pools(status: &Status, text: &mut Text) {
    text.family("lb_pool_slots", "gauge", "Slots of a pool's table.");
    for pool in &status.pools {
        text.sample("lb_pool_slots", &[("pool", &pool.name)], pool.slots);
    }
    text.family(
        "lb_backend_state",
        "gauge",
        "1 for the state that a backend has.",
    );
    for backend in backends(status) {
        for state in STATES {
            let labels = [
                ("pool", backend.pool.as_str()),
                ("backend", backend.name.as_str()),
                ("role", backend.role.as_str()),
                ("state", state),
            ];
            text.sample(
                "lb_backend_state",
                &labels,
                u8::from(backend.state == state),
            );
        }
    }
    text.family("lb_backend_weight", "gauge", "Weight in force.");
    for backend in backends(status) {
        text.sample("lb_backend_weight", &labels(backend), backend.weight);
    }
    text.family(
        "lb_backend_slots_ratio",
        "gauge",
        "Share of the pool's slots that a backend owns.",
    );
    for backend in backends(status) {
        text.sample("lb_backend_slots_ratio", &labels(backend), backend.share);
    }
    type Count = fn(&BackendStatus) -> u64;
    let counters: [(&str, &str, Count); 6] = [
        (
            "lb_backend_repeated_syns_total",
            "SYNs that clients sent again after the first went to a backend.",
            |it| it.repeated_syns,
        ),
        (
            "lb_backend_loss_resets_total",
            "Resets sent to flows that a lost backend had.",
            |it| it.resets,
        ),
        (
            "lb_backend_packets_total",
            "Packets forwarded to a backend.",
            |it| it.total.packets,
        ),
        (
            "lb_backend_bytes_total",
            "Bytes forwarded to a backend.",
            |it| it.total.bytes,
        ),
        (
            "lb_backend_new_flows_total",
            "TCP connections opened to a backend.",
            |it| it.total.new_flows,
        ),
        (
            "lb_backend_diverted_packets_total",
            "Packets that a backend took in place of the owner of their slot.",
            |it| it.total.diverted,
        ),
    ];
    for (name, help, count) in counters {
        text.family(name, "counter", help);
        for backend in backends(status) {
            text.sample(name, &labels(backend), count(backend));
        }
    }
}

fn checks(status: &Status, text: &mut Text) {
    let checked =
        || backends(status).filter_map(|backend| Some((backend, backend.checks.as_ref()?)));
    text.family(
        "lb_probes_total",
        "counter",
        "Health probes finished, by result.",
    );
    for (backend, checks) in checked() {
        let mut sample = |result: &str, count: u64| {
            let labels = [
                ("pool", backend.pool.as_str()),
                ("backend", &backend.name),
                ("result", result),
            ];
            text.sample("lb_probes_total", &labels, count);
        };
        sample("passed", checks.passed);
        for (kind, count) in &checks.failed {
            sample(kind, *count);
        }
    }
    text.family(
        "lb_probe_duration_seconds",
        "gauge",
        "How long the last health probe took.",
    );
    for (backend, checks) in checked() {
        text.sample(
            "lb_probe_duration_seconds",
            &labels(backend),
            checks.last_seconds,
        );
    }
}

fn backends(status: &Status) -> impl Iterator<Item = &BackendStatus> {
    status.pools.iter().flat_map(|pool| &pool.backends)
}

fn labels(backend: &BackendStatus) -> [(&'static str, &str); 2] {
    [("pool", &backend.pool), ("backend", &backend.name)]
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, impl AsRef<str>)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value.as_ref())))
            .collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn plain(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A label's value as the text format wants it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
