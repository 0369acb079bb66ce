//! `[[pool]]`.

use std::time::Duration;

use super::{backend, check, range};
use crate::config::{
    FlowTimes, Forward, OnBackendLoss, OnEmpty, Pool, Role, SLOTS_MAX, SLOTS_MIN, Spill, Tracking,
    error::Diagnostics, field::Field, file, format_duration, keys::Section,
};

const SLOTS_DEFAULT: u32 = 65_537;
const SHORTEST: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One pool by itself.
pub(super) fn pool(file: &file::Pool, out: &mut Diagnostics<'_>) -> Option<Pool> {
    let name = range::required_name(&file.name, Section::Pool, out);
    let forward = forward(&file.forward, out);
    let slots = slots(file, out);
    let flows = flows(&file.flows, out);
    let check = file
        .check
        .as_ref()
        .map(|written| check::check(written, &file.backends, out));
    let backends = backend::backends(&file.backends, out);
    Some(Pool {
        name: name?,
        forward: forward?,
        slots,
        spill: file.spill.or(Spill::Both),
        on_backend_loss: file.on_backend_loss.or(OnBackendLoss::Reset),
        on_empty: file.on_empty.or(OnEmpty::Reset),
        tracking: file.tracking.or(Tracking::Auto),
        flows,
        check: match check {
            Some(check) => Some(check?),
            None => None,
        },
        backends: backends?,
    })
}

fn forward(field: &Field<String>, out: &mut Diagnostics<'_>) -> Option<Forward> {
    match field.written().map(String::as_str) {
        None => Some(Forward::L2),
        Some("dsr") => Some(Forward::L2),
        Some(word @ ("gue" | "nat")) => {
            field.refuse(
                out,
                format!("{word:?} is not in this version"),
                "use l2 or ipip",
            );
            None
        }
        Some(word) => match word.parse() {
            Ok(forward) => Some(forward),
            Err(unknown) => {
                let unknown: crate::config::UnknownWord = unknown;
                field.refuse(out, unknown.wrong, unknown.right);
                None
            }
        },
    }
}

/// Maglev needs a prime, and at least one slot for each primary.
fn slots(file: &file::Pool, out: &mut Diagnostics<'_>) -> u32 {
    let slots = range::number(&file.slots, SLOTS_DEFAULT, SLOTS_MIN..=SLOTS_MAX, out);
    let primaries = file.backends.written().map_or(0, |backends| {
        backends
            .iter()
            .filter(|backend| backend.role.or(Role::Primary) == Role::Primary)
            .count()
    });
    if !is_prime(slots) {
        let right = format!("write the nearest prime, {}", nearest_prime(slots));
        file.slots
            .refuse(out, format!("{slots} is not a prime"), right);
    } else if primaries > slots as usize {
        let wrong = format!("{slots} slots are too few for {primaries} primaries");
        file.slots
            .refuse(out, wrong, format!("leave it out for {SLOTS_DEFAULT}"));
    }
    slots
}

fn is_prime(number: u32) -> bool {
    let divisors = || (2..number).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors().all(|divisor| !number.is_multiple_of(divisor))
}

/// The nearest prime within the allowed range, both of whose ends are primes.
fn nearest_prime(number: u32) -> u32 {
    (0..SLOTS_MAX)
        .flat_map(|step| [number.saturating_sub(step), number + step])
        .find(|&near| (SLOTS_MIN..=SLOTS_MAX).contains(&near) && is_prime(near))
        .unwrap_or(SLOTS_DEFAULT)
}

fn flows(file: &file::Flows, out: &mut Diagnostics<'_>) -> FlowTimes {
    let times = FlowTimes {
        window: range::duration(
            &file.window,
            FlowTimes::DEFAULT.window,
            SHORTEST..=WINDOW_MAX,
            out,
        ),
        udp_window: range::duration(
            &file.udp_window,
            FlowTimes::DEFAULT.udp_window,
            SHORTEST..=WINDOW_MAX,
            out,
        ),
        idle: range::duration(
            &file.idle,
            FlowTimes::DEFAULT.idle,
            SHORTEST..=IDLE_MAX,
            out,
        ),
        lost_for: range::duration(
            &file.lost_for,
            FlowTimes::DEFAULT.lost_for,
            SHORTEST..=WINDOW_MAX,
            out,
        ),
        embryo: range::duration(
            &file.embryo,
            FlowTimes::DEFAULT.embryo,
            SHORTEST..=WINDOW_MAX,
            out,
        ),
    };
    for (name, field, window) in [
        ("window", &file.window, times.window),
        ("udp_window", &file.udp_window, times.udp_window),
    ] {
        if field.is_refused() || file.idle.is_refused() || times.idle > window {
            continue;
        }
        // A record that dies within the window would be missed as soon as the window ends.
        let [idle, window] = [times.idle, window].map(format_duration);
        if file.idle.is_absent() {
            let wrong =
                format!("is {window}, not shorter than idle, which is {idle} when left out");
            field.refuse(out, wrong, "shorten it, or write a longer idle");
        } else {
            let wrong = format!("is {idle}, not longer than {name}, which is {window}");
            file.idle
                .refuse(out, wrong, format!("write more than {window}"));
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_prime_lies_within_the_range() {
        for (number, prime) in [
            (252, 251),
            (65_536, 65_537),
            (65_538, 65_537),
            (1_048_572, 1_048_571),
        ] {
            assert!(!is_prime(number), "{number}");
            assert_eq!(nearest_prime(number), prime, "{number}");
        }
        assert!(is_prime(SLOTS_MIN) && is_prime(SLOTS_MAX) && is_prime(SLOTS_DEFAULT));
    }
}
