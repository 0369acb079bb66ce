//! `check` of a pool.

use std::time::Duration;

use super::range;
use crate::config::{
    Check, Probe,
    error::Diagnostics,
    field::Field,
    file, format_duration,
    keys::Section,
    suggest::{one_of, shown},
};

const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// Leaves a fifth of the default interval between giving up on one probe and starting the next.
const TIMEOUT_DEFAULT: Duration = Duration::from_millis(800);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);
const JITTER_DEFAULT: f64 = 0.1;
const JITTER_MAX: f64 = 0.5;
/// The most bytes of an HTTP check's path.
const PATH_BYTES_MAX: usize = 1024;
/// The most bytes of a host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

const KINDS: &[&str] = &["tcp", "http"];
/// Kinds that the design has and this version has not.
const LATER_KINDS: &[&str] = &[
    "https", "grpc", "postgres", "redis", "icmp", "udp", "dns", "exec",
];

/// The check of a pool with these backends.
pub(super) fn check(
    file: &file::Check,
    backends: &Field<Vec<file::Backend>>,
    out: &mut Diagnostics<'_>,
) -> Option<Check> {
    let probe = probe(file, out);
    let port = port(&file.port, backends, out);
    let interval = range::duration(&file.interval, INTERVAL_DEFAULT, SHORTEST..=LONGEST, out);
    let check = Check {
        probe: Probe::Tcp,
        port: 0,
        interval,
        timeout: timeout(file, interval, out),
        rise: range::number(&file.rise, 2, 1..=100, out),
        fall: range::number(&file.fall, 2, 1..=100, out),
        jitter: jitter(&file.jitter, out),
        hold: file.hold.or(true),
    };
    Some(Check {
        probe: probe?,
        port: port?,
        ..check
    })
}

fn probe(file: &file::Check, out: &mut Diagnostics<'_>) -> Option<Probe> {
    match file.kind.required(Section::Check, out)?.as_str() {
        "http" => Some(http(file, out)),
        "tcp" => {
            only_for_http(&file.path, out);
            only_for_http(&file.host, out);
            only_for_http(&file.expect, out);
            Some(Probe::Tcp)
        }
        kind => {
            let (wrong, right) = if LATER_KINDS.contains(&kind) {
                (
                    format!("{kind:?} checks are not in this version"),
                    "use tcp or http".to_owned(),
                )
            } else {
                (
                    format!("{} is not a kind of check", shown(kind)),
                    one_of(kind, KINDS),
                )
            };
            file.kind.refuse(out, wrong, right);
            None
        }
    }
}

fn only_for_http<T>(field: &Field<T>, out: &mut Diagnostics<'_>) {
    if field.written().is_some() {
        field.refuse(
            out,
            "a tcp check has none",
            "leave it out, or write kind = \"http\"",
        );
    }
}

fn http(file: &file::Check, out: &mut Diagnostics<'_>) -> Probe {
    // Both go into the request as they are: anything but visible ASCII could end a line of it.
    let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let path = file.path.or("/".to_owned());
    if !path.starts_with('/') {
        let wrong = format!("{} does not begin with \"/\"", shown(&path));
        file.path
            .refuse(out, wrong, "write a path such as \"/readyz\"");
    } else if !is_visible(&path) {
        let wrong = format!("{} has more than visible ASCII in it", shown(&path));
        file.path
            .refuse(out, wrong, "percent-encode the rest: a space is %20");
    } else if path.len() > PATH_BYTES_MAX {
        let wrong = format!("has {} bytes", path.len());
        file.path
            .refuse(out, wrong, format!("at most {PATH_BYTES_MAX} fit"));
    }
    let host = file.host.written().cloned();
    if let Some(host) = &host
        && (!is_visible(host) || host.contains('/') || !(1..=HOST_BYTES_MAX).contains(&host.len()))
    {
        let wrong = format!("{} is not a host name", shown(host));
        file.host
            .refuse(out, wrong, "write one such as \"www.example.com\"");
    }
    Probe::Http {
        path,
        host,
        expect: file.expect.or(crate::config::StatusRanges::default()),
    }
}

/// The check's own port, or the one that all backends of the pool have.
fn port(
    field: &Field<i64>,
    backends: &Field<Vec<file::Backend>>,
    out: &mut Diagnostics<'_>,
) -> Option<u16> {
    if !field.is_absent() {
        return field
            .written()
            .map(|_| range::number(field, 1, 1..=u16::MAX, out));
    }
    // Without backends there is a report already; this one would only follow from it.
    let mut backends = backends.written()?.iter();
    let first = backends.next()?.port.written();
    match first.and_then(|&port| u16::try_from(port).ok()) {
        Some(port) if backends.all(|backend| backend.port.written() == first) => Some(port),
        _ => {
            field.refuse(
                out,
                "is missing, and the backends do not all have the same port",
                "write port = 8080",
            );
            None
        }
    }
}

fn timeout(file: &file::Check, interval: Duration, out: &mut Diagnostics<'_>) -> Duration {
    let default = TIMEOUT_DEFAULT.min(interval);
    let timeout = range::duration(&file.timeout, default, SHORTEST..=LONGEST, out);
    if timeout > interval && !file.interval.is_refused() {
        let [timeout, interval] = [timeout, interval].map(format_duration);
        let wrong = format!("is {timeout}, longer than interval, which is {interval}");
        file.timeout
            .refuse(out, wrong, format!("write {interval} or less"));
    }
    timeout
}

fn jitter(field: &Field<f64>, out: &mut Diagnostics<'_>) -> f64 {
    let jitter = field.or(JITTER_DEFAULT);
    if !(0.0..=JITTER_MAX).contains(&jitter) {
        field.refuse(
            out,
            format!("is {jitter}"),
            format!("write a share from 0 to {JITTER_MAX}"),
        );
    }
    jitter
}
