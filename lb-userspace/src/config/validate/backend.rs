//! `backends` of a pool: each one, and the group that they make.

use std::collections::HashMap;

use super::{address, range, unique_names};
use crate::config::{
    Backend, Port, Role, WEIGHT_MAX, error::Diagnostics, field::Field, file, keys::Section,
};

const WEIGHT_DEFAULT: u32 = 100;

/// All backends of a pool.
pub(super) fn backends(
    field: &Field<Vec<file::Backend>>,
    out: &mut Diagnostics<'_>,
) -> Option<Vec<Backend>> {
    let written = field.required(Section::Pool, out)?;
    let backends: Vec<_> = written.iter().map(|file| backend(file, out)).collect();
    unique_names(
        "backend of the pool",
        written.iter().map(|backend| &backend.name),
        out,
    );
    unique_addresses(written, out);
    some_primary_takes_flows(field, written, out);
    backends.into_iter().collect()
}

fn backend(file: &file::Backend, out: &mut Diagnostics<'_>) -> Option<Backend> {
    let name = range::required_name(&file.name, Section::Backend, out);
    let address = file.address.required(Section::Backend, out).copied();
    address::must_be_unicast(&file.address, out);
    let weight = range::number(&file.weight, WEIGHT_DEFAULT, 0..=WEIGHT_MAX, out);
    let zone = range::name(&file.zone, out);
    let port = file
        .port
        .written()
        .map(|_| range::number(&file.port, 1, 1..=u16::MAX, out));
    Some(Backend {
        name: name?,
        address: address?,
        role: file.role.or(Role::Primary),
        weight,
        zone,
        port,
    })
}

fn unique_addresses(backends: &[file::Backend], out: &mut Diagnostics<'_>) {
    let mut seen = HashMap::new();
    for backend in backends {
        let Some(&address) = backend.address.written() else {
            continue;
        };
        if let Some(first) = seen.get(&address) {
            let wrong = format!("{first} has the address {address} already");
            backend.address.refuse(
                out,
                wrong,
                "name each server of a pool once; weight gives it more",
            );
            continue;
        }
        seen.insert(address, backend.path.as_str());
    }
}

fn some_primary_takes_flows(
    field: &Field<Vec<file::Backend>>,
    backends: &[file::Backend],
    out: &mut Diagnostics<'_>,
) {
    // A role or weight that was refused stands for its default here, which is never the fault.
    let primaries = || {
        backends
            .iter()
            .filter(|backend| backend.role.or(Role::Primary) == Role::Primary)
    };
    if backends.is_empty() {
        field.refuse(out, "is empty", "name at least one primary");
    } else if primaries().next().is_none() {
        let right = "leave role out, or write role = \"primary\", for at least one backend";
        field.refuse(out, "has no primary", right);
    } else if primaries().all(|primary| primary.weight.or(1) == 0) {
        let right = "give at least one primary a weight above 0";
        field.refuse(
            out,
            "every primary has weight 0, so none would take flows",
            right,
        );
    }
}

/// `l2` and `ipip` leave the packet's port as it is.
pub(super) fn port_is_the_services(
    backend: &file::Backend,
    service: &file::Service,
    port: Port,
    out: &mut Diagnostics<'_>,
) {
    let Some(&written) = backend.port.written() else {
        return;
    };
    if !matches!(port, Port::Number(number) if i64::from(number) == written) {
        let wrong = format!("is {written}, but {} has port {port}", service.path);
        backend.port.refuse(
            out,
            wrong,
            "l2 and ipip cannot change the port; leave port out",
        );
    }
}
